"""Pages that repeat numbers of the code repeat the right ones."""

import re
from dataclasses import fields
from pathlib import Path

from boxmask.recipes.box_settings import PAPER, SIMSettings

ROOT = Path(__file__).parents[1]


def test_methods_page_lists_every_setting_with_its_values():
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    page = page.split("## Settings")[1]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, flags=re.MULTILINE))
    assert list(rows) == [field.name for field in fields(SIMSettings)]
    for name, row in rows.items():
        default, paper = row.split(" | ")[:2]
        for shown, settings in ((default, SIMSettings()), (paper, PAPER)):
            value = getattr(settings, name)
            if value is None:
                assert shown in ("none", "the recipe's"), name
            elif isinstance(value, bool):
                assert shown == ("yes" if value else "no"), name
            else:
                assert float(shown.split(" ")[0]) == value, name
