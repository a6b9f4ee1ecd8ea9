"""`muster collectors`: what is installed here, even with no server; and how collectors fare, node by node."""

import argparse
from collections.abc import Sequence
from typing import Any

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.client import Client, ServerError, client_of
from aggregator.cli.names import names_of, node_id
from aggregator.cli.probing import Found, probe_installed
from aggregator.cli.render import Table, show
from aggregator.cli.words import age, shorten

_EPILOG = """examples:
  muster collectors                what is installed here, and how all fare
  muster collectors gpu-17         how those of one node fare
  muster collectors -o wide        with runs, crashes, lateness and ids
  muster collectors --installed    needs no aggregator

rows: what it handed over, filtered ones included. took: its last collection.
states: running; starting; backing_off after failures; no_data (nothing of the
kind there); unsupported, misconfigured, unavailable (not tried again); stopped"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    parser.add_argument("node", nargs="?", default="", help="only this node's, by id or host name")
    parser.add_argument("--installed", action="store_true", help="only what is installed here; ask no aggregator")


def run(options: argparse.Namespace) -> int:
    """Print what is installed, and what agents report."""
    found = [] if options.node else probe_installed()
    tables = [] if options.node else [installed_table(found)]
    reports: list[dict[str, Any]] | None = None
    trouble = ""
    if not options.installed:
        try:
            reports, names = _reports(client_of(options), options.node)
            tables += [reports_table(reports, names, wide=options.wide), errors_table(reports, names)]
        except ServerError as error:
            if options.node or options.server:
                raise
            trouble = f"\nhow they fare is not known: {error}"
            tables.append(Table([], empty=trouble))
    show({"installed": found, "nodes": reports}, options.output, [one for one in tables if one.rows or one.empty])
    return 0


def _reports(client: Client, node: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    views = client.get("/v1/nodes")
    id_ = node_id(views, node) if node else ""
    return list(client.get("/v1/collectors", node=id_)), names_of(views)


def installed_table(found: Sequence[Found]) -> Table:
    """Make the table of what is installed here."""
    table = Table(["collector", "distribution", "version", "here"], "installed here\n",
                  empty="no collector is installed here: pip install rackmuster")  # fmt: skip
    for one in found:
        word = shorten(one.problem, 80) if one.problem else "ready"
        table.add(one.name, one.distribution, one.version, word)
    return table


def reports_table(reports: Sequence[dict[str, Any]], names: dict[str, str], *, wide: bool = False) -> Table:
    """Make the table of an answer of `/v1/collectors`. Ages are as of now: the report's own age is added.

    `wide` adds how often it ran, how often its helper died, how late it began (99th percentile), and the node's id.
    """
    more = ("runs", "crashes", "late", "id") if wide else ()
    table = Table(
        ["node", "collector", "state", "rows", "errors", "took", "next", *more],
        "\non the nodes\n",
        empty="\nno agent has reported yet",
        spare=("next", "took", "rows"),
    )
    for one in reports:
        old = one["reported_seconds"] or 0.0
        # a report is not repeated while nothing changes; then the planned time has passed and come again
        next_try = None if one["next_try"] is None else max(0.0, one["next_try"] - old)
        name = names.get(one["node"], one["node"])
        also = (one["runs"], one["crashes"], _milliseconds(one["slip_p99"]), one["node"]) if wide else ()
        table.add(name if wide else shorten(name, 16), one["name"], one["state"], one["rows"], one["errors"],
                  _milliseconds(one["last_seconds"]), age(next_try), *also)  # fmt: skip
    return table


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def errors_table(reports: Sequence[dict[str, Any]], names: dict[str, str]) -> Table:
    """Make the lines of what went wrong last, collector by collector, and since when nothing went well."""
    lines = ["", "last errors"]
    for one in reports:
        if one["last_error"]:
            old = one["reported_seconds"] or 0.0
            failed = age(None if one["error_age"] is None else one["error_age"] + old)
            well = "never" if one["success_age"] is None else f"{age(one['success_age'] + old)} ago"
            lines.append(f"{names.get(one['node'], one['node'])} {one['name']}, {failed} ago, last good {well}:")
            lines.append(f"  {shorten(one['last_error'], 400)}")
    return Table([], empty="\n".join(lines) if len(lines) > 2 else "")
