"""Draws the fleet: one line a node. Pure: no I/O."""

from collections.abc import Callable, Sequence
from typing import Final

from rich.text import Text

from aggregator.cli.drawing import LABEL, STATES, TITLE, between, count, fit, heat, percent, short, table
from aggregator.cli.frame_node import balance_line
from aggregator.cli.watching import FleetLook, FleetRow
from aggregator.cli.words import age


def _degrees(value: float) -> str:
    return f"{value:.0f}°"


def _watts(value: float) -> str:
    return f"{value:.0f}W" if value < 10_000 else f"{value / 1000:.0f}kW"


_COLUMNS: Final[Sequence[tuple[str, str, int, Callable[[float], str]]]] = (
    ("cpu", "cpu", 5, percent),
    ("memory", "mem", 5, percent),
    ("load", "load", 6, lambda value: f"{value:.2f}"),
    ("gpu", "gpu", 5, percent),
    ("hottest", "hot", 4, _degrees),
    ("power", "power", 5, _watts),
    ("rows", "rows/s", 6, count),
    ("receive", "in/s", 6, short),
    ("transmit", "out/s", 6, short),
    ("read", "read/s", 6, short),
    ("write", "writ/s", 6, short),
)
"""Column, head, width, how a value is written; the last ones go first where there is no room."""
SORTS: Final = ("name", "state", *(column for column, *_ in _COLUMNS))
_RED: Final = ("cpu", "memory", "gpu")
_STATE_ORDER: Final = ("silent", "expected", "live", "replaced", "decommissioned")


def ordered(nodes: Sequence[FleetRow], by: str) -> list[FleetRow]:
    """Sort: by name, by state (trouble first), or by a column, highest first and absent last."""
    if by == "state":
        return sorted(nodes, key=lambda node: (_STATE_ORDER.index(node.state), node.name))
    if by == "name":
        return sorted(nodes, key=lambda node: node.name)
    return sorted(nodes, key=lambda node: (by not in node.values, -node.values.get(by, 0.0), node.name))


def fleet_frame(look: FleetLook, width: int, height: int, clock: str, by: str = "name", top: int = 0) -> list[Text]:
    """Draw the fleet in `height` lines, from the node at `top` on; with `height` 0 all of it."""
    states: dict[str, int] = {}
    for node in look.nodes:
        states[node.state] = states.get(node.state, 0) + 1
    head = Text("muster top  ", TITLE)
    for state in _STATE_ORDER:
        if state in states:
            head.append(f"{states[state]:,} {state}  ", STATES.get(state, ""))
    lines = [between(head, Text(f"by {by}  {clock}", LABEL), width), balance_line(look.sums, width), Text()]
    if not look.nodes:
        return [*lines, Text("no nodes yet: start an agent with 'muster-agent', or 'muster up' here", "yellow")]
    columns = _fitting(look.nodes, width)
    names = 16 if width < 110 else 28
    nodes = ordered(look.nodes, by)
    room = len(nodes) if not height else max(1, height - len(lines) - 1)
    shown = nodes[top : top + room]
    if top + room < len(nodes):
        shown = shown[:-1]
    rows: list[list[str | Text]] = [
        [
            node.name,
            Text(node.state[:8], STATES.get(node.state, "")),
            "-" if node.silent_s is None else age(node.silent_s),
            *(_cell(node, column, write) for column, _, _, write in columns),
        ]
        for node in shown
    ]
    lines += table(["node", "state", "heard", *(head for _, head, _, _ in columns)], rows,
                   [names, -8, 6, *(width for _, _, width, _ in columns)])  # fmt: skip
    if top + room < len(nodes):
        lines.append(Text(f"... {len(nodes) - top - len(shown):,} more", LABEL))
    return [fit(line, width) for line in lines]


def _cell(node: FleetRow, column: str, write: Callable[[float], str]) -> Text:
    value = node.values.get(column)
    if value is None:
        return Text("-", LABEL)
    style = heat(value) if column in _RED else ""
    return Text(write(value), LABEL if node.state != "live" else style)


def _fitting(nodes: Sequence[FleetRow], width: int) -> list[tuple[str, str, int, Callable[[float], str]]]:
    """Give the columns that any node fills, as many as there is room for."""
    columns = [one for one in _COLUMNS if any(one[0] in node.values for node in nodes)]
    names = 16 if width < 110 else 28
    while columns and names + 8 + 6 + 3 + sum(one[2] + 1 for one in columns) > width + 1:
        columns.pop()
    return columns
