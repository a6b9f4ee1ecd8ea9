"""Checkpoint 4, the agent: whatever becomes of it or of its aggregator, no row is unaccounted for.

A third party's distribution is installed beside Muster; nothing of Muster is changed for it. That its collectors keep
nobody from being in time is in `in_time`. Requirements: R001-9, R001-15, R003-1.
"""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.acceptance.stage import PATIENCE, Muster, check, main, say, stage, until
from tests.certificates import Authority
from tests.needs import REPOSITORY

VILLAINS = Path(__file__).parent / "villains" / "acme_villains.py"
NAMES = ("honest", "blocked", "raising", "flooding", "garbage")
BARE = """
[agent]
node_id = "node-a"
only = ["host", "acme_honest"]
[collectors.host]
interval_seconds = 0.5
[collectors.acme_honest]
interval_seconds = 0.25
"""
CROWD = BARE.replace(
    'only = ["host", "acme_honest"]',
    'only = ["host", "acme_honest", "acme_blocked", "acme_raising", "acme_flooding", "acme_garbage"]',
) + "".join(f"[collectors.acme_{name}]\ninterval_seconds = 0.5\ntimeout_seconds = 1\n" for name in NAMES[1:])


def install(folder: Path) -> str:
    """Install the third party's distribution into a folder of its own; give what PYTHONPATH must hold."""
    site = folder / "site"
    metadata = site / "acme_villains-1.2.3.dist-info"
    metadata.mkdir(parents=True)
    (site / "acme_villains.py").write_text(VILLAINS.read_text())
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-villains\nVersion: 1.2.3\n")
    entries = "".join(f"acme_{name} = acme_villains:{name.capitalize()}\n" for name in NAMES)
    (metadata / "entry_points.txt").write_text(f"[muster.collectors]\n{entries}")
    return f"{site}:{REPOSITORY}"


def script(folder: Path) -> None:
    """Install, try out, raise the level, kill, go away and come back, encrypt."""
    env = {"PYTHONPATH": install(folder)}
    with stage(folder / "alone", BARE, env) as muster:
        tried_out(muster)
    with stage(folder / "crowd", CROWD, env) as muster:
        muster.start("aggregator")
        muster.ready()
        muster.start("agent")
        levels(muster)
        succession(muster)
        away(muster)
    with stage(folder / "tls", BARE, env) as muster:
        encrypted(folder / "tls", muster)


def tried_out(muster: Muster) -> None:
    """`--test` and `--once`, and what is installed."""
    listed = muster.start("agent-list", "collectors")
    check(listed.wait(30) == 0 and "acme-villains 1.2.3" in muster.log(), "a third party's collectors are listed")
    before = len(muster.log())
    tested = muster.start("agent-test", "--test", "--only", "acme_honest", "--only", "host")
    check(tested.wait(60) == 0, "`muster-agent --test` collects once")
    printed = muster.log()[before:].splitlines()
    tables = {json.loads(line)["measurement"] for line in printed if line.startswith('{"') and '"measurement"' in line}
    check({"acme", "cpu", "memory"} <= tables, "it prints every row of ours and of the third party's collector")
    check(not (muster.data_dir / "agent" / "spool.db").exists(), "it keeps nothing")
    once = muster.start("agent-once", "--once", env={"MUSTER_PUBLISH__TIMEOUT_SECONDS": "1"})
    check(once.wait(60) == 1, "`--once` without an aggregator fails, and keeps the rows")
    muster.start("aggregator")
    muster.ready()
    check(muster.start("agent-once", "--once").wait(60) == 0, "`--once` with one collects, publishes and leaves")
    until("both runs' rows", lambda: len(muster.rows("acme", "read_ns")) >= 2)
    rows = muster.rows("acme", "read_ns")
    check(len(rows) == 2, "the rows of both runs are there, each once")
    until("what became of all rows", lambda: muster.balance()["closed"])
    say("the balance closes over both runs")


def levels(muster: Muster) -> None:
    """What is above the level in force is counted and left out, until a grant admits it."""
    until("rows of what is not above it", lambda: _newest(muster))
    until("what was left out", lambda: any(line["filtered_at_source"] for line in muster.balance()["lines"]))
    check(not _details(muster), "what is above the level in force is counted, and not sent")
    began = time.monotonic()
    granted = muster.run("verbosity", "set", "node-a", "detailed", "--for", "1m", "--collector", "acme_honest")
    check(granted.returncode == 0, "`muster verbosity set` raises it")
    until("rows that the grant admits", lambda: _details(muster))
    say(f"rows that only the grant admits came after {time.monotonic() - began:.1f} s")


