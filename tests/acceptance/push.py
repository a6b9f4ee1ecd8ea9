"""Issue 5, checkpoint 6: programs of a node push metrics, events and devices; what systemd does with services is told.

Each part has a Muster of its own. Requirements: R001-2, R001-3, R001-11.
"""

import json
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.acceptance.stage import PATIENCE, FailedError, Muster, check, main, say, stage, until
from tests.collectors.service.real_systemd import RealSystemd, missing

Part = Callable[[Path], None]

CONFIG: Final = """
[agent]
only = ["host", "push"]
[collectors.push]
interval_seconds = 1
max_rows_per_second = {rate}
levels = {{ "noise_*" = "debug" }}
"""
ROWS: Final = 500


def script(folder: Path) -> None:
    """Show every part."""
    for part in PARTS:
        part(folder / part.__name__)


def _up(muster: Muster) -> Path:
    """Start it, and give the socket."""
    path = muster.data_dir / "push.sock"
    muster.start("up", "--quiet")
    muster.ready()
    until("the socket", path.exists)
    return path


def _push(path: Path, text: str) -> list[str]:
    """Push as the shell does; give the answers."""
    if shutil.which("socat"):
        done = subprocess.run(["socat", "-t", "30", "-", f"UNIX:{path}"], input=text, capture_output=True, text=True,
                              timeout=PATIENCE, check=True)  # fmt: skip
        return done.stdout.splitlines()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        sock.sendall(text.encode())
        sock.shutdown(socket.SHUT_WR)
        data = b""
        while more := sock.recv(1 << 16):
            data += more
    return data.decode().splitlines()


def _rows(muster: Muster, measurement: str, *more: str) -> list[dict[str, Any]]:
    """Give the rows of a measurement; none while nobody has heard of it."""
    try:
        return muster.rows(measurement, "--limit", "10000", *more)
    except FailedError as error:
        if "no measurement" not in str(error):
            raise
        return []


def _events(muster: Muster, type_: str) -> list[dict[str, Any]]:
    return [row for row in muster.rows("event") if row["type"] == type_]


# -- metrics --


def metrics(folder: Path) -> None:
    """A line of the shell is a row; what is wrong with one is answered, counted, told, and harms no other."""
    with stage(folder, CONFIG.format(rate=1000)) as muster:
        path = _up(muster)
        check(0o660 == stat.S_IMODE(path.stat().st_mode), "the socket is for its user and group alone")
        answers = _push(path, "my_app,worker=3 queue_depth=5i\n")
        check(answers == ["accepted rows=1 refused=0 limited=0"], f"a line is taken: {answers[0]}")
        [row] = until("the row", lambda: _rows(muster, "my_app"))
        found = (row["worker"], row["queue_depth"], type(row["queue_depth"]))
        check(found == ("3", 5, int), f"'muster query my_app' shows it, filed under {row['device']}")
        text = 'my_app,worker=4 queue_depth=6i,busy=t,load=0.5,state="\\"a\\", b" 1700000000000000000\n'
        _push(path, text)
        [row] = until("the second", lambda: [row for row in _rows(muster, "my_app") if row["worker"] == "4"])
        found_more = tuple(row[name] for name in ("busy", "load", "state", "source_time_ns"))
        check(found_more == (True, 0.5, '"a", b', 1700000000000000000), "numbers, truths, texts and times are kept")
        _refused(muster, path)
        _push(path, "noise_of_it a=1\n" * 7)
        balance = muster.balance(wait=PATIENCE)
        check(balance["closed"], "the balance closes")
        debug = [line for line in balance["lines"] if (line["row_class"], line["level"]) == ("telemetry", "debug")]
        check(
            sum(line["filtered_at_source"] for line in debug) >= 7 and not _rows(muster, "noise_of_it"),
            "what is of a level not in force is left out, and counted",
        )


