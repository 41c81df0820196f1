"""File names in either Unicode form: macOS stores "ü" as two characters, most others as one."""

from __future__ import annotations

import unicodedata
from pathlib import Path


def composed(name: str) -> str:
    """The name with each letter and its marks as one character."""
    return unicodedata.normalize("NFC", name)


def spellings(name: str) -> list[str]:
    """The name as it is, then in the other forms; plain names have one form alone."""
    forms = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return list(dict.fromkeys([name, *forms]))


def as_stored(path: Path) -> Path:
    """The path, or the existing file beside it whose name differs in its Unicode form alone."""
    names = spellings(path.name)
    if len(names) == 1:
        return path
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), path)