def _details(muster: Muster) -> list[dict[str, Any]]:
    """Give the rows that have a value of the level detailed."""
    listed = muster.ask("query", "acme", "--list")
    if not listed or not any(field["name"] == "detail_ns" for field in listed[0]["fields"]):
        return []
    return [row for row in muster.rows("acme", "detail_ns", "--limit", "100") if row["detail_ns"] is not None]


def succession(muster: Muster) -> None:
    """A run that was killed is succeeded by the next at once; what it left in the spool is sent under its numbers."""
    log_before = muster.log()
    epochs = re.findall(r"agent_started .*epoch=([0-9a-f]+)", log_before)
    agent = muster.processes["agent"]
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait()
    muster.processes.pop("agent")
    muster.start("agent")
    began = time.monotonic()
    again = until("the next run", lambda: re.findall(r"agent_started .*epoch=([0-9a-f]+)", muster.log())[len(epochs) :])
    check(again[-1] not in epochs, "a new run has an epoch of its own")
    before = time.monotonic_ns()
    until("rows of the new run", lambda: any(row["read_ns"] > before for row in _newest(muster)), 25)
    check(time.monotonic() - began < 25, "it takes its predecessor's place at once, not after 30 s of silence")
    check(muster.balance(wait=PATIENCE)["closed"], "after SIGKILL the balance closes over both epochs")


def _newest(muster: Muster) -> list[dict[str, Any]]:
    return _read(muster, "20")


def _read(muster: Muster, limit: str) -> list[dict[str, Any]]:
    """Give the newest rows that have a reading; what only the level detailed shows stands in rows of its own."""
    found = muster.rows("acme", "read_ns", "--limit", limit, "--order", "newest")
    return [row for row in found if row["read_ns"] is not None]


def away(muster: Muster) -> None:
    """While the aggregator is away the agent asks less and less often, keeps everything, and comes back by itself."""
    muster.stop("aggregator")
    before, at = muster.log().count("publish_failed"), time.monotonic_ns()
    time.sleep(6)
    left = time.monotonic_ns()
    failed = muster.log().count("publish_failed") - before
    check(failed <= 3, f"6 s without an aggregator cost {failed} lines of log, not one for each try")
    muster.start("aggregator")
    muster.ready()
    missed = until(
        "rows of the time without it",
        lambda: [row for row in _read(muster, "10000")
                 if at < row["read_ns"] < left],
    )  # fmt: skip
    say(f"{len(missed)} rows were read while it was away, and are stored")
    check(muster.balance(wait=PATIENCE)["closed"], "the balance closes after the aggregator was away")


def encrypted(folder: Path, muster: Muster) -> None:
    """TLS to an authority that is pinned, and a token that was got for a one-time one."""
    authority = Authority(folder / "ca")
    certificate, key = authority.certificate()
    aggregator = {"MUSTER_AGGREGATOR__TLS_CERTIFICATE": str(certificate), "MUSTER_AGGREGATOR__TLS_KEY": str(key)}
    muster.start("aggregator", env=aggregator)
    muster.ready()
    enrolment = muster.ask("token", "enrol", "--subject", "node-a")
    node = {
        "MUSTER_DATA_DIR": str(folder / "node"),
        "MUSTER_PUBLISH__AGGREGATORS": f'["https://127.0.0.1:{muster.port}"]',
        "MUSTER_PUBLISH__ENROLMENT_TOKEN": _secret(enrolment),
    }
    wrong = Authority(folder / "wrong-ca", "somebody else")
    muster.start("agent-wrong", env=node | {"MUSTER_PUBLISH__CA_FILE": str(wrong.ca_file)})
    until("the refusal", lambda: "CERTIFICATE_VERIFY_FAILED" in muster.log())
    say("a certificate of another authority than the pinned one is refused, and told")
    muster.stop("agent-wrong")
    check(not muster.rows("acme", "read_ns"), "nothing was sent to it")
    muster.start("agent", env=node | {"MUSTER_PUBLISH__CA_FILE": str(authority.ca_file)})
    until("rows over TLS", lambda: muster.rows("acme", "read_ns"))
    token = folder / "node" / "agent" / "token"
    check(
        token.stat().st_mode & 0o777 == 0o600, "over TLS with its own token, kept in a file of mode 0600, rows arrive"
    )
    check(muster.balance(wait=PATIENCE)["closed"], "rows that waited for the right certificate are all there")


def _secret(enrolment: dict[str, Any]) -> str:
    return next(value for value in enrolment.values() if isinstance(value, str) and value.startswith("mse_"))


if __name__ == "__main__":
    sys.exit(main(script))
