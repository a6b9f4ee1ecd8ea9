"""`muster balance`: where every row is."""

import argparse
import time

import msgspec

from aggregator.cli import add_output_option, add_server_options
from aggregator.cli.client import client_of
from aggregator.cli.render import Table, show
from schemas.errors import MusterError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_server_options(parser)
    add_output_option(parser)
    parser.add_argument("--node", default="", help="only this publisher")
    parser.add_argument("--consumer", default="", help="only this consumer")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait so long for it to settle:"
                        " nothing spooled, nothing unread in the log")  # fmt: skip


class UnbalancedError(MusterError):
    """Rows are missing."""

    code = "balance.open"


def run(options: argparse.Namespace) -> int:
    """Print it; fail when a row is unaccounted."""
    client = client_of(options)
    deadline = time.monotonic() + options.wait
    while True:
        balance = client.get("/v1/balance", publisher=options.node, consumer=options.consumer)
        if balance["settled"] or time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    show(balance, options.output, _tables(balance["lines"]))
    missing = sum(line["unaccounted"] for line in balance["lines"])
    if missing:
        raise UnbalancedError(
            f"{missing} rows are in no place at all: please report this, with 'muster doctor --bundle'"
        )
    if options.wait and not balance["settled"]:
        raise UnbalancedError(f"not settled after {options.wait:g} s: rows are still on their way")
    return 0


def _tables(lines: list[dict[str, object]]) -> list[Table]:
    place = Table(
        ["publisher", "class", "level", "numbered", "done", "quar.", "in log", "spooled", "dropped", "unacc.", "word"],
        empty="no rows yet: no publisher has spoken",
    )
    source = Table(["publisher", "class", "level", "consumer", "produced", "filtered", "folded", "numbered"])
    more = Table(["publisher", "class", "level", "place", "rows"])
    for line in lines:
        dropped = msgspec.convert(line["dropped"], dict[str, int])
        age = line["word_age_seconds"]
        name = [_short(str(line["publisher"])), line["row_class"], line["level"]]
        place.add(*name, *(line[key] for key in ("numbered", "done", "quarantined", "in_log", "spooled")),
                  sum(dropped.values()), line["unaccounted"],
                  "-" if age is None else f"{age:.0f} s")  # fmt: skip
        if line["filtered_at_source"] or line["folded"]:
            source.add(*name, line["consumer"], line["produced"], line["filtered_at_source"], line["folded"],
                       line["numbered"])  # fmt: skip
        for reason, count in dropped.items():
            more.add(*name, f"dropped: {reason}", count)
        for key in ("filtered", "expired", "stranded", "lost"):
            if line[key]:
                more.add(*name, key, line[key])
    tables = [place]
    for title, table in (("\nleft out at the source", source), ("\nother places", more)):
        if table.rows:
            table.title = title
            tables.append(table)
    return tables


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:13]}..."
