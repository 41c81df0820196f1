"""Classes of data and model, by name."""

from boxmask.data.classes import class_places


def test_known_classes_have_the_models_numbers_and_others_their_own():
    places = class_places(["cow", "dog", "tree", "cat"], ["cat", "dog", "bird"])
    assert places.tolist() == [3, 1, 4, 0]
    assert class_places([], ["cat"]).tolist() == []
