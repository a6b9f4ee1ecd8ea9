"""The units as they are shipped, started by a real systemd: with every restriction in force rows come."""

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compose.booted import PATIENCE, UNITS, Booted, missing
from tests.needs import unmet
from tests.ports import free_port

pytestmark = pytest.mark.slow

AGENT, AGGREGATOR = "muster-agent.service", "muster-aggregator.service"
ADDRESS = f"127.{os.getpid() >> 16 & 0x7F}.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF or 1}"
"""One that no other run of this test has: a port below 1024 cannot be chosen."""
AGENT_TOML = """
[agent]
node_id = "node-17"
[publish]
aggregators = ["http://127.0.0.1:{port}"]
enrolment_token = "file:/etc/muster/enrolment-token"
[collectors.host]
interval_seconds = 1
[collectors.syslog]
interval_seconds = 1
udp = "{address}:514"
[collectors.push]
path = "/run/muster/push.sock"
group = "muster-push"
"""
MUSTER = ("env", "MUSTER_DATA_DIR=/var/lib/muster-aggregator", "/opt/muster/bin/muster")


def until(what: str, look: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.3)
    return found


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """Installed as docs/install.md says, on one machine: aggregator, then an agent that enrols."""
    if reason := missing():
        unmet(reason)
    with Booted(tmp_path_factory.mktemp("booted")) as booted:
        for name in (AGENT, AGGREGATOR):
            booted.write(f"/etc/systemd/system/{name}", (UNITS / name).read_text())
        done = booted.run("systemd-sysusers", UNITS / "muster.sysusers")
        assert 0 == done.returncode, done.stderr
        port = free_port()
        booted.write("/etc/muster-aggregator/aggregator.toml", f'[aggregator]\nlisten = "127.0.0.1:{port}"\n')
        booted.systemctl("daemon-reload")
        started = booted.systemctl("start", AGGREGATOR)
        assert 0 == started.returncode, booted.console
        token = booted.run(*MUSTER, "token", "enrol", "--subject", "node-17", "-o", "json")
        assert 0 == token.returncode, token.stderr
        booted.write("/etc/muster/enrolment-token", json.loads(token.stdout)["secret"], "600")
        booted.write("/etc/muster/agent.toml", AGENT_TOML.format(port=port, address=ADDRESS), "600")
        started = booted.systemctl("start", AGENT)
        assert 0 == started.returncode, booted.console
        yield booted


def rows(machine: Booted, *words: str) -> list[dict[str, Any]]:
    done = machine.run(*MUSTER, "query", *words, "-o", "json")
    if done.returncode != 0:
        return []
    found = json.loads(done.stdout)
    return [dict(zip([column["name"] for column in found["columns"]], row, strict=True))
            for row in zip(*found["data"], strict=True)]  # fmt: skip


def test_both_say_themselves_that_they_are_ready(machine: Booted) -> None:
    for unit in (AGENT, AGGREGATOR):
        assert ("active", "running", "0") == tuple(
            machine.show(unit, name) for name in ("ActiveState", "SubState", "NRestarts")
        ), machine.console


def test_what_the_node_sees_arrives(machine: Booted) -> None:
    until("the load", lambda: rows(machine, "load", "--last"))
    shown = until("file systems", lambda: rows(machine, "file_system", "--last"))
    assert "/" in {row["mountpoint"] for row in shown}


def test_mounts_are_those_of_the_machine_and_not_those_of_the_unit(machine: Booted) -> None:
    """In the unit everything is read-only."""
    shown = until(
        "file systems", lambda: [row for row in rows(machine, "file_system", "--last") if row["mountpoint"] == "/"]
    )
    assert not any(row.get("read_only") for row in shown)


def test_syslog_comes_in_by_its_own_port_and_the_kernel_log_is_read(machine: Booted) -> None:
    def listening() -> dict[str, bool]:
        return {row["listener"]: row["listening"] for row in rows(machine, "syslog", "listening", "--last")}

    found = until("the listeners", listening)
    assert found[f"udp:{ADDRESS}:514"]
    assert found.get("kmsg", True), "where there is one"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"<13>app: said to port 514", (ADDRESS, 514))
    until("the line", lambda: rows(machine, "log", "message", "--contains", "said to port 514"))


