"""`muster nodes`: who is there, and what operators decide about them."""

import argparse
import time
from typing import Any

from aggregator.cli import add_examples, add_output_option, add_server_options, add_word
from aggregator.cli.asking import add_yes_option, confirm
from aggregator.cli.client import Client, client_of
from aggregator.cli.names import names_of, node_id
from aggregator.cli.render import Table, show
from aggregator.cli.words import age, ago_ns, shorten
from collectors.process import EXIT_FAILED

_EPILOG = """examples:
  muster nodes                      every node, and when it was last heard
  muster nodes --state silent       those that should speak and do not
  muster nodes decommission gpu-17  it will not come back: its tokens end, and
                                    rows stranded with it count as lost
  muster nodes reinstate gpu-17     undo that, or a replacement
  muster nodes replace OLD NEW      a board was swapped

A node is named by host name, by id, or by the beginning of its id."""

_STATES = ("live", "silent", "expected", "decommissioned", "replaced")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    parser.add_argument("--state", default="", choices=_STATES, metavar="STATE",
                        help=f"only nodes that are {', '.join(_STATES)}")  # fmt: skip
    deeds = parser.add_subparsers(dest="deed", metavar="{decommission,reinstate,replace}")
    for name, told in (("decommission", "let a node go: it will not come back"),
                       ("reinstate", "let a node speak again that was let go or replaced")):  # fmt: skip
        deed = add_word(deeds, name, told, f"muster nodes {name} gpu-17")
        deed.add_argument("node", help="its id or host name")
        add_yes_option(deed)
    replace = add_word(deeds, "replace", "say that NEW is the machine that was OLD",
                       "muster nodes replace gpu-17 4c4c4544-0051-3510-8052-b4c04f565031")  # fmt: skip
    replace.add_argument("node", metavar="OLD", help="id or host name of the node that is no more")
    replace.add_argument("successor", metavar="NEW", help="id or host name of the node that took its place")
    add_yes_option(replace)


def run(options: argparse.Namespace) -> int:
    """List, or decide."""
    client = client_of(options)
    views = client.get("/v1/nodes")
    if options.deed:
        return _decide(client, options, views)
    chosen = [view for view in views if options.state in ("", view["state"])]
    show(chosen, options.output, nodes_table(chosen, time.time_ns()))
    return 0


def nodes_table(views: list[dict[str, Any]], now_ns: int) -> Table:
    """Make the table of an answer of `/v1/nodes`."""
    table = Table(
        ["node", "state", "heard", "agent", "id"],
        empty="no nodes yet: start an agent with 'muster-agent', or 'muster up' on this machine",
    )
    for view in views:
        node = view["node"]
        heard = age(view["silent_s"]) if view["silent_s"] is not None else ago_ns(node["last_heard_ns"], now_ns)
        table.add(shorten(node["host_name"] or "-", 16), view["state"], heard, node["agent_version"], node["id"])
    return table


def _decide(client: Client, options: argparse.Namespace, views: list[dict[str, Any]]) -> int:
    id_ = node_id(views, options.node)
    name = names_of(views)[id_]
    if options.deed == "replace":
        known = {view["node"]["id"] for view in views} | {view["node"]["host_name"] for view in views}
        # the successor may not have spoken yet: then it is an id to come
        new = node_id(views, options.successor) if options.successor in known else options.successor
        question, path = f"{name} ends, and {options.successor} takes its place. Its tokens end.", f"replace/{new}"
    elif options.deed == "decommission":
        question = f"{name} will not be heard any more: its tokens end, and rows stranded with it count as lost."
        path = "decommission"
    else:
        question, path = "", "reinstate"
    if question and not confirm(f"{question} Go on?", yes=options.yes):
        return EXIT_FAILED
    decided = client.post(f"/v1/nodes/{id_}/{path}", None)
    done = {"decommission": "decommissioned", "reinstate": "reinstated: it needs a token ('muster token enrol')",
            "replace": f"replaced by {decided['replaced_by']}"}[options.deed]  # fmt: skip
    show(decided, options.output, Table([], empty=f"{name} is {done}"))
    return 0
