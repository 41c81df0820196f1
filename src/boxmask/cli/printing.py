"""What commands print."""

import json
from dataclasses import asdict, is_dataclass
from typing import Any


def silent(line: str) -> None:
    """Takes lines that nobody wants to see."""


def print_json(content: Any) -> None:
    """Prints numbers or a dataclass for machines."""
    if is_dataclass(content) and not isinstance(content, type):
        content = asdict(content)
    print(json.dumps(content, indent=2, default=str))
