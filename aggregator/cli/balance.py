"""`muster balance`: where every row is."""

import argparse
import time
from collections.abc import Mapping
from typing import Any, Final

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.client import client_of
from aggregator.cli.names import host_names
from aggregator.cli.render import Table, show
from schemas.errors import MusterError

_EPILOG = """examples:
  muster balance
  muster balance --node gpu-17 --wait 10
  muster balance -o json | jq '.lines[] | select(.unaccounted > 0)'

produced = filtered at the source + folded + numbered; every number has one
place. exit status: 0 when every row has one, 1 when some are unaccounted"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    parser.add_argument("--node", default="", help="only this publisher, by host name or id")
    parser.add_argument("--consumer", default="", help="only this consumer")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait so long for it to settle:"
                        " nothing spooled, nothing unread in the log")  # fmt: skip


class UnbalancedError(MusterError):
    """Rows are missing."""

    code = "balance.open"


def run(options: argparse.Namespace) -> int:
    """Print it; fail when a row is unaccounted."""
    client = client_of(options)
    names = host_names(client) if options.node or options.output == "table" else {}
    named = [id_ for id_, name in names.items() if name == options.node]
    publisher = named[0] if named else options.node
    deadline = time.monotonic() + options.wait
    while True:
        balance = client.get("/v1/balance", publisher=publisher, consumer=options.consumer)
        if balance["settled"] or time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    show(balance, options.output, _tables(balance["lines"], names, wide=options.wide))
    missing = sum(line["unaccounted"] for line in balance["lines"])
    if missing:
        raise UnbalancedError(
            f"{missing} rows are in no place at all: please report this, with 'muster doctor --bundle'"
        )
    if options.wait and not balance["settled"]:
        raise UnbalancedError(f"not settled after {options.wait:g} s: rows are still on their way")
    return 0


_PLACES: Final = (
    ("done", "done"),
    ("filtered", "filtered"),
    ("quarantined", "quarantined"),
    ("expired", "expired"),
    ("in_log", "in log"),
    ("spooled", "spooled"),
    ("stranded", "stranded"),
    ("lost", "lost"),
    ("unaccounted", "unaccounted"),
)
_ALWAYS: Final = ("done", "unaccounted")
NAME_WIDTH: Final = 13


def _tables(lines: list[dict[str, Any]], names: Mapping[str, str], *, wide: bool) -> list[Table]:
    """Give where rows are, in the places that hold any; what was left out at the source; and what was given up.

    `wide` shows every place, whole names, and the publishers' ids.
    """
    held = [(key, word) for key, word in _PLACES if wide or key in _ALWAYS or any(line[key] for line in lines)]
    dropped = any(line["dropped"] for line in lines)
    place = Table(
        [
            "publisher",
            "class",
            "level",
            "numbered",
            *(word for _, word in held),
            *(["dropped"] if dropped else []),
            "word",
            *(["id"] if wide else []),
        ],
        empty="no rows yet: no publisher has spoken",
    )
    source = Table(["publisher", "class", "level", "produced", "filtered", "folded", "numbered"])
    reasons = Table(["publisher", "class", "level", "reason", "rows"])
    for line in lines:
        age = line["word_age_seconds"]
        shown = names.get(line["publisher"], line["publisher"])
        name = [shown if wide else _short(shown), line["row_class"], line["level"]]
        if line["numbered"]:
            gone = [sum(line["dropped"].values())] if dropped else []
            word = "-" if age is None else f"{age:.0f} s"
            id_ = [line["publisher"]] if wide else []
            place.add(*name, line["numbered"], *(line[key] for key, _ in held), *gone, word, *id_)
        if line["filtered_at_source"] or line["folded"]:
            source.add(*name, line["produced"], line["filtered_at_source"], line["folded"], line["numbered"])
        for reason, count in line["dropped"].items():
            reasons.add(*name, reason, count)
    tables = [place]
    for title, table in (("\nleft out at the source, by level", source), ("\ngiven up by the publisher", reasons)):
        if table.rows:
            table.title = title
            tables.append(table)
    return tables


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 2]}.."
