"""`muster claims`: who has what, and asking for it, keeping it, giving it back."""

import argparse
import contextlib
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from aggregator.cli import add_examples, add_output_option, add_server_options, add_word
from aggregator.cli.asking import add_yes_option, confirm
from aggregator.cli.client import Client, ServerError, client_of
from aggregator.cli.names import node_id, node_names
from aggregator.cli.place import MODES, lease_of
from aggregator.cli.render import Table, show
from aggregator.cli.words import age
from aggregator.ledger.words import LIVE_CLAIMS, ClaimState
from collectors.process import EXIT_FAILED

_EPILOG = """examples:
  muster claims                                  every claim that you may see
  muster claims show c-2f9a81c0aa
  muster claims create gpu-7f3k2ma gpu-q2ax5ne --tenant blue --for vm-17
  muster claims create --tenant blue --for vm-17 --amount n1:vcpus=8
  muster claims provision c-2f9a81c0aa           let the nodes make it ready
  muster claims renew c-2f9a81c0aa --lease 7200
  muster claims release c-2f9a81c0aa             give it back, to be cleaned"""
_PAGE = 1000
"""Claims that are asked for at once."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    parser.add_argument("--tenant", default="", help="only of this tenant")
    parser.add_argument("--ended", action="store_true", help="those too that are over")
    deeds = parser.add_subparsers(dest="deed", metavar="{show,create,provision,renew,release}")
    add_word(deeds, "show", "show one claim", "muster claims show c-2f9a81c0aa").add_argument(
        "claim", help="id of the claim"
    )
    _create(add_word(deeds, "create", "claim devices by id, all or none",
                     "muster claims create gpu-7f3k2ma --tenant blue --for vm-17"))  # fmt: skip
    add_word(deeds, "provision", "let the nodes make a claim's devices ready",
             "muster claims provision c-2f9a81c0aa").add_argument("claim", help="id of the claim")  # fmt: skip
    renew = add_word(deeds, "renew", "begin the lease anew", "muster claims renew c-2f9a81c0aa --lease 7200")
    renew.add_argument("claim", help="id of the claim")
    renew.add_argument("--lease", type=float, default=None, metavar="SECONDS", help="default: as long as the last one")
    release = add_word(deeds, "release", "give a claim back", "muster claims release c-2f9a81c0aa")
    release.add_argument("claim", help="id of the claim")
    release.add_argument("--why", default="", help="for those who read the claim later")
    add_yes_option(release)


def _create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("devices", nargs="*", metavar="DEVICE", help="ids of devices")
    parser.add_argument("--tenant", dest="owner", required=True, help="whose it will be")
    parser.add_argument("--for", dest="consumer", required=True, metavar="CONSUMER", help="what it is for: a job, a VM")
    parser.add_argument("--mode", choices=MODES, default="passthrough",
                        help="passthrough (default): off the host's drivers; driver: the host keeps it")  # fmt: skip
    parser.add_argument("--amount", action="append", default=[], metavar="NODE:NAME=NUMBER",
                        help="vcpus, memory_bytes or disk_bytes of a node; may be repeated")  # fmt: skip
    parser.add_argument("--lease", type=float, default=3600.0, metavar="SECONDS", help="default: 3600")
    parser.add_argument("--tolerate", action="append", default=[], metavar="RULE", help="put up with this mark")
    parser.add_argument("--key", default="", help="Idempotency-Key: a repetition gives the same claim; default: random")
    parser.add_argument("--dry-run", action="store_true", help="only say whether it could be granted, and why not")


def run(options: argparse.Namespace) -> int:
    """List, or do one thing."""
    client = client_of(options)
    match options.deed:
        case None:
            claims = _every(client, tenant=options.tenant, ended="true" if options.ended else "")
            show(claims, options.output, claims_table(claims))
        case "show":
            claim = client.get(_path(options.claim))
            names = node_names(client) if options.output == "table" else {}
            show(claim, options.output, one_table(claim, names))
        case "create":
            return _ask(client, options)
        case "provision":
            claim = client.post(f"{_path(options.claim)}/provision", None)
            show(claim, options.output, Table([], empty=f"{options.claim} is {claim['state']}"))
        case "renew":
            body = {} if options.lease is None else {"lease_seconds": lease_of(options.lease)}
            claim = client.post(f"{_path(options.claim)}/renew", body)
            left = age(claim["left_seconds"] or 0.0)
            show(claim, options.output, Table([], empty=f"{options.claim} is {claim['state']}, for {left}"))
        case "release":
            return _release(client, options)
    return 0


def _release(client: Client, options: argparse.Namespace) -> int:
    before = client.get(_path(options.claim))["state"]
    if ClaimState(before) in LIVE_CLAIMS and not confirm(
        f"{options.claim} is given back, and cleaned. Go on?", yes=options.yes
    ):
        return EXIT_FAILED
    claim = client.call("DELETE", _path(options.claim), None, {"why": options.why})
    already = " already" if claim["state"] == before else ""
    show(claim, options.output, Table([], empty=f"{options.claim} is {claim['state']}{already}"))
    return 0


def _every(client: Client, **question: str) -> list[dict[str, Any]]:
    """Give all claims, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        page = client.get("/v1/claims", limit=str(_PAGE), after=found[-1]["id"] if found else "", **question)
        found += page
        if len(page) < _PAGE:
            return found


