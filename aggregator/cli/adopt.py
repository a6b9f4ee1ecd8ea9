"""`muster adopt`: a fleet that is in use already comes under Muster."""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.asking import add_yes_option, confirm
from aggregator.cli.client import Client, client_of
from aggregator.cli.render import Table, show
from aggregator.cli.words import WordError, ago_ns, expression_of, shorten
from collectors.process import EXIT_FAILED
from schemas.device import DeviceKind
from schemas.errors import near_names

_SINGLY = 20
"""So many waiting devices have a line each."""
_EPILOG = """examples:
  muster adopt                            what waits, and why
  muster adopt --records web1.xml web2.xml --node gpu-17
                                          domains of libvirt ('virsh dumpxml')
  muster adopt --records pci.csv compute_nodes.csv servers.json
                                          rows of nova's tables, and servers
  muster adopt --list-records             what was handed in, and when
  muster adopt --drop-record nova         it holds no more
  muster adopt --attest --statement 'wiped with nvme format, 2 May' \\
      --kind nvme --node gpu-17           your word makes them free
  muster adopt --attest --statement 'new' --where 'device.part.model == "H200"'

A record says all that its source has in use: hand it in again whenever it
changes. What it names is foreign; what it names no more is let go, and dirty.

Files of nova: table pci_devices as CSV or JSON, with the hypervisor_hostname
joined, or with the table compute_nodes in a file of its own; 'openstack server
list --all-projects -f json' gives instances their names."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    deed = parser.add_mutually_exclusive_group()
    deed.add_argument("--attest", action="store_true", help="vouch for devices that nobody uses: they are free")
    deed.add_argument("--records", nargs="+", type=Path, metavar="FILE", help="hand in what another scheduler uses")
    deed.add_argument("--list-records", action="store_true", help="list what was handed in")
    deed.add_argument("--drop-record", default="", metavar="NAME", help="let a record hold no more")
    parser.add_argument("device", nargs="*", help="with --attest: these, whatever made them dirty")
    parser.add_argument("--statement", default="", help="with --attest: what was done, and how it is known")
    parser.add_argument("--node", default="", help="only of this node; with --records: whose they are")
    parser.add_argument("--kind", action="append", default=[], choices=[kind.value for kind in DeviceKind],
                        metavar="KIND", help="only of this kind; may be repeated")  # fmt: skip
    parser.add_argument("--where", default=None, metavar="EXPRESSION", help="only where this is true")
    parser.add_argument("--source", default="", metavar="NAME", help="with --records: what to call the record")
    parser.add_argument("--ahead", action="store_true", help="with --records: also of nodes that are yet to come;"
                        " what is first seen there is meant")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    add_yes_option(parser)


def run(options: argparse.Namespace) -> int:
    """List what waits, or do something about it."""
    client, options.where = client_of(options), expression_of(options.where)
    if options.attest:
        return _attest(client, options)
    if options.device:
        raise WordError("devices are named with --attest")
    if options.records:
        return _hand_in(client, options)
    if options.drop_record:
        return _drop(client, options)
    if options.list_records:
        found = client.get("/v1/records")
        show(found, options.output, _records_table(found))
        return 0
    if options.statement:
        raise WordError("--statement goes with --attest")
    kinds = [("kind", kind) for kind in options.kind]
    asked = urlencode([("node", options.node), ("where", options.where), *kinds])
    answer = client.get(f"/v1/adoption?{asked}")
    show(answer["devices"], options.output, waiting_table(answer["devices"], wide=options.wide))
    return 0


def waiting_table(devices: list[dict[str, Any]], *, wide: bool = False) -> Table:
    """Make the table of what waits to be adopted; of many, a line for those of a node that wait for one reason."""
    if len(devices) > _SINGLY and not wide:
        return _groups(devices)
    table = Table(["device", "node", "address", "state", "why"], spare=["address"],
                  empty="nothing waits: every device is accounted for")  # fmt: skip
    for one in devices:
        why = one["why"] if wide else shorten(one["why"], 60)
        name = one["node_name"] or one["node"]
        table.add(one["device"], name if wide else shorten(name, 16), one["address"] or "-", one["lifecycle"], why)
    return table


def _groups(devices: list[dict[str, Any]]) -> Table:
    counts = Counter((one["node_name"] or one["node"], one["kind"], one["lifecycle"], one["why"]) for one in devices)
    title = (
        f"{len(devices)} devices wait; '-o wide' lists each. 'muster clean' has its node clean what is dirty,"
        " 'muster adopt --attest --statement TEXT --node NODE --kind KIND' takes your word."
    )
    table = Table(["devices", "node", "kind", "state", "why"], title=title, spare=["state"])
    for (node, kind, lifecycle, why), count in counts.items():
        table.add(count, shorten(node, 16), kind, lifecycle, shorten(why, 40))
    return table


def _attest(client: Client, options: argparse.Namespace) -> int:
    wanted = {
        "statement": options.statement,
        "devices": options.device,
        "node": options.node,
        "kinds": options.kind,
        "where": options.where,
    }
    asked = client.post("/v1/adoption/attest", {**wanted, "dry_run": True})
    would = asked["would"]
    devices = "1 device" if len(would) == 1 else f"{len(would)} devices"
    if options.dry_run:
        show({"would": would}, options.output, _names(would, f"{devices} would be free"))
        return 0
    if not confirm(f"You vouch that {devices} are clean: they will be given to anybody. Go on?", yes=options.yes):
        return EXIT_FAILED
    # exactly those that were shown, as they were: what came meanwhile is not vouched for
    body = {"statement": options.statement, "devices": would, "as_of": asked["sequence"]}
    answer = client.post("/v1/adoption/attest", body)
    done = answer["attested"]
    show(answer, options.output, Table([], empty=f"{len(done)} free: recorded with your statement"))
    return 0


def _names(names: list[str], title: str) -> Table:
    table = Table(["device"], title=title)
    for name in names:
        table.add(name)
    return table


def _hand_in(client: Client, options: argparse.Namespace) -> int:
    from aggregator.cli.records import read

    record = read(options.records, options.node)
    source = options.source or (f"libvirt:{options.node}" if record.kind == "libvirt" else "nova")
    body = {"kind": record.kind, "uses": record.uses, "as_of_ns": record.as_of_ns, "node": options.node,
            "known_only": not options.ahead, "dry_run": options.dry_run}  # fmt: skip
    answer = client.call("PUT", f"/v1/records/{quote(source, safe='')}", body, {})
    if options.dry_run:
        show(answer, options.output, _uses_table(answer["named"], f"record {source}"))
        return 0
    tables = [_records_table([answer])]
    if unknown := answer["unknown_uses"]:
        tables.append(_uses_table(unknown, f"no device is known at {len(unknown)} of these places; what is first seen"
                                  " there is meant:"))  # fmt: skip
    show(answer, options.output, tables)
    return 0


def _uses_table(uses: list[dict[str, Any]], title: str) -> Table:
    table = Table(["node", "address", "device", "user"], title=title, empty="nothing is in use")
    for use in uses:
        table.add(use["node_name"] or use["node"], use["address"], use["device"] or "unknown", use["user"])
    return table


def _drop(client: Client, options: argparse.Namespace) -> int:
    known = {one["source"]: one for one in client.get("/v1/records")}
    if options.drop_record not in known:
        near = near_names(options.drop_record, set(known)) or " 'muster adopt --list-records' lists them"
        raise WordError(f"no record of the name {options.drop_record!r} was handed in.{near}")
    if not confirm(f"What only {options.drop_record} has in use will be dirty. Go on?", yes=options.yes):
        return EXIT_FAILED
    answer = client.delete(f"/v1/records/{quote(options.drop_record, safe='')}")
    show(answer, options.output, Table([], empty=f"{answer['source']} holds no more; it named {answer['uses']}"))
    return 0


def _records_table(found: list[dict[str, Any]]) -> Table:
    import time

    table = Table(["record", "kind", "in use", "unknown", "made", "handed in by"], empty="no records were handed in",
                  spare=("kind", "handed in by"))  # fmt: skip
    for one in found:
        made = ago_ns(one["as_of_ns"], time.time_ns())
        table.add(one["source"], one["kind"], one["uses"], one["unknown"], made, one["who"])
    return table
