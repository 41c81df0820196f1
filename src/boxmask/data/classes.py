"""Classes of a data set among those of a model, by name."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def class_places(names: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
    """The number that a model has for each class of a data set.

    Args:
        names: classes of the data set.
        known: classes of the model.

    Returns:
        (len(names),); classes that the model does not know get numbers of their own, behind its
        last.
    """
    numbers = {name: number for number, name in enumerate(known)}
    return np.array(
        [numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64
    ).reshape(-1)
