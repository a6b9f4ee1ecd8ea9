"""`muster devices`: what there is, whose it is, and how it fares."""

import argparse
import sys
from typing import Any
from urllib.parse import quote, urlencode

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.changes import entries_table, watch
from aggregator.cli.client import Client, ServerError, client_of
from aggregator.cli.query import clock_time
from aggregator.cli.render import CELL_WIDTH, Table, show
from aggregator.cli.words import WordError, expression_of, shorten
from aggregator.ledger.givable import GIVEN, never_given
from aggregator.ledger.words import Lifecycle, Reach
from schemas.device import DeviceKind

_CLEAN = frozenset({Lifecycle.FREE.value, Lifecycle.RESERVED.value})
"""States in which the last proof still holds: nobody can have used the device since."""
_NOT_WATCHED = ("kind", "lifecycle", "variant", "where", "as_of", "history", "all")
"""Options of the list that a watch does not have."""
_OF_LISTS = ("node", "kind", "lifecycle", "variant", "where")
"""Options that choose what is listed, and mean nothing where one device is named."""
_EPILOG = """examples:
  muster devices                         every device that can be given away
  muster devices --all                   fans, bridges and timers too
  muster devices --node gpu-17 --kind gpu
  muster devices --lifecycle dirty --lifecycle quarantined
  muster devices --where 'device.part.model.contains("H100")'
  muster devices --as-of 7d              what there was a week ago
  muster devices gpu-7f3k2ma             one device, with where it has been
  muster devices gpu-7f3k2ma --history   everything that happened to it
  muster devices --watch --node gpu-17   what happens from now on, one line each

states:
  dirty        nobody's, and nobody has shown that it is clean: so is whatever
               is seen first. 'muster clean' has its node clean it, 'muster
               adopt --attest' takes your word
  free         clean: 'muster place' or 'muster claims' may give it
  reserved, provisioning, assigned
               a claim's: granted, being handed over, confirmed by its node
  suspect      a claim's whose lease ran out; it may be in use still
  cleaning     its node is at it; what comes of it is free or quarantined
  quarantined  a clean failed: people look at it
  foreign      in use, but not through Muster ('muster adopt' says by whom)
  host         the machine's own, or what it needs: its root disk, its uplink
  retired      taken out for good
and behind it, unless the device is there:
  stale        its node is silent
  absent       its node speaks, and it is gone
  unverified   it has not shown since a boot that it is the same part"""
_PAGE = 5000
_LIVE = Reach.LIVE.value
_UNCUT = CELL_WIDTH


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    parser.add_argument("device", nargs="?", default="", help="one device, by its id")
    parser.add_argument("--node", default="", help="only of this node, by id or host name")
    parser.add_argument("--kind", action="append", default=[], choices=[kind.value for kind in DeviceKind],
                        metavar="KIND", help="only of this kind; may be repeated")  # fmt: skip
    parser.add_argument("--lifecycle", action="append", default=[], choices=[one.value for one in Lifecycle],
                        metavar="STATE", help="only in this state; may be repeated")  # fmt: skip
    parser.add_argument("--variant", default="", help="only of this variant")
    parser.add_argument("--where", default=None, metavar="EXPRESSION", help="only where this is true")
    parser.add_argument("--as-of", default="", metavar="WHEN",
                        help="as it was: a time, how long ago (7d), or a ledger sequence")  # fmt: skip
    parser.add_argument("--history", action="store_true", help="of one device: every entry of the ledger about it")
    parser.add_argument("--watch", action="store_true", help="show changes as they happen, until Ctrl-C")
    parser.add_argument("--all", action="store_true", help="what nobody could be given too: fans, bridges, timers")


def run(options: argparse.Namespace) -> int:
    """List, show one, or watch."""
    client, options.where = client_of(options), expression_of(options.where)
    if options.watch:
        narrower = [f"--{name.replace('_', '-')}" for name in _NOT_WATCHED if getattr(options, name)]
        if narrower:
            raise WordError(f"--watch shows what happens from now on, of a device or a --node, without {narrower[0]}")
        return watch(client, options.output, node=options.node, device=options.device)
    if options.device and (narrower := [f"--{name}" for name in _OF_LISTS if getattr(options, name)]):
        raise WordError(f"{narrower[0]} chooses among devices: leave it out, or the device that is named")
    if options.history:
        if not options.device:
            raise ServerError("--history is of one device: name it")
        if options.as_of:
            raise WordError("--history shows every entry about the device, up to now: leave --as-of out")
        answer = client.get(f"/v1/devices/{quote(options.device, safe='')}/history")
        show(answer["entries"], options.output, entries_table(answer["entries"]))
        return 0
    if options.device:
        when = {"as_of": options.as_of} if options.as_of else {}
        answer = client.get(f"/v1/devices/{quote(options.device, safe='')}", **when)
        show(answer, options.output, _one(answer))
        return 0
    devices = _list(client, options)
    show(devices, options.output, devices_table(devices, wide=options.wide))
    return 0