def test_programs_of_the_group_push_and_others_do_not(machine: Booted) -> None:
    until("the socket", lambda: machine.run("test", "-S", "/run/muster/push.sock").returncode == 0)
    told = machine.run("stat", "-c", "%a %U %G", "/run/muster/push.sock").stdout.strip()
    assert "660 root muster-push" == told
    push = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/muster/push.sock');"
        " s.sendall(b'shipped depth=5i\\nsync\\n'); print(s.makefile().readline())"
    )
    for group, fits in (("muster-push", True), ("nogroup", False)):
        done = machine.run("setpriv", "--reuid=nobody", f"--regid={group}", "--clear-groups", "--no-new-privs",
                           "/opt/muster/bin/python", "-c", push)  # fmt: skip
        assert fits == ("ok rows=1" in done.stdout), done.stderr
    until("what was pushed", lambda: rows(machine, "shipped", "--last"))


@pytest.mark.parametrize(
    ("unit", "user", "capabilities"),
    [(AGENT, 0, {"SYS_ADMIN", "SYSLOG", "DAC_READ_SEARCH", "SYS_PTRACE", "NET_ADMIN", "NET_BIND_SERVICE"}),
     (AGGREGATOR, None, set())],
)  # fmt: skip
def test_restrictions_are_in_force(machine: Booted, unit: str, user: int | None, capabilities: set[str]) -> None:
    process = machine.show(unit, "MainPID")
    text = machine.run("cat", f"/proc/{process}/status").stdout
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert ("1", "2") == (status["NoNewPrivs"], status["Seccomp"])
    assert (user == 0) == (status["Uid"].split()[0] == "0")
    bits = {1: "DAC_OVERRIDE", 2: "DAC_READ_SEARCH", 10: "NET_BIND_SERVICE", 12: "NET_ADMIN", 16: "SYS_MODULE",
            19: "SYS_PTRACE", 21: "SYS_ADMIN", 34: "SYSLOG"}  # fmt: skip
    held = int(status["CapBnd"], 16)
    assert capabilities == {name for bit, name in bits.items() if held >> bit & 1}
    assert len(capabilities) == held.bit_count()
    mounts = machine.run("cat", f"/proc/{process}/mounts").stdout.splitlines()
    root = next(line.split()[3].split(",") for line in mounts if line.split()[1] == "/")
    assert "ro" in root


def test_with_the_drop_in_for_claims_hooks_may_write_what_they_must(machine: Booted) -> None:
    folder = f"/etc/systemd/system/{AGENT}.d"
    machine.write(f"{folder}/claims.conf", (UNITS / f"{AGENT}.d/claims.conf").read_text())
    machine.systemctl("daemon-reload")
    assert 0 == machine.systemctl("restart", AGENT).returncode
    process = machine.show(AGENT, "MainPID")
    held = int(re.search(r"CapBnd:\t(\w+)", machine.run("cat", f"/proc/{process}/status").stdout)[1], 16)  # type: ignore[index]
    assert held & (1 << 16)
    assert held & (1 << 21), "and what the unit itself gives"
    mounts = machine.run("cat", f"/proc/{process}/mounts").stdout.splitlines()
    of = {line.split()[1]: line.split()[3].split(",")[0] for line in mounts}
    assert ("rw", "ro") == (of["/sys"], of["/"])
    machine.run("rm", f"{folder}/claims.conf")
    machine.systemctl("daemon-reload")


def test_a_restart_keeps_the_folder_of_the_push_socket(machine: Booted) -> None:
    """Containers have it mounted."""
    before = machine.run("stat", "-c", "%i", "/run/muster").stdout
    assert 0 == machine.systemctl("restart", AGENT).returncode
    assert before == machine.run("stat", "-c", "%i", "/run/muster").stdout
    assert 0 == machine.systemctl("reload", AGENT).returncode
    assert "active" == machine.show(AGENT, "ActiveState")


def test_an_agent_that_hangs_is_started_again(machine: Booted) -> None:
    machine.write(f"/etc/systemd/system/{AGENT}.d/soon.conf", "[Service]\nWatchdogSec=3\nTimeoutAbortSec=1\n")
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", AGENT)
    process = machine.show(AGENT, "MainPID")
    time.sleep(6)
    assert process == machine.show(AGENT, "MainPID"), "one that runs is left alone"
    machine.run("kill", "-STOP", process)
    until("another process", lambda: machine.show(AGENT, "MainPID") not in (process, "0"))
    machine.wait_for(AGENT, "ActiveState", "active")


def test_one_whose_configuration_is_wrong_is_not_started_again_and_says_why(machine: Booted, tmp_path: Path) -> None:
    machine.write("/etc/muster/agent.toml", "[agnet]\n")
    machine.systemctl("restart", AGENT)
    assert "failed" == machine.wait_for(AGENT, "ActiveState", "failed")
    assert "78" == machine.show(AGENT, "ExecMainStatus")
    time.sleep(4)
    assert "failed" == machine.show(AGENT, "ActiveState")