def _refused(muster: Muster, path: Path) -> None:
    wrong = (
        "my_app,worker=5 queue_depth=NaN\ncpu usage_ratio=1\nmy_app,node=other queue_depth=1i\nmy_app queue_depth=1\n"
    )
    answers = _push(path, wrong + "my_app,worker=5 queue_depth=7i\n")
    for answer in answers[:-1]:
        say(f"answered: {answer}")
    places = [answer.split(": ")[0] for answer in answers[:-1]]
    check(
        places == ["error 1:29 value", "error 2:1 name", "error 3:8 name", "error 4:8 type"],
        "NaN, Muster's own table, another node, and another type are refused with line and column",
    )
    check(answers[-1] == "accepted rows=1 refused=4 limited=0", "and the line beside them is taken")
    until("the count", lambda: sum(row["lines_total"] for row in _rows(muster, "push_refused", "--last")) >= 4)
    say("they are counted by pusher and reason (push_refused)")
    until("the events", lambda: len(_events(muster, "push.refused")) >= 3)
    say("and told, once for each pusher and reason (push.refused)")


# -- the disk --


def durable(folder: Path) -> None:
    """What `sync` said `ok` to is there after the agent was killed at that very moment."""
    with stage(folder, CONFIG.format(rate=100_000)) as muster:
        path = _up(muster)
        text = "".join(f"orders,till={number % 5} number={number}i\n" for number in range(ROWS))
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(path))
            sock.sendall(text.encode() + b"sync\n")
            answer = sock.makefile("rb").readline().decode().strip()
            muster.child("collectors.main").send_signal(signal.SIGKILL)
        check(answer == f"ok rows={ROWS} refused=0 limited=0", f"sync is answered: {answer}")
        until("every row", lambda: len(_rows(muster, "orders")) == ROWS)
        numbers = sorted(row["number"] for row in _rows(muster, "orders"))
        check(numbers == list(range(ROWS)), f"the agent is killed at that moment, and all {ROWS} rows are there, once")
        until("the socket again", lambda: _answers(path))
        _push(path, 'orders number="seven"\nsync\n')  # the new agent does not know what it was
        _push(path, "pears number=7i\nsync\n")
        until("the neighbour", lambda: _rows(muster, "pears"))
        balance = muster.balance(wait=PATIENCE)
        check(balance["closed"], "a type that no store can take costs its own batch alone; the balance closes")
        check(ROWS == len(_rows(muster, "orders")), "and nothing of it is stored")


def _answers(path: Path) -> bool:
    try:
        return bool(_push(path, "# hello\n"))
    except (OSError, subprocess.CalledProcessError):
        return False


# -- limits --


def limits(folder: Path) -> None:
    """A program that is mad costs nobody else anything, and every row of it is accounted for."""
    with stage(folder, CONFIG.format(rate=10)) as muster:
        path = _up(muster)
        answers = _push(path, "mad a=1i\n" * 5000)
        taken, limited = (int(word.partition("=")[2]) for word in (answers[-1].split()[1], answers[-1].split()[3]))
        check(taken + limited == 5000 and 100 <= taken < 5000, f"of 5000 rows at once: {answers[-1]}")
        [event] = until("the event", lambda: _events(muster, "push.limited"))
        say(f"told as an event: {event['message']}")
        until("the count", lambda: any(row["limited_total"] == limited for row in _rows(muster, "push", "--last")))
        say(f"counted: push.limited_total is {limited}")
        until("the rows", lambda: len(_rows(muster, "mad")) == taken)
        check(muster.balance(wait=PATIENCE)["closed"], "the balance closes: what was left out is filtered")


# -- events and devices --