def _list(client: Client, options: argparse.Namespace) -> list[dict[str, Any]]:
    asked = [("node", options.node), ("variant", options.variant)]
    asked += [("kind", kind) for kind in options.kind or ([] if options.all else sorted(kind.value for kind in GIVEN))]
    asked += [("lifecycle", one) for one in options.lifecycle]
    asked += [("where", options.where)] if options.where else []
    asked += [("as_of", options.as_of)] if options.as_of else []
    found: list[dict[str, Any]] = []
    after, untold = "", 0
    while True:
        answer = client.get("/v1/devices?" + urlencode([*asked, ("after", after), ("limit", _PAGE)]))
        found += answer["devices"]
        after = answer["next"]
        untold += answer.get("untold", 0)
        if options.as_of and asked[-1] != ("as_of", str(answer["sequence"])):
            asked[-1] = ("as_of", str(answer["sequence"]))  # the next page is of the same moment
        if not after:
            break
    if untold:
        devices = "1 device does" if untold == 1 else f"{untold} devices do"
        sys.stderr.write(f"muster: {devices} not say what --where asks about, and so neither fits nor fails to\n")
    if options.all or options.kind or options.lifecycle:
        return found
    return [one for one in found if not never_given(DeviceKind(one["kind"]), one["capabilities"])]


def devices_table(devices: list[dict[str, Any]], *, wide: bool = False) -> Table:
    """Make the table of devices; a wide one has ids, serial numbers and places too, and cuts nothing off."""
    more = ["kind", "node id", "variant", "serial", "uuid", "path"] if wide else []
    table = Table(
        ["device", "node", "model", "address", "group", "state", "claim", "marks", *more],
        empty="no devices: the agents' collectors have not described any yet, or none fits",
        spare=("group", "address", "model", "marks", "node"),
    )
    for one in devices:
        group, model = one["capabilities"].get("iommu_group"), one["part"].get("model", "") or "-"
        table.add(
            one["id"],
            shorten(one["node_name"] or one["node"], _UNCUT if wide else 16),
            shorten(model if wide else one["variant"] or model, _UNCUT if wide else 24),
            one["slot"].get("address", "") or one["slot"].get("location", "") or "-",
            "-" if group is None else str(group),
            one["lifecycle"] if one["reach"] == _LIVE else f"{one['lifecycle']}, {one['reach']}",
            one["claim"] or "-",
            ", ".join(dict.fromkeys(taint["rule"] for taint in one["taints"])) or "-",
            *(_more(one) if wide else ()),
        )
    return table


def _more(one: dict[str, Any]) -> tuple[str, ...]:
    part, slot = one["part"], one["slot"]
    told = (one["kind"], one["node"], one["variant"], part.get("serial"), part.get("uuid"), slot.get("path"))
    return tuple(word or "-" for word in told)


def _one(answer: dict[str, Any]) -> Table:
    device = answer["device"]
    table = Table([device["id"], ""], empty="")
    slot, part = device["slot"], device["part"]
    for name, value in (
        ("kind", device["kind"]),
        ("node", device["node_name"] or device["node"]),
        ("variant", device["variant"]),
        ("vendor", part.get("vendor")),
        ("model", part.get("model")),
        ("serial", part.get("serial")),
        ("uuid", part.get("uuid")),
        ("firmware", part.get("firmware")),
        ("location", slot.get("location")),
        ("address", slot.get("address")),
        ("path", slot.get("path")),
        ("state", device["lifecycle"]),
        ("reach", device["reach"]),
        ("claim", device["claim"] and f"{device['claim']} of {device['tenant']} ({device['mode']})"),
        ("clean by" if device["lifecycle"] in _CLEAN else "was clean by", _proof(device.get("evidence"))),
        ("together", ", ".join(device["together"])),
        ("excludes", ", ".join(device["excludes"])),
        *((f"mark {taint['rule']}", f"{taint['effect']}: {taint['evidence']}") for taint in device["taints"]),
        *sorted(device["capabilities"].items()),
        ("not reported", ", ".join(device["unsupported"])),
    ):
        if value not in (None, "", []):
            table.add(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
    times = answer.get("times_ns", {})
    for stay in answer["history"]["slot"]:
        until = "on" if stay["until"] is None else f"to {_moment(stay['until'], times)}"
        table.add("in this slot", f"{stay['device']} {stay['part']} from {_moment(stay['since'], times)} {until}")
    return table


def _proof(evidence: dict[str, Any] | None) -> str:
    """Say in a line what proves that a device is clean."""
    if evidence is None:
        return ""
    what = "its own readback" if evidence["readback"] else f"{evidence['ground']}: {evidence['statement']}"
    return f"{what} ({evidence['who']}, ledger {evidence['sequence']})"


def _moment(sequence: int, times: dict[str, int]) -> str:
    """Give the time of a ledger sequence, and the sequence: --as-of takes both."""
    time_ns = times.get(str(sequence))
    return f"ledger {sequence}" if time_ns is None else f"{clock_time(time_ns)} (ledger {sequence})"
