import numpy as np
import pytest

from boxmask.visualization.page import Page, Panel, Row, rows_of, short_name

RED, GREEN = (220, 10, 10), (10, 200, 10)


def panel(height, width, color, caption=()):
    return Panel(picture=np.full((height, width, 3), color, dtype=np.uint8), caption=caption)


def where(page, color):
    """Top, left, bottom and right of a colour, the last two exclusive."""
    rows, columns = np.nonzero((page == color).all(axis=-1))
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


def test_panels_keep_every_pixel_and_stand_in_columns():
    rows = (
        Row(panels=(panel(40, 60, RED), panel(30, 50, GREEN)), heading=("first", "more")),
        Row(panels=(panel(20, 80, RED),), heading=("second",)),
    )
    page = Page(title="a", rows=rows, columns=(("one", "unit"), ("two",))).draw()
    top, left, bottom, right = where(page, GREEN)
    assert (bottom - top, right - left) == (30, 50)
    red_top, _, red_bottom, red_right = where(page[: bottom + 8], RED)  # of the upper row
    assert red_right < left
    assert (red_top + red_bottom) // 2 == (top + bottom) // 2  # centred in their row
    assert ((page == RED).all(axis=-1)).sum() == 40 * 60 + 20 * 80


def test_the_page_grows_with_what_is_written():
    plain = Page(title="a", rows=(Row(panels=(panel(40, 60, RED),)),)).draw()
    wide = Page(title="a title that is far wider", rows=(Row(panels=(panel(40, 60, RED),)),)).draw()
    assert wide.shape[1] > plain.shape[1]
    captioned = Row(panels=(panel(40, 60, RED, caption=("a", (("b", "#ff0000"),))),))
    assert Page(title="a", rows=(captioned,)).draw().shape[0] > plain.shape[0] + 30
    noted = Page(title="a", subtitle=("b", "c"), rows=(Row(panels=(panel(40, 60, RED),)),)).draw()
    assert noted.shape[0] > plain.shape[0] + 30


def test_a_long_legend_takes_several_lines():
    sample = np.full((18, 30, 3), GREEN, dtype=np.uint8)
    row = Row(panels=(panel(40, 300, RED),))
    page = Page(title="a", rows=(row,), legend=((sample, "some words that take room"),) * 4).draw()
    assert ((page == GREEN).all(axis=-1)).sum() == 4 * 18 * 30
    top, _, bottom, _ = where(page, GREEN)
    assert bottom - top > 2 * 18
    assert page[-5:].min() > 200  # nothing is cut off at the end


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (2, [2]), (3, [3]), (7, [3, 3, 1])])
def test_rows_of_panels(count, sizes):
    rows = rows_of([panel(4, 4, RED)] * count, 3)
    assert [len(row.panels) for row in rows] == sizes


def test_long_names_keep_their_end():
    assert short_name("a.png") == "a.png"
    assert short_name("folder/" * 9 + "a.png", 10) == "…der/a.png"