def events_and_devices(folder: Path) -> None:
    """Events are events as any other; a device that is described comes and goes."""
    with stage(folder, CONFIG.format(rate=1000)) as muster:
        path = _up(muster)
        said = {"type": "backup.failed", "message": "no room", "severity": "error", "detail": {"left_bytes": 5}}
        _push(path, json.dumps({"event": said}) + "\n")
        [row] = until("the event", lambda: _events(muster, "backup.failed"))
        detail = json.loads(row["detail"])
        check(
            (3, 5) == (row["severity"], detail["left_bytes"]), f"an event, by {row['device']} of user {detail['user']}"
        )
        part = {"vendor": "Acme", "model": "Hub 8", "serial": "7"}
        device = {"id": "roof", "part": part, "capabilities": {"channels": 8}}
        _push(path, json.dumps({"device": device}) + "\nroof,device=roof temperature_celsius=21.5\n")
        found = until("the device", lambda: muster.ask("devices", "--kind", "sensor-hub"))
        check("Hub 8" in json.dumps(found), "'muster devices' shows what was described")
        until("its row", lambda: [row for row in _rows(muster, "roof") if row["device"].endswith("/roof")])
        say("and its rows are filed under it")
        _push(path, json.dumps({"device": device | {"capabilities": {"channels": 16}}}) + "\n")
        until("the change", lambda: '"channels": 16' in json.dumps(muster.ask("devices", "--kind", "sensor-hub")))
        say("a capability that changes is seen")
        _push(path, json.dumps({"device": {"id": "cellar", "expires_seconds": 2}}) + '\n{"withdraw": "roof"}\n')
        for type_ in ("push.device.described", "push.device.withdrawn", "push.device.expired"):
            until(type_, lambda type_=type_: _events(muster, type_))  # type: ignore[misc]
            say(f"told as an event: {type_}")
        until("its end", lambda: "live" not in _reaches(muster))
        say("what was withdrawn, or is silent for too long, is absent")
        wrong = _push(path, json.dumps({"device": {"id": "mine", "kind": "gpu"}}) + "\n")
        check(wrong[0].startswith("error 1:"), f"a device that claims could be given is refused: {wrong[0]}")
        check(muster.balance(wait=PATIENCE)["closed"], "the balance closes")


def _reaches(muster: Muster) -> set[str]:
    return {device["reach"] for device in muster.ask("devices", "--kind", "sensor-hub")}


# -- services --

UNITS: Final = {
    "steady.service": "ExecStart=sleep 1000",
    "mad.service": "ExecStart=sh -c 'sleep 0.2; exit 3'\nRestart=always\nRestartSec=100ms",
    "broken.service": "ExecStart=sh -c 'exit 7'",
}
IN_A_NAMESPACE: Final = (
    "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && ln -s {socket} /run/systemd/private"
    " && exec {python} -P -m collectors.main"
)
"""A machine that this systemd runs, as far as the agent can see."""


def services(folder: Path) -> None:
    """What a real systemd does with its services is told: up, down, failed, new, restarted."""
    if reason := missing():
        say(f"left out on this machine: {reason}; the tests of the collector speak to a systemd that is made")
        return
    config = '[agent]\nonly = ["service"]\n[collectors.service]\ninterval_seconds = 1\nrows_every_seconds = 1\n'
    with RealSystemd(folder / "systemd", UNITS) as systemd, stage(folder, config) as muster:
        muster.start("aggregator")
        muster.ready()
        _start_agent(muster, systemd)
        until("the counts", lambda: _rows(muster, "systemd"))
        systemd.ask("start", "steady.service")
        systemd.ask("start", "mad.service")
        systemd.ask("start", "broken.service")
        for word, unit in (("new", "steady"), ("up", "steady"), ("failed", "broken"), ("restarted", "mad")):
            say(until(f"{word} {unit}", lambda word=word, unit=unit: _told(muster, word, unit)))  # type: ignore[misc]
        systemd.ask("stop", "steady.service")
        say(until("down", lambda: _told(muster, "down", "steady")))
        rows = until("rows", lambda: {row["unit"]: row for row in _rows(muster, "service", "--last")})
        check(
            (rows["mad.service"]["restarts_total"] or 0) > 0, "'muster query service' shows how often one was restarted"
        )
        check(not _told(muster, "down", "mad"), "and one that systemd starts again by itself is never told as down")
        check(muster.balance(wait=PATIENCE)["closed"], "the balance closes")


def _start_agent(muster: Muster, systemd: RealSystemd) -> None:
    command = IN_A_NAMESPACE.format(socket=systemd.socket, python=sys.executable)
    with muster.log_path.open("ab") as log:
        muster.processes["agent"] = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", command], env=muster.env, stdout=log, stderr=log, cwd=muster.folder
        )


def _told(muster: Muster, word: str, unit: str) -> str:
    """Give what was told of a unit; "" when it was not."""
    rows = _events(muster, f"systemd.unit.{word}")
    return next((row["message"] for row in rows if json.loads(row["detail"])["unit"] == f"{unit}.service"), "")


PARTS: Final[tuple[Part, ...]] = (metrics, durable, limits, events_and_devices, services)

if __name__ == "__main__":
    sys.exit(main(script))
