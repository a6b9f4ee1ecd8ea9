"""`muster nodes`: who is there, and what operators decide about them."""

import argparse
import time
from typing import Any, Final
from urllib.parse import quote

from aggregator.cli import add_examples, add_output_option, add_server_options, add_word
from aggregator.cli.asking import add_yes_option, confirm
from aggregator.cli.client import Client, client_of
from aggregator.cli.drain import add_wait_option, claims_table, wait_for_leaving
from aggregator.cli.fence import add_fence_word, fence
from aggregator.cli.names import names_of, node_id
from aggregator.cli.render import Table, number, show
from aggregator.cli.words import age, ago_ns, seconds_of, shorten
from aggregator.ledger.words import AMOUNTS
from collectors.process import EXIT_FAILED

_EPILOG = """examples:
  muster nodes                      every node, and when it was last heard
  muster nodes --state silent       those that should speak and do not
  muster nodes cordon gpu-17 --why 'bad fan'
  muster nodes drain gpu-17 --why 'new kernel' --wait
  muster nodes maintenance gpu-17 --for 2h --why 'new fans'
  muster nodes uncordon gpu-17      end a cordon or a drain
  muster nodes rename gpu-17 rack4-top
  muster nodes decommission gpu-17  it will not come back: its tokens end, rows
                                    stranded with it count as lost, its claims
                                    are orphans
  muster nodes room                 what claims hold of each, and what is left
  muster nodes orphans              claims on nodes that are gone, or silent
  muster nodes reinstate gpu-17     undo that, or a replacement
  muster nodes replace OLD NEW      a board was swapped: devices and claims of
                                    OLD go on as NEW's

A machine that gets another host name, or another system, keeps its id, and
with it devices and claims: nothing has to be done.
A node is named by host name, by id, or by the beginning of its id."""

_STATES = ("live", "silent", "expected", "decommissioned", "replaced")
_ENDED: Final = frozenset({"decommissioned", "replaced"})
_ORDERS: Final = (("draining", "draining"), ("cordoned", "cordoned"))
_WORDS: Final = {
    "cordon": ("let nothing new go to a node; what is there stays", "cordon gpu-17 --why 'bad fan'"),
    "uncordon": ("end a cordon, and a drain", "uncordon gpu-17"),
    "drain": ("tell what is on a node to leave; nothing new goes there", "drain gpu-17 --why 'new kernel' --wait"),
    "maintenance": ("nothing new goes there, and nobody is woken for it", "maintenance gpu-17 --for 2h"),
    "rename": ("call a node by a name of yours; '' ends that", "rename gpu-17 rack4-top"),
    "decommission": ("let a node go: it will not come back", "decommission gpu-17"),
    "reinstate": ("let a node speak again that was let go or replaced", "reinstate gpu-17"),
    "replace": ("say that NEW is the machine that was OLD", "replace gpu-17 4c4c4544-0051-3510-8052-b4c04f565031"),
}
"""What an operator can say about a node: what it means, and an example."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    parser.add_argument("--state", default="", choices=_STATES, metavar="STATE",
                        help=f"only nodes that are {', '.join(_STATES)}")  # fmt: skip
    deeds = parser.add_subparsers(dest="deed", metavar="WORD", title="words")
    for name, (told, example) in _WORDS.items():
        deed = add_word(deeds, name, told, f"muster nodes {example}")
        deed.add_argument("node", metavar="OLD" if name == "replace" else "NODE", help="its id or host name")
        if name in ("cordon", "drain", "maintenance"):
            deed.add_argument("--why", default="", help="the reason; those concerned are told")
        if name in ("decommission", "reinstate", "replace"):
            add_yes_option(deed)
        _own_options(name, deed)
    add_fence_word(deeds)
    add_word(deeds, "room", "what claims hold of vCPUs, memory and disk, and what is left", "muster nodes room")
    add_word(deeds, "orphans", "list the claims on nodes that are decommissioned or silent", "muster nodes orphans")


def _own_options(name: str, deed: argparse.ArgumentParser) -> None:
    if name == "drain":
        add_wait_option(deed)
    elif name == "maintenance":
        when = deed.add_mutually_exclusive_group(required=True)
        when.add_argument("--for", dest="time", default="", metavar="TIME", help="how long: 30m, 2h, 1d")
        when.add_argument("--end", action="store_true", help="it is over")
    elif name == "rename":
        deed.add_argument("name", metavar="NAME", help="what to call it; '' for what it calls itself")
    elif name == "replace":
        deed.add_argument("successor", metavar="NEW", help="id or host name of the node that took its place")


def run(options: argparse.Namespace) -> int:
    """List, or decide."""
    client = client_of(options)
    if options.deed == "orphans":
        found = client.get("/v1/orphans")
        show(found, options.output, orphans_table(found))
        return 0
    views = client.get("/v1/nodes")
    if options.deed == "room":
        show({view["node"]["id"]: amounts_of(view) for view in views}, options.output, room_table(views))
        return 0
    if options.deed == "fence":
        id_ = node_id(views, options.node)
        return fence(client, options, id_, names_of(views)[id_])
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
        spare=("agent", "id"),
    )
    for view in sorted(views, key=lambda view: view["node"]["host_name"] or view["node"]["id"]):
        node = view["node"]
        heard = age(view["silent_s"]) if view["silent_s"] is not None else ago_ns(node["last_heard_ns"], now_ns)
        table.add(shorten(node["host_name"] or "-", 16), state_of(view), heard, node["agent_version"], node["id"])
    return table


def amounts_of(view: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Give what is consumed and what remains on a node, by amount; {} of one of which nobody knows."""
    amounts: dict[str, dict[str, int]] = (view.get("life") or {}).get("amounts", {})
    return amounts