def _path(claim: str) -> str:
    return f"/v1/claims/{quote(claim, safe='')}"


def _ask(client: Client, options: argparse.Namespace) -> int:
    body = {
        "tenant": options.owner,
        "consumer": options.consumer,
        "devices": [{"device": name, "mode": options.mode} for name in options.devices],
        "amounts": _amounts(client, options.amount),
        "lease_seconds": lease_of(options.lease),
        "tolerations": options.tolerate,
        "dry_run": options.dry_run,
    }
    # what was not answered is asked again by hand: with the key of the first try it is no second claim
    key = options.key or f"cli-{secrets.token_hex(8)}"
    claim = client.call("POST", "/v1/claims", body, {}, headers={"Idempotency-Key": key})
    if options.dry_run:
        table = Table(["reason", "what is in the way"], empty="it could be granted")
        for one in claim["objections"]:
            table.add(one["reason"], one["message"])
        show(claim, options.output, table)
        return 0 if claim["granted"] else EXIT_FAILED
    show(claim, options.output, Table([], empty=f"{claim['id']} is {claim['state']}: muster claims provision"
                                      f" {claim['id']}"))  # fmt: skip
    return 0


def _amounts(client: Client, texts: list[str]) -> dict[str, dict[str, int]]:
    """Read amounts, by node id; who may not list nodes has them found by name where the claim is granted."""
    amounts: dict[str, dict[str, int]] = {}
    views: list[dict[str, Any]] | None = None
    if texts:
        with contextlib.suppress(ServerError):
            views = client.get("/v1/nodes")
    for text in texts:
        node, _, rest = text.rpartition(":")
        name, _, number = rest.partition("=")
        if not node or not name or not number.isdecimal():
            raise ServerError(f"--amount {text}: write NODE:NAME=NUMBER, such as n1:vcpus=8")
        amounts.setdefault(node if views is None else node_id(views, node), {})[name] = int(number)
    return amounts


def claims_table(claims: list[dict[str, Any]]) -> Table:
    """Make the table of claims."""
    table = Table(["claim", "tenant", "for", "state", "lease", "devices", "why"], empty="no claims",
                  spare=("why", "for", "lease"))  # fmt: skip
    for claim in claims:
        left = claim["left_seconds"]
        devices = [one["device"] for one in claim["devices"]]
        named = ", ".join(devices[:3]) + (f" and {len(devices) - 3} more" if len(devices) > 3 else "")
        table.add(
            claim["id"],
            claim["tenant"],
            claim["consumer"],
            claim["state"],
            "-" if left is None else age(left),
            named or "-",
            claim["reason"] or "-",
        )
    return table


def one_table(claim: dict[str, Any], names: Mapping[str, str]) -> Table:
    """Make the table of one claim; `names`: what to call nodes, by id."""
    table = Table([claim["id"], ""], empty="")
    left = claim["left_seconds"]
    for name, value in (
        ("tenant", claim["tenant"]),
        ("for", claim["consumer"]),
        ("state", claim["state"]),
        ("why", claim["reason"]),
        ("epoch", claim["epoch"]),
        ("lease", "" if left is None else f"{age(left)} left of {claim['lease_seconds']:g} s"),
        ("package", claim["package"]),
        ("asked by", claim["who"]),
    ):
        if value:
            table.add(name, str(value))
    for one in claim["devices"]:
        confirmed = "confirmed" if one["confirmed"] else "not confirmed"
        where = names.get(one["node"], one["node"])
        told = f"{one['mode']}, {one['lifecycle']}, {confirmed}, part {one['part']}, on {where}"
        table.add(one["device"], f"{one['address'] or '-'}: {told}")
    for node, amounts in claim["amounts"].items():
        told = ", ".join(f"{number} {name}" for name, number in amounts.items())
        gone = " until it was fenced" if node in claim.get("fenced", ()) else ""
        table.add(f"of {names.get(node, node)}", f"{told}{gone}")
    return table
