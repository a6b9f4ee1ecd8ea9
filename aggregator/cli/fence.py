"""`muster nodes fence`: say that nothing runs on a dead node, so that what claims had there can be cleaned."""

import argparse
import time
from typing import Any
from urllib.parse import quote

from aggregator.cli import add_word
from aggregator.cli.asking import add_yes_option, confirm
from aggregator.cli.claims import claims_table
from aggregator.cli.client import Client, ServerError
from aggregator.cli.render import show
from collectors.process import EXIT_FAILED


def add_fence_word(deeds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the word."""
    deed = add_word(deeds, "fence", "say that nothing runs on a dead node: its claims are over, their devices dirty",
                    "muster nodes fence gpu-17 --statement 'unplugged, I stand before it'",
                    "muster nodes fence gpu-17 --power Off")  # fmt: skip
    deed.add_argument("node", metavar="NODE", help="its id or host name")
    which = deed.add_mutually_exclusive_group(required=True)
    which.add_argument("--statement", default="", help="how it is known; recorded with your token's name")
    which.add_argument("--power", default="", metavar="STATE", help="the PowerState that its BMC answers now: Off")
    add_yes_option(deed)


def fence(client: Client, options: argparse.Namespace, node: str, name: str) -> int:
    """Say it."""
    question = f"{name}: its claims are over, and their devices go to whoever asks next. Does nothing run there?"
    if not confirm(question, yes=options.yes):
        return EXIT_FAILED
    body: dict[str, Any] = {"statement": options.statement}
    if options.power:
        power = {"kind": "bmc", "node": node, "power_state": options.power, "read_ns": time.time_ns()}
        body = {"power": power}
    elif not options.statement.strip():
        raise ServerError("--statement: say how it is known that nothing runs on the node")
    claims = client.post(f"/v1/nodes/{quote(node, safe='')}/fence", body)
    show(claims, options.output, claims_table(claims))
    return 0
