"""`muster place`: claim devices by what they are; and if there is no place, see why not."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.client import ServerError, client_of
from aggregator.cli.names import node_names
from aggregator.cli.render import Table, show
from aggregator.cli.words import WordError
from collectors.process import EXIT_FAILED
from schemas.errors import near_names

_EPILOG = """examples:
  muster place --tenant blue --for vm-17 --need V100:2 --dry-run
  muster place --tenant blue --for vm-17 --package gpu_large
  muster place --tenant blue --for job-3 --need H100:8 --instances 64
  muster place --tenant blue --for vm-18 --need V100:2 --explain
  muster place --tenant blue --for vm-19 --need H100:1:driver:1g.10gb
  muster place --request wanted.json     all that POST /v1/place takes"""
REFUSED: Final = "placement.refused"
"""The code of a refusal that says what is in the way."""
_REFUSAL: Final = ("message", "conditions", "nearest", "blockers")
_OUTSIDE = frozenset({"lifecycle.foreign", "lifecycle.host"})
MODES = ("passthrough", "driver")
AFFINITIES = ("none", "prefer", "require")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    add_request_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be claimed, or why nothing can be")
    parser.add_argument("--explain", action="store_true", help="when there is no place, say what would have to change")
    parser.add_argument("--key", default="", help="Idempotency-Key: a repetition gives the same claim")


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """Add what a request is made of."""
    parser.add_argument(
        "--request", type=Path, metavar="FILE", help="a request as JSON; options go before what it says"
    )
    parser.add_argument("--tenant", default="", help="whose the claim will be")
    parser.add_argument("--for", dest="consumer", default="", metavar="CONSUMER", help="what it is for: a job, a VM")
    parser.add_argument("--package", default="", help="a package, instead of needs and amounts")
    parser.add_argument("--need", action="append", default=[], metavar="VARIANT[:COUNT[:MODE[:PROFILE]]]",
                        help="devices of a variant; may be repeated")  # fmt: skip
    parser.add_argument("--fitting", action="append", default=[], metavar="COUNT:EXPRESSION",
                        help="devices that an expression over device. fits; may be repeated")  # fmt: skip
    parser.add_argument("--amount", action="append", default=[], metavar="NAME=NUMBER",
                        help="vcpus, memory_bytes or disk_bytes of each instance; may be repeated")  # fmt: skip
    parser.add_argument("--instances", type=int, metavar="N", help="a gang: so many times, all or none")
    parser.add_argument("--per-node", type=int, metavar="N", help="the most instances on one node; default: 1")
    parser.add_argument("--isolation", choices=("own-group", "whole-group", "singleton"),
                        help="what happens to the rest of an IOMMU group; default: own-group")  # fmt: skip
    parser.add_argument("--strategy", choices=("least-stranded", "pack", "spread"), help="default: least-stranded")
    for name in ("numa", "pcie-root", "nvlink"):
        parser.add_argument(f"--{name}", choices=AFFINITIES, help=f"nearness by {name}")
    parser.add_argument("--where", default="", metavar="EXPRESSION", help="only nodes that it fits, over node.")
    parser.add_argument("--tolerate", action="append", default=[], metavar="RULE", help="put up with this mark")
    parser.add_argument("--lease", type=float, metavar="SECONDS", help="default: 3600")


def run(options: argparse.Namespace) -> int:
    """Place, and show the claim or the refusal."""
    client = client_of(options)
    body = request_of(options)
    body |= {"dry_run": options.dry_run, "explain": options.explain}
    headers = {"Idempotency-Key": options.key} if options.key else None
    try:
        told = client.call("POST", "/v1/place", body, {}, headers)
    except ServerError as error:
        if error.details.get("code") != REFUSED:
            raise
        told = {"placed": False, "message": str(error), **error.details}
    outcome = outcome_of(told, dry_run=options.dry_run)
    names = node_names(client) if options.output == "table" and outcome["placed"] else {}
    show(outcome, options.output, placed_tables(outcome, names))
    return 0 if outcome["placed"] else EXIT_FAILED


def outcome_of(told: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
    """Give an answer as programs get it, whatever it was: of `claim`, `instances` and `refusal` one is not null.

    `instances`: of a dry run, where each would go. `refusal`: `message`, `conditions`, `nearest`, and `blockers` where
    they were asked for (null: no change would help).
    """
    placed = bool(told.get("placed", True))
    return {
        "placed": placed,
        "dry_run": dry_run,
        "claim": told if placed and not dry_run else None,
        "instances": told["instances"] if placed and dry_run else None,
        "refusal": None if placed else {name: told[name] for name in _REFUSAL if name in told},
    }


def request_of(options: argparse.Namespace) -> dict[str, Any]:
    """Make a request of the options. Raises WordError."""
    made: dict[str, Any] = {}
    if options.request is not None:
        try:
            made = msgspec.json.decode(options.request.read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.MsgspecError) as error:
            raise WordError(f"--request {options.request}: {error}") from None
    for name in ("tenant", "consumer", "package", "instances", "per_node", "isolation", "strategy", "where"):
        value = getattr(options, name)
        if value not in (None, ""):
            made[name] = value
    needs = [_need(text) for text in options.need] + [_fitting(text) for text in options.fitting]
    if needs:
        made["needs"] = needs
    if options.amount:
        made["amounts"] = dict(_amount(text) for text in options.amount)
    nearness = {name: value for name in ("numa", "pcie_root", "nvlink") if (value := getattr(options, name))}
    if nearness:
        made["affinity"] = {**made.get("affinity", {}), **nearness}
    if options.tolerate:
        made["tolerations"] = options.tolerate
    if options.lease is not None:
        made["lease_seconds"] = lease_of(options.lease)
    _check(made)
    return made


def _check(made: dict[str, Any]) -> None:
    for option, name, told in (
        ("--tenant", "tenant", "whose the claim will be"),
        ("--for", "consumer", "what it is for"),
    ):
        if not made.get(name):
            raise WordError(f"{option}: say {told}")
    for name in ("instances", "per_node"):
        if isinstance(made.get(name), int) and made[name] < 1:
            raise WordError(f"--{name.replace('_', '-')}: {made[name]} is not above 0")


def lease_of(seconds: float) -> float:
    """Give the seconds of a lease back. Raises WordError below 1; how long it may be the aggregator says."""
    if not seconds >= 1:  # nan is not either
        raise WordError(f"--lease: {seconds:g} is no number of seconds from 1 on")
    return seconds


def _need(text: str) -> dict[str, Any]:
    variant, *more = text.split(":")
    if len(more) > 3:
        raise WordError(f"--need {text}: write VARIANT[:COUNT[:MODE[:PROFILE]]], such as V100:2")
    made: dict[str, Any] = {"variant": variant}
    if more and more[0]:
        made["count"] = _number(f"--need {text}", more[0])
    if len(more) > 1 and more[1]:
        if more[1] not in MODES:
            near = near_names(more[1], MODES) or f" There is: {', '.join(MODES)}."
            raise WordError(f"--need {text}: there is no mode {more[1]!r}.{near}")
        made["mode"] = more[1]
    if len(more) > 2 and more[2]:
        made["profile"] = more[2]
    return made


def _fitting(text: str) -> dict[str, Any]:
    count, colon, where = text.partition(":")
    if not colon:
        raise WordError(f"--fitting {text}: write COUNT:EXPRESSION, such as \"2:device.kind == 'gpu'\"")
    return {"where": where, "count": _number(f"--fitting {text}", count)}


def _amount(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    if not equals:
        raise WordError(f"--amount {text}: write NAME=NUMBER, such as vcpus=8")
    return name, _number(f"--amount {text}", number)


def _number(place: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise WordError(f"{place}: {text!r} is not a whole number above 0")
    return int(text)


def placed_tables(outcome: dict[str, Any], names: Mapping[str, str]) -> list[Table]:
    """Make the tables of a claim, of what would be claimed, or of a refusal; `names`: what to call nodes, by id."""
    if outcome["refusal"] is not None:
        return refusal_tables(outcome["refusal"])
    if outcome["instances"] is not None:
        table = Table(["instance", "node", "device", "mode"])
        for number, instance in enumerate(outcome["instances"], 1):
            for one in instance["devices"] or [{"device": None, "mode": None}]:
                table.add(number, names.get(instance["node"], instance["node"]), one["device"], one["mode"])
        return [table]
    claim = outcome["claim"]
    title = f"claim {claim['id']}, {claim['state']}"
    table = Table(["device", "node", "mode", "address"], title=title, empty=title)
    for held in claim["devices"]:
        table.add(held["device"], names.get(held["node"], held["node"]), held["mode"], held["address"])
    amounts = Table(["node", "amount", "number"])
    for node, mine in claim.get("amounts", {}).items():
        for name, number in mine.items():
            amounts.add(names.get(node, node), name, number)
    return [table, amounts] if claim.get("amounts") else [table]


def command_of(reason: str, edit: Mapping[str, Any]) -> str | None:
    """Give the command that makes a change, as far as one does; None where none is told."""
    device, node = edit.get("device", ""), edit.get("node", "")
    match edit.get("edit"):
        case "free-device" if reason in ("lifecycle.dirty", "lifecycle.quarantined"):
            return f"muster clean {device}"
        case "free-device" if reason == "lifecycle.cleaning":
            return "wait: it is being cleaned"
        case "free-device" if reason == "lifecycle.retired":
            return f"muster clean {device} --reinstate"
        case "free-device" if reason.startswith("lifecycle.") and reason not in _OUTSIDE:
            return "muster claims release"
        case "free-device":
            return "whoever uses it lets it go"
        case "open-node":
            deeds = {"node.maintenance": f"maintenance {node} --end", "node.retired": f"reinstate {node}"}
            return f"muster nodes {deeds.get(reason, f'uncordon {node}')}"
        case "remove-taint":
            return (
                f"muster untaint {device} {edit['rule']}" if device else f"muster untaint --node {node} {edit['rule']}"
            )
        case "set-quota":
            return f"muster quota set {edit['tenant']}, with {edit['name']}={edit['limit']}"
        case word:
            return word


def refusal_tables(told: dict[str, Any]) -> list[Table]:
    """Make the tables of a refusal: what each condition removed, and what would have to change."""
    counts = Table(["condition", "of", "removed", "left"], title=told["message"], empty=told["message"])
    for one in told.get("conditions", ()):
        counts.add(one["condition"], one["of"], one["removed"], one["left"])
    tables = [counts]
    if "blockers" in told:
        found = told["blockers"]
        if found is None:
            tables.append(Table([], empty="no change of what there is now would help; other nodes might"))
        else:
            changes = Table(["in the way", "change"], title="it would succeed if all of this changed:")
            for one in found:
                edit = one.get("edit", {})
                told_of = one.get("message") or f"{one['reason']}: {one.get('count')}"
                changes.add(told_of, command_of(one["reason"], edit))
            tables.append(changes)
    return tables
