import numpy as np
import pytest
from PIL import Image

from boxmask.errors import UserError
from boxmask.visualization.contact_sheet import contact_sheet, save_picture


def plain(height, width, color):
    return np.full((height, width, 3), color, dtype=np.uint8)


def test_pictures_keep_their_shape_in_their_cells():
    sheet = contact_sheet(
        [plain(10, 40, (200, 0, 0)), plain(80, 40, (0, 200, 0))],
        columns=2,
        cell=(100, 120),
        background=(0, 0, 0),
    )
    assert sheet.shape == (108, 252, 3)
    red, green = sheet[..., 0] > 100, sheet[..., 1] > 100
    assert (red.any(axis=1).sum(), red.any(axis=0).sum()) == (30, 120)
    assert (green.any(axis=1).sum(), green.any(axis=0).sum()) == (100, 50)
    assert np.flatnonzero(green.any(axis=0)).mean() == pytest.approx(188, abs=1)


def test_columns_follow_the_number_of_pictures():
    def size(count, **columns):
        sheet = contact_sheet([plain(9, 9, 5)] * count, cell=(40, 60), **columns)
        return (sheet.shape[1] - 4) // 64, (sheet.shape[0] - 4) // 44

    assert size(1) == (1, 1)
    assert size(5) == (3, 2)
    assert size(9) == (3, 3)
    assert size(5, columns=5) == (5, 1)
    assert size(2, columns=9) == (2, 1)
    assert size(0) == (1, 1)


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0)])
def test_titles_show_in_any_script_and_on_any_page(background):
    def sheet(title):
        return contact_sheet(
            [plain(50, 50, background)], [title], cell=(50, 90), background=background
        ).astype(int)

    blank = sheet("")
    for title in ("a", "ß", "д", "λ"):
        assert np.abs(sheet(title) - blank).max() > 120
    assert (sheet("ß") != sheet("ü")).any()
    assert (sheet("line\nbreak") == sheet("line break")).all()


def test_long_titles_are_cut_to_their_cell():
    page = contact_sheet([plain(50, 50, 255)], ["word " * 50], cell=(50, 90))
    columns = np.flatnonzero((page[55:] < 128).any(axis=(0, 2)))
    assert columns[0] >= 4
    assert columns[-1] < 94


def test_wrong_numbers_are_named():
    with pytest.raises(ValueError, match="titles: got 1 for 2 pictures"):
        contact_sheet([plain(5, 5, 0)] * 2, ["one"])
    with pytest.raises(ValueError, match="columns"):
        contact_sheet([plain(5, 5, 0)], columns=0)


def test_saving_makes_the_folder(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = save_picture(tmp_path / "new" / "a.png", picture)
    with Image.open(path) as image:
        assert (np.array(image) == picture).all()
    assert save_picture(tmp_path / "a.jpg", picture).stat().st_size > 0


def test_unknown_endings_are_explained(tmp_path):
    with pytest.raises(UserError, match="picture cannot be written") as error:
        save_picture(tmp_path / "a.nonsense", plain(5, 5, 0))
    assert "a.nonsense" in error.value.where
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        save_picture(tmp_path / "file" / "a.png", plain(5, 5, 0))
