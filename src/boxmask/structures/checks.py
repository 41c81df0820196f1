"""Shape checks whose errors name the argument."""

from torch import Tensor


def check_boxes(name: str, boxes: Tensor) -> None:
    """Checks that `boxes` is an (N, 4) tensor.

    Raises:
        ValueError: If it is not.
    """
    if boxes.ndim != 2 or boxes.shape[-1] != 4:
        raise ValueError(
            f"{name}: expected shape (N, 4) with x1, y1, x2, y2 in pixels, got {tuple(boxes.shape)}"
        )


def check_same_shape(**tensors: Tensor) -> None:
    """Checks that all tensors, given by name, have one shape.

    Raises:
        ValueError: If two shapes differ; the message names both arguments.
    """
    (first_name, first), *others = tensors.items()
    for name, tensor in others:
        if tensor.shape != first.shape:
            raise ValueError(
                f"{name}: expected the shape of {first_name}, {tuple(first.shape)}, "
                f"got {tuple(tensor.shape)}"
            )


def check_same_length(**tensors: Tensor) -> None:
    """Checks that all tensors, given by name, have the same first dimension.

    Raises:
        ValueError: If two lengths differ; the message names both arguments.
    """
    (first_name, first), *others = tensors.items()
    for name, tensor in others:
        if len(tensor) != len(first):
            raise ValueError(
                f"{name}: expected the length of {first_name}, {len(first)}, got {len(tensor)}"
            )
