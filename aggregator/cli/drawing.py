"""The parts that frames are drawn of: bars, cells, short numbers, and lines that fit. Imports rich."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from rich.text import Text

from aggregator.cli.words import age


class Glyphs(NamedTuple):
    """What is drawn with; terminals that know only ASCII get the second kind."""

    full: str
    empty: str
    dot: str
    rule: str
    steps: str
    """Eight heights, lowest first."""


UNICODE: Final = Glyphs("█", "░", "●", "─", "▁▂▃▄▅▆▇█")
ASCII: Final = Glyphs("#", ".", "*", "-", "_.-=+*%#")
LABEL: Final = "bright_black"
TITLE: Final = "bold cyan"
_GOOD, _HIGH, _FULL = "green", "yellow", "red"
STATES: Final = {"live": "green", "silent": "red", "expected": "yellow", "decommissioned": LABEL, "replaced": LABEL}


def glyphs_for(encoding: str | None) -> Glyphs:
    """Give what a terminal of this encoding can show."""
    return UNICODE if (encoding or "").lower().replace("-", "") in ("utf8", "utf16", "utf32") else ASCII


def heat(ratio: float) -> str:
    """Give the colour of a share: green below 70 %, yellow below 90 %, then red."""
    return _GOOD if ratio < 0.7 else _HIGH if ratio < 0.9 else _FULL


def bar(ratio: float | None, width: int, glyphs: Glyphs, percent: int = 7) -> Text:
    """Draw a share as a bar of `width` cells with its number in `percent` more; `-` when it is absent."""
    if ratio is None:
        return Text(glyphs.empty * width, LABEL) + Text("-".rjust(percent))
    filled = min(width, round(max(0.0, ratio) * width))
    text = Text(glyphs.full * filled, heat(ratio))
    text.append(glyphs.empty * (width - filled), LABEL)
    number = f"{ratio * 100:.1f} %" if percent >= 7 else f"{ratio * 100:.0f}%"
    return text.append(number.rjust(percent))


def percent(ratio: float | None) -> str:
    """Give a share as a whole per cent; `-` when it is absent."""
    return "-" if ratio is None else f"{ratio * 100:.0f}%"


def short(value: float | None) -> str:
    """Give bytes in at most five cells: `0`, `812`, `1.2K`, `340M`; `-` when it is absent."""
    if value is None:
        return "-"
    for unit in ("", "K", "M", "G", "T"):
        if abs(value) < 999.5:
            return f"{value:.0f}{unit}" if not unit or value >= 9.95 else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.0f}P"


def count(value: float | None) -> str:
    """Give a count or a rate of counts; `-` when it is absent."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def said_age(seconds: float | None) -> str:
    """Give how long ago, for people."""
    return "never" if seconds is None else f"{age(seconds)} ago"


def visible(text: str) -> str:
    """Give text that cannot steer the terminal: what is not printable is written out."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def fit(line: Text, width: int) -> Text:
    """Give the line, cut to the width of the screen."""
    line = line.copy()
    line.truncate(width, overflow="ellipsis")
    return line


def between(left: Text, right: Text, width: int) -> Text:
    """Put one text to the left edge and one to the right; the left one is cut where they meet."""
    room = width - right.cell_len - 1
    if room <= 8:
        return fit(left, width)
    head = fit(left, room)
    return head + Text(" " * (width - head.cell_len - right.cell_len)) + right


def beside(left: Sequence[Text], right: Sequence[Text], width: int, gap: int = 3) -> list[Text]:
    """Put two blocks side by side, each half as wide."""
    half = (width - gap) // 2
    lines = []
    for at in range(max(len(left), len(right))):
        head = fit(left[at], half) if at < len(left) else Text()
        tail = fit(right[at], half) if at < len(right) else Text()
        lines.append(head + Text(" " * (half - head.cell_len + gap)) + tail)
    return lines


def table(head: Sequence[str], rows: Iterable[Sequence[str | Text]], widths: Sequence[int]) -> list[Text]:
    """Draw a small table, first column to the left, the others to the right, or to the left if negative."""

    def drawn(cells: Sequence[str | Text], style: str) -> Text:
        line = Text()
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            text = cell.copy() if isinstance(cell, Text) else Text(cell, style)
            text.truncate(abs(width), overflow="ellipsis")
            pad = Text(" " * (abs(width) - text.cell_len))
            line += (text + pad if at == 0 or width < 0 else pad + text) + Text(" ")
        return line

    return [drawn(head, LABEL), *(drawn(row, "") for row in rows)]
