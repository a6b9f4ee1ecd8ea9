"""Checkpoint 5, the sources: this machine, its logs by every way, a simulated fleet that obeys physics, and an oracle.

Requirements: R001-8, R003-1 (first collectors: host, syslog), R000-4 (a fleet without hardware).
"""

import json
import os
import socket
import sys
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from collectors.oracle import check_of
from tests.acceptance.stage import PATIENCE, Muster, check, main, say, stage, until
from tests.ports import free_port

RATE = 200
CONFIG = """
[collectors.host]
interval_seconds = 0.5
[collectors.syslog]
udp = "127.0.0.1:{udp}"
tcp = "127.0.0.1:{tcp}"
unix_datagram = "{folder}/d"
unix_stream = "{folder}/s"
[collectors.oracle]
rate = {rate}
"""
OLD = "<165>Oct 11 22:14:15 web1 sshd[42]: {word} fails for root"
"""RFC 3164: local4, notice."""
NEW = '<163>1 2026-01-02T03:04:05.5Z db2 postgres 77 ID47 [ex@32473 k="v"] {word} fails for root'
"""RFC 5424: local4, error."""
FORMS = {"3164": OLD, "5424": NEW}
EXPECTED = {"3164": (5, "web1", "sshd", "42"), "5424": (3, "db2", "postgres", "77")}


def script(folder: Path) -> None:
    """Start everything at once, speak to it, and ask."""
    udp, tcp = free_port(), free_port()
    with stage(folder, CONFIG.format(udp=udp, tcp=tcp, folder=folder, rate=RATE)) as muster:
        muster.start("up", "--simulate", "2", "--quiet")
        muster.ready()
        host(muster)
        syslog(muster, folder, udp, tcp)
        oracle(muster)
        simulated(muster)
        check(muster.balance(wait=PATIENCE)["closed"], "the balance closes over all publishers")


def host(muster: Muster) -> None:
    """CPU, memory, disks, network; the machine's parts as documents."""
    for table, field, least in (
        ("cpu", "usage_ratio", 0.0),
        ("memory", "total_bytes", 100 << 20),
        ("load", "average_1m", 0.0),
        ("file_system", "size_bytes", 1 << 20),
        ("network", "receive_bytes_total", 0.0),
        ("system", "uptime_seconds", 1.0),
    ):
        rows = until(f"rows of {table}", lambda table=table: muster.rows(table, "--last"))  # type: ignore[misc]
        values = [row[field] for row in rows if row.get(field) is not None]
        check(values and min(values) >= least, f"{table}.{field} is read: {values[0]:g}")
    documents = until("documents", lambda: muster.rows("capability", "document"))
    kinds = {json.loads(row["document"])["kind"] for row in documents if row["document"]}
    check(kinds & {"cpu", "memory"}, f"the machine's own parts are described: {', '.join(sorted(map(str, kinds)))}")


def syslog(muster: Muster, folder: Path, udp: int, tcp: int) -> None:
    """Both formats by every way, and the kernel's log."""
    ways: dict[str, Callable[[bytes], None]] = {
        "udp": lambda text: _datagram(socket.AF_INET, ("127.0.0.1", udp), text),
        "tcp, line framing": lambda text: _stream(socket.AF_INET, ("127.0.0.1", tcp), text + b"\n"),
        "tcp, octet counting": lambda text: _stream(socket.AF_INET, ("127.0.0.1", tcp), b"%d %s" % (len(text), text)),
        "unix datagram": lambda text: _datagram(socket.AF_UNIX, f"{folder}/d", text),
        "unix stream": lambda text: _stream(socket.AF_UNIX, f"{folder}/s", text + b"\n"),
    }
    until("the listeners", lambda: (folder / "s").exists() and (folder / "d").exists())
    words = {}
    for number, (way, send) in enumerate(ways.items()):
        for name, form in FORMS.items():
            words[way, name] = word = f"acceptance-{number}-{name}"
            send(form.format(word=word).encode())
    for (way, name), word in words.items():
        [row] = until(f"{word} by {way}", lambda word=word: muster.rows("log", "--contains", word))  # type: ignore[misc]
        found = (row["severity"], row["host"], row["app"], row["process_id"])
        check(found == EXPECTED[name], f"RFC {name} by {way}: severity, host, app, process")
        check(row["message"] == f"{word} fails for root" and row["facility"] == 20, "its text and facility, whole")
    rows = muster.rows("log", "--contains", "acceptance-", "--severity", "error")
    check(len(rows) == len(ways), "`--severity error` finds those that are at least so bad, and no others")
    _kernel(muster)


