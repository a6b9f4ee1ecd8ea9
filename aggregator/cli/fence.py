"""`muster nodes fence`: say that nothing runs on a dead node, so that what claims had there can be cleaned."""

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from aggregator.cli import add_word
from aggregator.cli.asking import add_yes_option, confirm
from aggregator.cli.claims import claims_table
from aggregator.cli.client import Client, ServerError
from aggregator.cli.render import show
from aggregator.ledger.words import Reach
from collectors.process import EXIT_FAILED
from schemas.device import DeviceKind

_STATES = {"on": "On", "off": "Off", "powering_on": "PoweringOn", "powering_off": "PoweringOff", "paused": "Paused"}
"""States of `bmc.power_state` as Redfish writes them."""
_ABSENT = Reach.ABSENT.value
_MOST_BOARDS = 100
"""A machine has one BMC: of more than that, all that matters is that they are more."""


def add_fence_word(deeds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the word."""
    deed = add_word(deeds, "fence", "say that nothing runs on a dead node: its claims are over, their devices dirty",
                    "muster nodes fence gpu-17 --bmc",
                    "muster nodes fence gpu-17 --statement 'unplugged, I stand before it'",
                    "muster nodes fence gpu-17 --power Off")  # fmt: skip
    deed.add_argument("node", metavar="NODE", help="its id or host name")
    which = deed.add_mutually_exclusive_group(required=True)
    which.add_argument("--bmc", action="store_true", help="its BMC says that it is off, as somebody who polls it read")
    which.add_argument("--statement", default="", help="how it is known; recorded with your token's name")
    which.add_argument("--power", default="", metavar="STATE", help="the PowerState that its BMC answers now: Off")
    add_yes_option(deed)


def fence(client: Client, options: argparse.Namespace, node: str, name: str) -> int:
    """Say it."""
    question = f"{name}: its claims are over, and their devices go to whoever asks next. Does nothing run there?"
    read = _read_of(client, node, name) if options.bmc else None
    if not confirm(question, yes=options.yes):
        return EXIT_FAILED
    body: dict[str, Any] = {"statement": options.statement}
    if read is not None:
        body = {"power": read}
    elif options.power:
        power = {"kind": "bmc", "node": node, "power_state": options.power, "read_ns": time.time_ns()}
        body = {"power": power}
    elif not options.statement.strip():
        raise ServerError("--statement: say how it is known that nothing runs on the node")
    claims = client.post(f"/v1/nodes/{quote(node, safe='')}/fence", body)
    show(claims, options.output, claims_table(claims))
    return 0


def _read_of(client: Client, node: str, name: str) -> dict[str, Any]:
    """Give what the BMC of a node said last of its power, and when that was read. Raises ServerError where it did not.

    Its BMC is the one that the ledger has joined to it: what somebody calls a BMC who may not speak for one is none.
    """
    devices = client.get("/v1/devices", node=node, kind=DeviceKind.BMC.value, limit=_MOST_BOARDS)["devices"]
    joined = [one for one in devices if one["node"] == node and one["reach"] != _ABSENT]
    boards = list(dict.fromkeys(_boards(client, node)))
    if not boards or not joined:
        raise ServerError(f"no BMC is known that manages {name}: say how it is known, with --statement")
    polled = [board for subject, board in boards if subject != node]
    if len(polled) > 1 or len(joined) > 1:
        raise ServerError(
            f"more than one BMC says that it manages {name} ({', '.join(polled) or len(joined)}): one can be right, so"
            " none is believed; say how it is known, with --statement"
        )
    said = [told for subject, board in boards if (told := _power_of(client, node, subject, board)) is not None]
    if not said:
        named = ", ".join(board for _, board in boards)
        raise ServerError(f"the BMC of {name} ({named}) has not told of its power in the last 10 minutes")
    return next((told for told in said if told["power_state"] != "Off"), said[0])  # who says on is believed


def _power_of(client: Client, node: str, subject: str, board: str) -> dict[str, Any] | None:
    where = f"node={_quoted(subject)},device={_quoted(board)}"
    rows = client.get("/v1/query", measurement="bmc", fields="power_state", where=where, since="10m", order="newest",
                      limit=1)  # fmt: skip
    for row in _rows(rows):
        state = _STATES.get(str(row.get("power_state")), "")
        if state:
            return {"kind": "bmc", "node": node, "power_state": state, "read_ns": row["time"]}
    return None


def _boards(client: Client, node: str) -> Iterator[tuple[str, str]]:
    """Yield the BMCs whose newest document names a machine as theirs: of whom that was told, and how they are called.

    Either a BMC is a subject of its own, for which only who is entitled may speak, or the machine itself tells of its
    own. Other machines say nothing of this one's BMC.
    """
    found = client.get("/v1/query", measurement="capability", where="device=bmc:*", last="true", limit=10_000)
    for row in _rows(found):
        subject, board = str(row.get("node")), str(row["device"])
        try:
            told = json.loads(row.get("document") or "{}")
        except ValueError:
            continue
        of_a_bmc = told.get("kind") == "bmc" and told.get("capabilities", {}).get("system_uuid") == node
        if of_a_bmc and subject in (board, node):
            yield subject, board


def _quoted(text: str) -> str:
    """Give a text as a selector takes it as it is."""
    return json.dumps(text, ensure_ascii=False)


def _rows(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    names = [column["name"] for column in result["columns"]]
    for values in zip(*result["data"], strict=True):
        yield dict(zip(names, values, strict=True))
