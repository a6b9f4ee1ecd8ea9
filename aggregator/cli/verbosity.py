"""`muster verbosity`: raise the verbosity of nodes for a while."""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from aggregator.access import matches
from aggregator.cli import add_examples, add_output_option, add_server_options, add_word
from aggregator.cli.asking import add_yes_option, confirm
from aggregator.cli.client import Client, ServerError, client_of
from aggregator.cli.names import host_names, names_of, node_id
from aggregator.cli.render import Table, show
from aggregator.cli.words import WordError, age, seconds_of, shorten
from schemas.verbosity import Level, RowClass

ACK_SECONDS: Final = 2.0
"""How long to wait for nodes to say that they act on a new grant."""
_POLL_SECONDS: Final = 0.1
_EPILOG = """examples:
  muster verbosity set gpu-17 detailed --for 10m --reason "case 4711"
  muster verbosity set 'gpu-*' debug --for 2m --collector host
  muster verbosity set gpu-17 debug --for 5m --class log
  muster verbosity list
  muster verbosity clear ID"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    deeds = parser.add_subparsers(dest="deed", metavar="{set,list,clear}")
    new = add_word(deeds, "set", "raise the verbosity of nodes; it ends by itself",
                   "muster verbosity set gpu-17 detailed --for 10m")  # fmt: skip
    new.add_argument("nodes", metavar="NODES", help="host name, id, or a pattern over ids with * and ?")
    new.add_argument("level", choices=[level.word for level in Level][1:], metavar="LEVEL",
                     help="standard, detailed or debug; essential rows are always sent")  # fmt: skip
    new.add_argument("--for", dest="duration", default="10m", metavar="DURATION", help="30s, 10m, 1h30m (default: 10m)")
    new.add_argument("--collector", default="", metavar="NAME", help="only this collector")
    new.add_argument("--class", dest="row_class", default="", choices=["", *(one.word for one in RowClass)],
                     metavar="CLASS", help="only telemetry, log, event or capability")  # fmt: skip
    new.add_argument("--reason", default="", help="why, for those who read the list")
    add_word(deeds, "list", "list what is in force (default)", "muster verbosity list -o wide")
    clear = add_word(deeds, "clear", "end one before its time, or all", "muster verbosity clear ID")
    clear.add_argument("id", nargs="?", default="", help="which; left out: all of them")
    add_yes_option(clear)


def run(options: argparse.Namespace) -> int:
    """Set, list or clear."""
    client = client_of(options)
    if options.deed == "set":
        return _set(client, options)
    if options.deed == "clear":
        return _clear(client, options)
    views = client.get("/v1/verbosity")
    show(views, options.output, grants_table(views, host_names(client) if views else {}, wide=options.wide))
    return 0


def grants_table(views: Sequence[dict[str, Any]], names: dict[str, str], *, wide: bool = False) -> Table:
    """Make the table of an answer of `/v1/verbosity`; `wide` shortens nothing and says for which ids and by whom."""
    table = Table(
        ["id", "nodes", "level", "only", "left", "on", "reason", *(("node id", "who") if wide else ())],
        empty="no grants: every node is at its configured level. 'muster verbosity set' raises one",
        spare=("on", "reason", "only"),
    )
    for view in views:
        grant = view["grant"]
        only = " ".join(filter(None, (grant["collector"], grant["row_class"]))) or "all"
        active = f"{len(view['acknowledged'])}" + (f" (-{len(view['withheld'])})" if view["withheld"] else "")
        nodes, room = names.get(grant["nodes"], grant["nodes"]), 1000 if wide else 12
        table.add(grant["id"], shorten(nodes, room), grant["level"], only, age(view["seconds"]), active,
                  shorten(grant["reason"], room), *((grant["nodes"], grant["who"]) if wide else ()))  # fmt: skip
    return table


def _set(client: Client, options: argparse.Namespace) -> int:
    views = client.get("/v1/nodes")
    nodes = _pattern(views, options.nodes)
    body = {"nodes": nodes, "level": options.level, "seconds": seconds_of(options.duration),
            "collector": options.collector, "row_class": options.row_class, "reason": options.reason}  # fmt: skip
    grant = client.post("/v1/verbosity", body)
    live = {view["node"]["id"] for view in views if view["state"] == "live" and matches(nodes, view["node"]["id"])}
    view = _wait(client, grant["id"], live)
    show(view, options.output, Table([], empty=_told(view, live, names_of(views))))
    return 0


def _pattern(views: list[dict[str, Any]], named: str) -> str:
    """Give the id of a node that is named, and a pattern as it is. Raises WordError when it can match nothing."""
    if not any(wild in named for wild in "*?"):
        return node_id(views, named)
    if views and not any(matches(named, view["node"]["id"]) for view in views):
        hosts = [view["node"]["id"] for view in views if matches(named, view["node"]["host_name"] or "")]
        if hosts:
            raise WordError(f"{named!r} matches {len(hosts)} host names but no id, and patterns are over ids:"
                            f" name them one by one, or write '*'")  # fmt: skip
        sys.stderr.write(f"muster: no node is called like {named!r} yet; the grant waits for one\n")
    return named


def _wait(client: Client, id_: str, live: set[str]) -> dict[str, Any]:
    """Give the grant's view, once all live nodes that it is for act on it or the time is up. Raises ServerError."""
    deadline = time.monotonic() + ACK_SECONDS
    while True:
        view = next((view for view in client.get("/v1/verbosity") if view["grant"]["id"] == id_), None)
        if view is None:
            raise ServerError(f"the grant {id_} ended already: give it longer with --for")
        if live <= {*view["acknowledged"], *view["withheld"]} or time.monotonic() >= deadline:
            return dict(view)
        time.sleep(_POLL_SECONDS)


def _told(view: dict[str, Any], live: set[str], names: dict[str, str]) -> str:
    def listed(ids: set[str]) -> str:
        return ", ".join(sorted(names.get(id_, id_) for id_ in ids)[:8]) + (", ..." if len(ids) > 8 else "")

    grant, acting, withheld = view["grant"], set(view["acknowledged"]), set(view["withheld"])
    lines = [f"{grant['level']} for {age(view['seconds'])}, grant {grant['id']}"]
    if acting:
        lines.append(f"in force on {len(acting)}: {listed(acting)}")
    if withheld:
        lines.append(f"withheld from {len(withheld)}, the fleet's budget is spent: {listed(withheld)}")
    if waiting := live - acting - withheld:
        lines.append(f"not yet acknowledged by {len(waiting)}: {listed(waiting)}; 'muster verbosity list' shows when")
    if not live:
        lines.append("no node that it is for is live now; it takes effect when one speaks")
    return "\n".join(lines)


def _clear(client: Client, options: argparse.Namespace) -> int:
    if not options.id and not confirm("This ends every grant of the fleet. Go on?", yes=options.yes):
        return 1
    answer = client.delete(f"/v1/verbosity/{options.id}" if options.id else "/v1/verbosity")
    cleared = ", ".join(answer["cleared"]) or "nothing: there was no grant"
    show(answer, options.output, Table([], empty=f"cleared {cleared}"))
    return 0
