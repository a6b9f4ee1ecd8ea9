"""Checkpoint 8, balance and operation: nodes and takeover, configuration, health, metrics, and every command.

Requirements: R001-15, R001-16, R001-18, R003-1.
"""

import json
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from collectors.config import DEFAULT_COLLECTORS
from tests.acceptance.stage import PATIENCE, Muster, check, main, say, stage, until

CONFIG = """
[agent]
node_id = "alpha"
[collectors.host]
interval_seconds = 0.5
"""
BAD = """
[agent]
levle = "debug"
[spool]
max_bytes = "plenty"
[collectors.hots]
"""


def fetch(muster: Muster, path: str) -> tuple[int, str]:
    """Ask without a token."""
    try:
        with urllib.request.urlopen(muster.address + path, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def health(muster: Muster) -> None:
    """What probes and scrapers ask."""
    check(fetch(muster, "/healthz")[0] == 200, "/healthz answers")
    check(fetch(muster, "/readyz")[0] == 200, "/readyz says that it is ready")
    status, text = fetch(muster, "/metrics")
    check(status == 200 and "muster_balance_rows{" in text, "/metrics has the balance")
    promtool = shutil.which("promtool")
    if promtool:
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        check(done.returncode == 0, f"promtool finds nothing to say about the names {done.stdout}{done.stderr}".strip())
    else:
        say("promtool is not here: names were not checked (make test installs it)")
    status, text = fetch(muster, "/v1/nodes")
    check(status == 401 and json.loads(text)["code"] == "access.denied", "without a token: problem details, 401")


def commands(muster: Muster) -> None:
    """Every command prints a table and JSON, and succeeds."""
    for arguments in (
        ("nodes",),
        ("query",),
        ("query", "cpu", "--last"),
        ("balance",),
        ("collectors",),
        ("verbosity", "list"),
        ("quarantine", "list"),
        ("token", "list"),
    ):
        done = muster.run(*arguments)
        wide = max((len(line) for line in done.stdout.splitlines()), default=0)
        check(done.returncode == 0 and done.stdout.strip(), f"muster {' '.join(arguments)} ({wide} columns)")
        json.loads(muster.run(*arguments, "-o", "json").stdout)
    check("CPU" in muster.run("top", "--once").stdout.upper(), "muster top --once")
    tap = muster.run("tap", "cpu", "--count", "1")
    check(json.loads(tap.stdout)["measurement"] == "cpu", "muster tap")
    fares = until("reports of collectors", lambda: muster.ask("collectors", "alpha"))
    check("host" in json.dumps(fares) and "running" in json.dumps(fares), "muster collectors tells how they fare")


def takeover(muster: Muster) -> None:
    """One run of a node at a time: a restart goes on at once, and nothing is lost."""
    before = muster.ask("nodes")
    alpha = next(view for view in before if view["node"]["id"] == "alpha")
    check(alpha["state"] == "live", "the node is live")
    agent = muster.child("collectors.main")
    agent.send_signal(signal.SIGKILL)
    agent.wait(10)

    def moved() -> bool:
        now = next(view for view in muster.ask("nodes") if view["node"]["id"] == "alpha")
        return bool(now["node"]["epoch"] != alpha["node"]["epoch"])

    until("the new run to take over", moved)
    events = until("the event", lambda: muster.rows("event", "type", "--where", "node=alpha"))
    check("node.handover" in {row["type"] for row in events}, "a restarted agent takes over at once, with an event")
    check(muster.balance(wait=PATIENCE)["closed"], "and the balance closes over both runs")


def configuration(muster: Muster, folder: Path) -> None:
    """Exit 78 with file, line, remedy, near names; and SIGHUP."""
    bad = folder / "bad.toml"
    bad.write_text(BAD)
    done = muster.run("validate", "--config", str(bad))
    check(done.returncode == 78, "a bad configuration: exit status 78")
    text = done.stdout + done.stderr
    for line, near in ((3, "level"), (5, "max_bytes"), (6, "host")):
        check(f"{bad}:{line}" in text and near in text, f"told with line {line}, and {near!r} near it")
    exposed = {"MUSTER_LISTEN": "0.0.0.0:0"}
    for command, env in (("up", {}), ("aggregator", exposed)):
        done = muster.run(command, "--config", str(bad), env=env)
        check(done.returncode == 78, f"muster {command} refuses it likewise")
    done = muster.run("aggregator", env={"MUSTER_LISTEN": "0.0.0.0:0", "MUSTER_DATA_DIR": str(folder / "other")})
    check(done.returncode == 78 and "without TLS" in done.stderr, "listening beyond loopback without TLS is refused")
    done = muster.run("aggregator", env={"MUSTER_LISTEN": "127.0.0.1:0"})
    check(done.returncode == 78 and "another aggregator" in done.stderr, "a second aggregator on one folder: exit 78")
    check(muster.run("validate").returncode == 0, "a good configuration is good")

    muster.config.write_text(CONFIG + "[collectors.syslog]\nenabled = false\n")
    muster.child("collectors.main").send_signal(signal.SIGHUP)

    left = [name for name in DEFAULT_COLLECTORS if name != "syslog"]

    def without_syslog() -> bool:
        return f"reloaded collectors={left}" in muster.log()

    check(until("the reload", without_syslog), "SIGHUP reads the configuration again")


def script(folder: Path) -> None:
    """Go through all of it on one Muster."""
    with stage(folder / "one", CONFIG) as muster:
        muster.start("up")
        muster.ready()
        until("rows", lambda: muster.rows("cpu", "usage_ratio"))
        health(muster)
        commands(muster)
        takeover(muster)
        configuration(muster, folder)
        done = muster.run("doctor", "-o", "json")
        found = {one["name"]: one for one in json.loads(done.stdout)}
        failed = [one for one in found.values() if one["level"] == "fail"]
        check(done.returncode == (1 if failed else 0), "muster doctor fails exactly when something is missing")
        check(all(one["remedy"] for one in found.values() if one["level"] != "ok"), "and says how to get it")
        check(found["aggregator"]["level"] == "ok", "it finds the aggregator that answers")
        bundle = folder / "bundle.tar.gz"
        muster.run("doctor", "--bundle", str(bundle))
        check(bundle.exists() and bundle.stat().st_size > 500, "and packs a bundle for support")
    offline = Muster(folder / "offline")
    done = offline.run("collectors")
    check("host" in done.stdout, "muster collectors lists what is installed, even without a server")
    done = offline.run("nodes")
    check(done.returncode == 1 and "muster up" in done.stderr, "without a server: an error that says what to do")


if __name__ == "__main__":
    sys.exit(main(script))
