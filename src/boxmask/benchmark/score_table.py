"""Tables of scores, in Markdown."""

import math
import statistics
from collections.abc import Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a row of titles."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def score_cell(values: Sequence[float | None], digits: int = 3) -> str:
    """Mean and, of several, standard deviation of the scores that are known; else a dash."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "-"
    mean = f"{statistics.mean(known):.{digits}f}"
    return f"{mean} ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else mean