def _kernel(muster: Muster) -> None:
    word = f"muster-acceptance-{os.getpid()}"
    try:
        with Path("/dev/kmsg").open("w") as kmsg:
            kmsg.write(f"<4>{word}: a word to the kernel's log\n")
    except OSError as error:
        say(f"(the kernel's log cannot be written here: {error.strerror})")
        return
    [row] = until(
        "the kernel's log",
        lambda: muster.rows("log", "--contains", "a word to the kernel", "--where", "source=kmsg")[:1],
    )
    check(row["severity"] == 4, "a record of the kernel's log, with its severity")


def _datagram(family: int, address: Any, text: bytes) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.sendto(text, address)


def _stream(family: int, address: Any, text: bytes) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.connect(address)
        sock.sendall(text)


def oracle(muster: Muster) -> None:
    """Every number from 0, once, undamaged."""

    def stored() -> list[dict[str, Any]]:
        return muster.rows("oracle", "sequence_total,check", "--limit", "100000")

    until("a thousand of the oracle's rows", lambda: len(stored()) > 1000)
    rows = stored()
    numbers = sorted(row["sequence_total"] for row in rows)
    check(numbers == list(range(len(numbers))), f"the oracle's numbers 0 to {len(numbers) - 1} are stored, each once")
    check(all(row["check"] == check_of(row["sequence_total"]) for row in rows), "and none is damaged")


def simulated(muster: Muster) -> None:
    """Two nodes of eight GPUs, as publishers of their own; their physics, seen by queries alone."""
    by_device: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)

    def enough() -> bool:
        by_device.clear()
        for row in muster.rows("gpu", "power_watts,energy_joules_total,temperature_celsius", "--limit", "20000"):
            by_device[row["node"], row["device"]].append(row)
        counts = [sum(row["energy_joules_total"] is not None for row in rows) for rows in by_device.values()]
        return len(by_device) >= 16 and min(counts) >= 4

    until("rows of sixteen GPUs", enough)
    nodes = {node for node, _ in by_device}
    check(len(nodes) == 2 and len(by_device) == 16, "two nodes of eight GPUs each publish for themselves")
    worst = 0.0
    for rows in by_device.values():
        series = sorted((row for row in rows if row["energy_joules_total"] is not None), key=lambda row: row["time"])
        powers = {row["time"]: row["power_watts"] for row in series}
        check_monotone = all(one["energy_joules_total"] <= two["energy_joules_total"] for one, two in pairwise(series))
        if not check_monotone:
            check(False, "a GPU's energy never falls")
        spent = series[-1]["energy_joules_total"] - series[0]["energy_joules_total"]
        drawn = sum(powers[two["time"]] * (two["time"] - one["time"]) / 1e9 for one, two in pairwise(series))
        worst = max(worst, abs(spent - drawn) / max(drawn, 1.0))
    check(worst < 0.05, f"each GPU's energy is the integral of its power, to {worst:.1%} at worst")
    celsius = [row["temperature_celsius"] for rows in by_device.values() for row in rows if row["temperature_celsius"]]
    check(
        celsius and 20 < min(celsius) and max(celsius) < 110,
        f"dies are at {min(celsius):.0f} to {max(celsius):.0f} celsius",
    )
    documents = [
        json.loads(row["document"])
        for row in muster.rows("capability", "document", "--limit", "5000")
        if row["document"]
    ]
    kinds = {one["kind"] for one in documents}
    check({"gpu", "nvme", "nic", "vf"} <= kinds, f"their devices are described: {', '.join(sorted(kinds))}")


if __name__ == "__main__":
    sys.exit(main(script))
