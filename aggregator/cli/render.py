"""How the command line shows things: tables for people, JSON and YAML for programs."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from aggregator.cli import fitting
from schemas.errors import MusterError

TABLES = ("table", "wide")
"""Formats for people; `wide` is a table with nothing left out, however narrow the terminal is."""
FORMATS = (*TABLES, "json", "yaml")
CELL_WIDTH = 160
"""The widest cell of a table: one long log line must not make every line as long."""


def show(value: Any, output: str, table: "Table | Iterable[Table]") -> None:
    """Print `value` as JSON or YAML, or the table made of it."""
    if output == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    elif output == "yaml":
        sys.stdout.write("\n".join(_yaml(msgspec.to_builtins(value), 0)) + "\n")
    else:
        for one in [table] if isinstance(table, Table) else table:
            one.print(wide=output == "wide")


def show_error(error: MusterError, output: str) -> None:
    """Print an error in the place of the answer; JSON on one line, for commands that print a line for each answer."""
    told = error_object(error)
    if output == "json":
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    else:
        show(told, output, ())


def error_object(error: MusterError) -> dict[str, Any]:
    """Give an error for programs: its code, its text, and what else the aggregator's problem details say."""
    return {"error": {"code": error.code, "message": str(error), **getattr(error, "details", {})}}


class Table:
    """A table; numbers to the right. On a terminal it is made to fit (`fitting`)."""

    def __init__(
        self, columns: Sequence[str], title: str = "", empty: str = "nothing", spare: Sequence[str] = ()
    ) -> None:
        self.columns = list(columns)
        self.title = title
        self.empty = empty
        self.spare = spare
        """Columns that a narrow terminal does without, the first to go first."""
        self.rows: list[list[str]] = []
        self._right: set[int] = set()

    def add(self, *cells: Any) -> None:
        """Add a row. None shows as `-`: absent is not zero."""
        self.rows.append([_cell(cell) for cell in cells])
        self._right |= {at for at, cell in enumerate(cells) if isinstance(cell, (int, float)) and cell is not True}

    @property
    def width(self) -> int:
        """How wide it is, in characters."""
        return max((len(line) for line in self.lines()), default=0)

    def lines(self, width: int | None = None) -> list[str]:
        """Give the lines, without colour, of at most `width` characters where that can be; None: as wide as they are.

        A cell of more than CELL_WIDTH characters is cut, JSON has it whole.
        """
        if not self.rows:
            return [folded(self.empty, width) if self.columns else self.empty]
        self.rows = [[_cut(cell) for cell in row] for row in self.rows]
        kept, widths = fitting.fit(self.columns, self.rows, self.spare, sys.maxsize if width is None else width)
        lines = ["\n".join(folded(line, width) for line in self.title.split("\n"))] if self.title else []
        for row in [self.columns, *self.rows]:
            lines += self._row([row[at] for at in kept], kept, widths)
        gone = [name for name in self.spare if name in self.columns and self.columns.index(name) not in kept]
        if gone := [name for name in gone if any(cell != fitting.ABSENT for cell in self._column(name))]:
            lines.append(folded(f"({', '.join(gone)}: no room; '-o wide' shows all)", width))
        return lines

    def _row(self, cells: list[str], kept: list[int], widths: list[int]) -> list[str]:
        """Give the lines of a row: as many as its longest cell has."""
        told = [fitting.fold(cell, width) for cell, width in zip(cells, widths, strict=True)]
        lines = []
        for parts in zip_longest(*told, fillvalue=""):
            padded = [
                part.rjust(width) if at in self._right else part.ljust(width)
                for at, part, width in zip(kept, parts, widths, strict=True)
            ]
            lines.append((" " * fitting.GAP).join(padded).rstrip())
        return lines

    def _column(self, name: str) -> list[str]:
        return [row[self.columns.index(name)] for row in self.rows]

    def print(self, *, wide: bool = False) -> None:
        """Print to standard output, the head bold on a terminal; `wide`: whatever the terminal has room for."""
        lines = self.lines(None if wide else terminal_width())
        if self.rows and sys.stdout.isatty():
            head = 1 if self.title else 0
            lines[head] = f"\x1b[1m{lines[head]}\x1b[0m"
        sys.stdout.write("\n".join(lines) + "\n")


def _cut(cell: str) -> str:
    return cell if len(cell) <= CELL_WIDTH else f"{cell[: CELL_WIDTH - 1]}…"


def folded(text: str, width: int | None = None) -> str:
    """Give a text in lines of at most `width` characters; None: that fit the terminal."""
    room = max(40, screen_width() if width is None else width)
    return "\n".join(textwrap.fill(line, room) for line in text.splitlines())


def terminal_width() -> int | None:
    """Give how wide a table may be: as the terminal, or as COLUMNS says; None for a pipe or a file, which have room."""
    return screen_width() if "COLUMNS" in os.environ or sys.stdout.isatty() else None


def screen_width() -> int:
    """Give the width of the terminal; 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def number(value: float | None, unit: str = "") -> str:
    """Give a number as people read it: `41.2 GiB`, `37 %`, `1.2 ms`; `-` when it is absent."""
    if value is None:
        return "-"
    if unit == "ratio":
        return f"{value * 100:.1f} %"
    if unit in ("bytes", "bytes_per_second"):
        text = _binary(float(value))
        return text + ("/s" if unit == "bytes_per_second" else "")
    if unit == "hertz":
        return f"{value / 1e9:.2f} GHz" if value >= 1e9 else f"{value / 1e6:.0f} MHz"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    short = {
        "seconds": " s",
        "watts": " W",
        "joules": " J",
        "celsius": " °C",
        "volts": " V",
        "amperes": " A",
        "rpm": " rpm",
        "pascals": " Pa",
        "cubic_meters_per_second": " m³/s",
    }
    return text + short.get(unit, "")


def _binary(value: float) -> str:
    for prefix in ("", "Ki", "Mi", "Gi", "Ti"):
        if abs(value) < 1024:
            return f"{value:.0f} B" if not prefix else f"{value:.1f} {prefix}B"
        value /= 1024
    return f"{value:.1f} PiB"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    # a log line must not steer the terminal
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in str(value))


def _yaml(value: Any, depth: int) -> list[str]:
    """Every JSON text is YAML, so that only the shape needs care."""
    pad = "  " * depth
    if isinstance(value, dict) and value:
        lines = []
        for key, inner in value.items():
            nested = _yaml(inner, depth + 1)
            simple = not (isinstance(inner, (dict, list)) and inner)
            lines += [f"{pad}{_scalar(key)}: {nested[0].strip()}"] if simple else [f"{pad}{_scalar(key)}:", *nested]
        return lines
    if isinstance(value, list) and value:
        lines = []
        for inner in value:
            nested = _yaml(inner, depth + 1)
            lines += [f"{pad}- {nested[0].strip()}", *nested[1:]]
        return lines
    return [pad + _scalar(value)]


def _scalar(value: Any) -> str:
    return msgspec.json.encode(value).decode()