def room_table(views: list[dict[str, Any]]) -> Table:
    """Make the table of what claims hold of each node, and what is left."""
    table = Table(["node", "vcpus left", "memory left", "disk left"],
                  empty="no nodes yet: start an agent with 'muster-agent', or 'muster up' on this machine")  # fmt: skip
    for view in sorted(views, key=lambda view: view["node"]["host_name"] or view["node"]["id"]):
        amounts = amounts_of(view)
        row = [shorten(view["node"]["host_name"] or view["node"]["id"], 16)]
        for name in AMOUNTS:
            unit = "bytes" if name.endswith("_bytes") else ""
            left, limit = (amounts.get(name, {}).get(word) for word in ("left", "limit"))
            row.append(number(left, unit) if limit is None else f"{number(left, unit)} of {number(limit, unit)}")
        table.add(*row)
    return table


def state_of(view: dict[str, Any]) -> str:
    """Give the state of a node, or what was ordered of one that is live, or what it is marked with."""
    life = view.get("life") or {}
    if view["state"] != "live":
        return str(view["state"])
    if life.get("maintenance_until_ns"):
        return "maintenance"
    marks = ", ".join(sorted(life.get("marks") or ()))
    return next((word for name, word in _ORDERS if life.get(name)), f"live, {marks}" if marks else "live")


def orphans_table(found: list[dict[str, Any]]) -> Table:
    """Make the table of claims without a node."""
    table = Table(["claim", "tenant", "for", "state", "node", "why", "devices"], empty="no claim is without a node",
                  spare=("for", "devices"))  # fmt: skip
    for one in found:
        name = shorten(one["node_name"] or one["node"], 16)
        table.add(one["claim"], one["tenant"], shorten(one["consumer"], 20), one["state"], name, one["why"],
                  len(one["devices"]))  # fmt: skip
    return table


def _decide(client: Client, options: argparse.Namespace, views: list[dict[str, Any]]) -> int:
    id_ = node_id(views, options.node)
    name = names_of(views)[id_]
    state = next(view["state"] for view in views if view["node"]["id"] == id_)
    question, path, body = _asked(options, views, name)
    if question and not confirm(f"{question} Go on?", yes=options.yes):
        return EXIT_FAILED
    decided = client.post(f"/v1/nodes/{quote(id_, safe='')}/{path}", body)
    if options.deed == "drain" and options.wait is not None:
        return wait_for_leaving(client, options, id_, name)
    empty = f"{name} is {_done(options, decided)}"
    if options.deed == "reinstate" and state not in _ENDED:
        empty = f"{name} is {state}: it was neither decommissioned nor replaced"
    claims = decided.get("claims", []) if options.deed in ("drain", "decommission", "replace") else []
    show(decided, options.output, [Table([], empty=empty), *([claims_table(claims)] if claims else [])])
    return 0


def _asked(options: argparse.Namespace, views: list[dict[str, Any]], name: str) -> tuple[str, str, object]:
    """Give what to ask first ("" for nothing), the end of the path, and the body."""
    if options.deed == "replace":
        known = {view["node"]["id"] for view in views} | {view["node"]["host_name"] for view in views}
        # the successor may not have spoken yet: then it is an id to come
        new = node_id(views, options.successor) if options.successor in known else options.successor
        question = f"{name} ends, and {options.successor} takes its place, with devices and claims. Its tokens end."
        return question, f"replace/{quote(new, safe='')}", None
    if options.deed == "decommission":
        question = (
            f"{name} will not be heard any more: its tokens end, rows stranded with it count as lost, and claims on"
            " it stay until they are released or fenced."
        )
        return question, options.deed, None
    bodies: dict[str, object] = {"reinstate": None, "uncordon": None}
    if options.deed == "maintenance":
        bodies["maintenance"] = {"seconds": 0.0 if options.end else seconds_of(options.time), "why": options.why}
    elif options.deed == "rename":
        bodies["rename"] = {"name": options.name}
    elif options.deed in ("cordon", "drain"):
        bodies[options.deed] = {"why": options.why}
    return "", options.deed, bodies[options.deed]


def _done(options: argparse.Namespace, decided: dict[str, Any]) -> str:
    match options.deed:
        case "reinstate":
            return "reinstated: it needs a token ('muster token enrol')"
        case "replace":
            return f"replaced by {decided['replaced_by']}"
        case "maintenance":
            return "in maintenance no more" if options.end else f"in maintenance for {options.time}"
        case "rename":
            return f"called {decided['name'] or 'by its id'}"
        case "drain":
            left = len(decided.get("claims", []))
            return (
                "drained: no claim holds anything of it" if not left else f"draining: {left} must leave, and are told"
            )
        case "cordon":
            return "cordoned"
        case "uncordon":
            return "open again"
        case _:
            return "decommissioned"
