"""A page of panels in rows, with title, headings, captions and a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from boxmask.visualization.fonts import load_font

Picture = NDArray[np.uint8]
Line = str | tuple[tuple[str, str], ...]
"""A line of text: plain, or parts with a colour each."""

Legend = tuple[tuple[Picture, str], ...]
"""Samples, and what they mean."""

PAPER, INK, FAINT = "#ffffff", "#22262e", "#6b7280"
MARGIN, GAP, LINE_SPACE = 26, 12, 1.42


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A picture at the size it is shown at, and what is written below it.

    Attributes:
        picture: (h, w, 3) uint8 RGB.
        caption: lines.
    """

    picture: Picture
    caption: tuple[Line, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """Panels side by side.

    Attributes:
        panels: from left to right.
        heading: lines at the left; the first stands out.
    """

    panels: tuple[Panel, ...]
    heading: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page shows.

    Attributes:
        title: one line.
        rows: from top to bottom.
        subtitle: lines below the title.
        columns: heading of each column, lines of which the first stands out; none for no headings.
        legend: samples with what they mean, below all rows.
        font_size: letters of captions, in pixels; titles follow it.
    """

    title: str
    rows: tuple[Row, ...]
    subtitle: tuple[str, ...] = ()
    columns: tuple[tuple[str, ...], ...] = ()
    legend: Legend = ()
    font_size: int = 15

    def draw(self) -> Picture:
        """The page, (H, W, 3) uint8 RGB, as large as its panels need."""
        return _Drawing(self).draw()


def rows_of(panels: Sequence[Panel], columns: int) -> tuple[Row, ...]:
    """Rows of as many panels as there are columns."""
    starts = range(0, len(panels), columns)
    return tuple(Row(panels=tuple(panels[start : start + columns])) for start in starts)


def short_name(name: str, most: int = 36) -> str:
    """The end of a name that may be too long."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


@dataclass
class _Fonts:
    """The fonts of a page."""

    size: int
    title: ImageFont.FreeTypeFont = field(init=False)
    strong: ImageFont.FreeTypeFont = field(init=False)
    plain: ImageFont.FreeTypeFont = field(init=False)

    def __post_init__(self) -> None:
        self.title = load_font(round(1.6 * self.size), bold=True)
        self.strong = load_font(self.size, bold=True)
        self.plain = load_font(self.size)

    @property
    def line(self) -> int:
        """Height of a line of text."""
        return round(LINE_SPACE * self.size)


class _Drawing:
    """Measures a page, then draws it from top to bottom."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.fonts = _Fonts(page.font_size)
        self.columns = self._column_widths()
        headings = [self._width(row.heading) for row in page.rows]
        self.left = MARGIN + (max(headings, default=0) + GAP if any(headings) else 0)
        self.width = max(
            self.left + sum(self.columns) + GAP * max(len(self.columns) - 1, 0) + MARGIN,
            round(self.fonts.title.getlength(page.title)) + 2 * MARGIN,
            self._width(("", *page.subtitle)) + 2 * MARGIN,
        )
        self.legend_lines = self._legend_lines()
        self.image = Image.new("RGB", (self.width, self._height()), PAPER)
        self.pen = ImageDraw.Draw(self.image)

    def draw(self) -> Picture:
        """Everything, top to bottom."""
        page, fonts = self.page, self.fonts
        y = MARGIN
        self.pen.text((MARGIN, y), page.title, fill=INK, font=fonts.title)
        y += round(1.6 * fonts.line)
        for line in page.subtitle:
            self.pen.text((MARGIN, y), line, fill=FAINT, font=fonts.plain)
            y += fonts.line
        y += GAP
        if page.columns:
            for heading, (x, width) in zip(page.columns, self._places(), strict=False):
                self._column_heading(heading, x + width // 2, y)
            y += max(map(len, page.columns)) * fonts.line + GAP // 2
        for row in page.rows:
            self._row(row, y)
            y += self._row_height(row) + GAP
        for line in self.legend_lines:
            self._legend_line(line, y)
            y += self._legend_height(line)
        return np.array(self.image)

    def _row(self, row: Row, y: int) -> None:
        for index, line in enumerate(row.heading):
            font = self.fonts.plain if index else self.fonts.strong
            color = FAINT if index else INK
            self.pen.text((MARGIN, y + index * self.fonts.line), line, fill=color, font=font)
        tallest = max((panel.picture.shape[0] for panel in row.panels), default=0)
        for panel, (x, width) in zip(row.panels, self._places(), strict=False):
            height, own_width = panel.picture.shape[:2]
            corner = (x + (width - own_width) // 2, y + (tallest - height) // 2)
            self.image.paste(Image.fromarray(panel.picture), corner)
            for index, line in enumerate(panel.caption):
                top = y + tallest + GAP // 3 + index * self.fonts.line
                self._centered(line, x + width // 2, top)

    def _centered(self, line: Line, middle: int, top: int) -> None:
        parts = ((line, INK),) if isinstance(line, str) else line
        x = middle - sum(self.fonts.plain.getlength(text) for text, _ in parts) / 2
        for text, color in parts:
            self.pen.text((x, top), text, fill=color, font=self.fonts.plain)
            x += self.fonts.plain.getlength(text)

    def _column_heading(self, heading: Sequence[str], middle: int, top: int) -> None:
        for index, line in enumerate(heading):
            font = self.fonts.plain if index else self.fonts.strong
            color = FAINT if index else INK
            place = (middle, top + index * self.fonts.line)
            self.pen.text(place, line, fill=color, font=font, anchor="ma")

    def _legend_line(self, line: Sequence[tuple[Picture, str]], y: int) -> None:
        x, height = MARGIN, self._legend_height(line)
        for sample, text in line:
            tall, wide = sample.shape[:2]
            self.image.paste(Image.fromarray(sample), (x, y + (height - tall) // 2))
            x += wide + GAP // 2
            middle = (x, y + height // 2)
            self.pen.text(middle, text, fill=INK, font=self.fonts.plain, anchor="lm")
            x += round(self.fonts.plain.getlength(text)) + 2 * GAP

    def _legend_lines(self) -> list[list[tuple[Picture, str]]]:
        """The legend cut into lines that fit the page."""
        lines: list[list[tuple[Picture, str]]] = []
        room = 0
        for sample, text in self.page.legend:
            needed = sample.shape[1] + round(self.fonts.plain.getlength(text)) + 5 * GAP // 2
            if needed > room:
                lines.append([])
                room = self.width - 2 * MARGIN + 2 * GAP
            lines[-1].append((sample, text))
            room -= needed
        return lines

    def _legend_height(self, line: Sequence[tuple[Picture, str]]) -> int:
        return max(self.fonts.line, *(sample.shape[0] for sample, _ in line)) + GAP // 2

    def _column_widths(self) -> list[int]:
        rows = self.page.rows
        count = max(len(self.page.columns), *(len(row.panels) for row in rows), 0)
        widths = [0] * count
        for row in rows:
            for index, panel in enumerate(row.panels):
                texts = ["".join(p for p, _ in line) if not isinstance(line, str) else line
                         for line in panel.caption]  # fmt: skip
                longest = max((self.fonts.plain.getlength(text) for text in texts), default=0)
                widths[index] = max(widths[index], panel.picture.shape[1], round(longest))
        for index, heading in enumerate(self.page.columns):
            widths[index] = max(widths[index], self._width(heading))
        return widths

    def _places(self) -> list[tuple[int, int]]:
        """Left end and width of each column."""
        places, x = [], self.left
        for width in self.columns:
            places.append((x, width))
            x += width + GAP
        return places

    def _width(self, lines: Sequence[str]) -> int:
        """Pixels of the longest of some lines, of which the first is strong."""
        fonts = [self.fonts.strong, *[self.fonts.plain] * len(lines)]
        widths = (font.getlength(line) for font, line in zip(fonts, lines, strict=False))
        return round(max(widths, default=0))

    def _row_height(self, row: Row) -> int:
        line = self.fonts.line
        tallest = max((panel.picture.shape[0] for panel in row.panels), default=0)
        captions = max((len(panel.caption) for panel in row.panels), default=0)
        return max(tallest + GAP // 3 + captions * line, len(row.heading) * line)

    def _height(self) -> int:
        page, line = self.page, self.fonts.line
        top = MARGIN + round(1.6 * line) + len(page.subtitle) * line + GAP
        if page.columns:
            top += max(map(len, page.columns)) * line + GAP // 2
        rows = sum(self._row_height(row) + GAP for row in page.rows)
        legend = sum(self._legend_height(one) for one in self.legend_lines)
        return top + rows + legend + MARGIN
