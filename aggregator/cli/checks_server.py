"""What `muster doctor` checks of a running aggregator, and of the configuration."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aggregator.cli.balance import counted_once
from aggregator.cli.checks import Check, Level
from aggregator.cli.client import Client, ServerError
from aggregator.cli.validate import Verdict, check
from aggregator.cli.words import age, ago_ns, shorten


def check_configuration(config: Path | None) -> tuple[Check, Verdict]:
    """Check the whole configuration; give the verdict too."""
    verdict = check(config, os.environ)
    where = str(config) if config else "defaults and environment"
    if verdict.problems:
        many = len(verdict.problems)
        found = f"{where}: {many} problem(s): {shorten(verdict.problems[0], 200)}"
        return Check("configuration", Level.FAIL, found, "'muster validate' lists them with remedies"), verdict
    if verdict.warnings:
        return Check("configuration", Level.WARN, f"{where}: {shorten(verdict.warnings[0], 200)}"), verdict
    return Check("configuration", Level.OK, f"{where}: good"), verdict


def answers(client: Client) -> bool:
    """Tell whether an aggregator answers at all."""
    try:
        return client.raw("GET", "/healthz").status == 200
    except ServerError:
        return False


def holder_of(folder: Path, root: Path = Path("/")) -> int | None:
    """Give the process that runs an aggregator on a data folder; None where there is none, or none to be seen.

    Reads who holds the folder's lock: to try the lock could be what refuses it to an aggregator that starts just then.
    Source: proc_locks(5); a holder outside this PID namespace has the number 0.
    """
    try:
        inode = (folder / "aggregator" / "lock").stat().st_ino
        lines = (root / "proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.split()
        if len(words) >= 6 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
            return int(words[4])
    return None


def check_server(client: Client, *, asked_for: bool, holder: int | None = None) -> Iterator[Check]:
    """Check that the aggregator answers, is ready, loses nothing and hears its nodes.

    `asked_for`: it was named; `holder`: the process of the one of this machine, where it runs.
    """
    if not answers(client):
        if holder is not None and not asked_for:
            yield Check("aggregator", Level.FAIL, f"process {holder} is one, and does not answer at {client.address}",
                        "it starts, hangs or has too much to do: its log says which; 'muster up' starts one again that"
                        " hangs for a minute")  # fmt: skip
            return
        yield Check("aggregator", Level.FAIL if asked_for else Level.WARN, f"none answers at {client.address}",
                    "start one with 'muster up' or 'muster aggregator', or name one with --server")  # fmt: skip
        return
    ready = client.raw("GET", "/readyz")
    if ready.status == 200:
        yield Check("aggregator", Level.OK, f"answers at {client.address}, and is ready")
    else:
        yield Check("aggregator", Level.FAIL, f"not ready: {ready.problem().get('detail', ready.status)}",
                    "rows are safe in the log meanwhile; the aggregator's log says why")  # fmt: skip
    for what in (_balance, _quarantine, _nodes, _refusals, _collectors):
        try:
            yield from what(client)
        except ServerError as error:
            remedy = "" if error.passing else "give a token with the scope read"
            yield Check(what.__name__.strip("_"), Level.WARN, str(error), remedy)


def _balance(client: Client) -> Iterator[Check]:
    lines = client.get("/v1/balance")["lines"]
    missing = sum(line["unaccounted"] for line in lines)
    once = counted_once(lines)
    numbered = sum(line["numbered"] for line in once)
    lost = sum(sum(line["dropped"].values()) + line["expired"] for line in once)
    if missing:
        yield Check("balance", Level.FAIL, f"{missing:,} of {numbered:,} rows are in no place at all",
                    "please report it with 'muster doctor --bundle FILE'; 'muster balance' has the lines")  # fmt: skip
        return
    yield Check("balance", Level.OK, f"closed: {numbered:,} rows, none unaccounted")
    if lost:
        yield Check("lost rows", Level.WARN, f"{lost:,} rows were dropped or expired, with reasons",
                    "'muster balance' says why: too little spool, or the aggregator was away too long")  # fmt: skip


def _quarantine(client: Client) -> Iterator[Check]:
    entries = client.get("/v1/quarantine", limit=1)
    if entries:
        remedy = "'muster quarantine list' shows them; upgrade the older side, or look at the publisher"
        found = f"batches could not be taken; the last: {shorten(entries[0]['reason'], 120)}"
        yield Check("quarantine", Level.WARN, found, remedy)


def _nodes(client: Client) -> Iterator[Check]:
    views = client.get("/v1/nodes")
    silent = [view for view in views if view["state"] == "silent"]
    if not silent:
        yield Check("nodes", Level.OK, f"{sum(view['state'] == 'live' for view in views):,} live, none silent")
        return
    nodes = [(view["node"], age(view["silent_s"])) for view in silent[:3]]
    names = ", ".join(f"{node['host_name'] or node['id']} ({silence})" for node, silence in nodes)
    yield Check("nodes", Level.WARN, f"{len(silent):,} silent: {names}",
                "see to their agents, or 'muster nodes decommission' those that will not come back")  # fmt: skip


_REFUSED: Final = {
    "node.contested": "two agents with one id, or a crash just now: 'muster query event' tells; give one its own"
                      " agent.node_id if it stays",
    "node.decommissioned": "'muster nodes reinstate' it, or stop its agent",
    "access.unknown": "'muster token list --dead' shows whether it ended; 'muster token enrol' makes a node another",
    "access.denied": "'muster token list' shows its scopes; 'muster token enrol' or 'create' makes one that fits",
    "access.scope": "choose another agent.node_id there",
}  # fmt: skip
"""By code, what to do about somebody who is refused."""


def _refusals(client: Client) -> Iterator[Check]:
    for one in client.get("/v1/refusals")[:5]:
        found = f"{one['who']}, {one['count']:,} times, last {ago_ns(one['last_ns'], time.time_ns())} ago: "
        yield Check(f"refused, {one['code'].rpartition('.')[2]}", Level.WARN, found + shorten(one["reason"], 200),
                    _REFUSED.get(one["code"], ""))  # fmt: skip


def _collectors(client: Client) -> Iterator[Check]:
    bad = [one for one in client.get("/v1/collectors")
           if one["state"] in ("backing_off", "misconfigured", "unavailable")]  # fmt: skip
    for one in bad[:5]:
        yield Check(f"{one['name']} on node", Level.WARN,
                    f"{one['state']} on {shorten(one['node'], 36)}: {shorten(one['last_error'], 160)}",
                    "'muster collectors' shows all of them")  # fmt: skip
