"""`muster balance`: where every row is."""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.client import ServerError, client_of
from aggregator.cli.names import names_of
from aggregator.cli.render import Table, show
from aggregator.cli.words import WordError, age
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
                        " a fresh word of every live publisher, nothing spooled or unread")  # fmt: skip


class UnbalancedError(MusterError):
    """Rows are missing."""

    code = "balance.open"


def run(options: argparse.Namespace) -> int:
    """Print it; fail when a row is unaccounted."""
    views, balance, awaited = _settled(options) if options.wait else (*_ask(options), [])
    publisher = _publisher(views, options.node)
    if publisher and not balance["lines"]:
        raise WordError(f"no publisher {options.node!r} has spoken; 'muster balance' shows those that have")
    show(balance, options.output, _tables(balance["lines"], names_of(views), wide=options.wide))
    missing = sum(line["unaccounted"] for line in balance["lines"])
    if missing:
        raise UnbalancedError(
            f"{missing} rows are in no place at all: please report this, with 'muster doctor --bundle'"
        )
    if awaited:
        raise UnbalancedError(f"not settled after {options.wait:g} s: waiting for {'; '.join(awaited)}")
    return 0


def _ask(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Give the nodes, and the balance of those asked for. Raises ServerError."""
    client = client_of(options)
    views = client.get("/v1/nodes")
    return views, client.get("/v1/balance", publisher=_publisher(views, options.node), consumer=options.consumer)


def _publisher(views: list[dict[str, Any]], named: str) -> str:
    """Give the id of what was named, by host name or id; "" where nothing was."""
    return next((id_ for id_, name in names_of(views).items() if name == named), named) if named else ""


def _settled(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any], list[str]]:
    """Ask until nothing is awaited, or the time is over; give the nodes, the last balance, and what is awaited still.

    An aggregator that is not there, or not ready, is waited for too. Raises ServerError when it is not in time.
    """
    began = time.monotonic()
    with _telling() as tell:
        while True:
            asked = time.monotonic()
            try:
                views, balance = _ask(options)
            except ServerError as error:
                if not error.passing or time.monotonic() - began >= options.wait:
                    raise
                tell("an aggregator that answers")
            else:
                awaited = awaited_of(balance, views, asked - began, _publisher(views, options.node))
                if not awaited or time.monotonic() - began >= options.wait:
                    return views, balance, awaited
                tell("; ".join(awaited))
            time.sleep(0.2)


def awaited_of(balance: dict[str, Any], views: list[dict[str, Any]], seconds: float, publisher: str = "") -> list[str]:
    """Give what stands between a balance and its being settled: words, and rows on their way; [] for nothing.

    Rows that a live publisher made since its last word are in no balance yet: its word must be younger than the
    `seconds` since the wait began. One that is silent cannot be waited for; its last word counts. `publisher`: only
    that one.
    """
    names, ages = names_of(views), balance["word_ages_seconds"]
    live = [view["node"]["id"] for view in views if view["state"] == "live"]
    late = [id_ for id_ in live if publisher in ("", id_) and (ages.get(id_) is None or ages[id_] >= seconds)]
    awaited = []
    if late:
        told = [f"{_short(names[id_])} ({_said(ages.get(id_))})" for id_ in late[:NAMED]]
        awaited.append(f"a word from {', '.join(told)}{_more(late)}")
    ways = (("spooled", "still at"), ("in_log", "unread in the log, of"), ("unaccounted", "in no place, of"))
    for place, where in ways:
        rows = sum(line[place] for line in balance["lines"])
        whose = sorted({line["publisher"] for line in balance["lines"] if line[place]})
        if rows:
            shown = ", ".join(_short(names.get(id_, id_)) for id_ in whose[:NAMED])
            awaited.append(f"{rows} rows {where} {shown}{_more(whose)}")
    return awaited


def _said(age_seconds: float | None) -> str:
    return "it never gave one" if age_seconds is None else f"the last is {age(age_seconds)} old"


def _more(names: list[str]) -> str:
    return f" and {len(names) - NAMED} more" if len(names) > NAMED else ""


def counted_once(lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Give the lines of the store: every row is in one of them, and in lines of other consumers besides."""
    return [line for line in lines if line["consumer"] == STORE]


@contextlib.contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """Give a function that tells what is awaited: in one line of a terminal, nowhere else."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("waiting") as status:
        yield lambda what: status.update(f"waiting for {what}")


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
STORE: Final = "store"
"""The consumer that reads every row: to count rows, its lines are counted."""
NAME_WIDTH: Final = 13
NAMED: Final = 3
"""Publishers that are named when there are more."""


def _tables(lines: list[dict[str, Any]], names: Mapping[str, str], *, wide: bool) -> list[Table]:
    """Give where rows are, in the places that hold any; what was left out at the source; and what was given up.

    `wide` shows every place, whole names, and the publishers' ids. Where there are several consumers, each is named.
    """
    several = len({line["consumer"] for line in lines}) > 1
    held = [(key, word) for key, word in _PLACES if wide or key in _ALWAYS or any(line[key] for line in lines)]
    dropped = any(line["dropped"] for line in lines)
    place = Table(
        [
            "publisher",
            "class",
            "level",
            *(["consumer"] if several else []),
            "numbered",
            *(word for _, word in held),
            *(["dropped"] if dropped else []),
            "word",
            *(["id"] if wide else []),
        ],
        empty="no rows yet: no publisher has spoken",
        spare=("word", "done", "numbered"),
    )
    source = Table(["publisher", "class", "level", "produced", "filtered", "folded", "numbered"])
    reasons = Table(["publisher", "class", "level", "reason", "rows"])
    for line in sorted(lines, key=lambda line: names.get(line["publisher"], line["publisher"])):
        said = line["word_age_seconds"]
        shown = names.get(line["publisher"], line["publisher"])
        name = [shown if wide else _short(shown), line["row_class"], line["level"]]
        if line["numbered"]:
            gone = [sum(line["dropped"].values())] if dropped else []
            word = age(said)
            id_ = [line["publisher"]] if wide else []
            reader = [line["consumer"]] if several else []
            place.add(*name, *reader, line["numbered"], *(line[key] for key, _ in held), *gone, word, *id_)
        if several and line["consumer"] != STORE:
            continue  # what the publisher says of itself is the same for every consumer
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
