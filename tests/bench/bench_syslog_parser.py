"""What a log record costs the agent before it is spooled: from bytes to ready-made blocks, on one core.

    python -m tests.bench.bench_syslog_parser [--messages 50000] [--rounds 7]

Prints messages per core-second and microseconds of CPU a message for each way that messages come: the parser alone,
the framing of streams, and a real TCP connection and a real UDP socket through the collector. Bars (DESIGN part 9):
agent and aggregator together at most 12.5 us a message with structured data; of that, parsing and columns at most 6 us.
The best of the rounds counts: whatever else runs on the machine can only make a round slower.
"""

import argparse
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from collectors.contract import Context
from collectors.log_row import Row
from collectors.log_rules.teller import Teller
from collectors.log_storm import Storms
from collectors.syslog import SyslogCollector
from collectors.syslog_config import SyslogConfig
from collectors.syslog_framing import Framer
from collectors.syslog_kmsg import KernelLog, RecordedReader
from collectors.syslog_listener import Counts
from collectors.syslog_parser import Parser
from collectors.syslog_rows import ROWS_A_UNIT, Rows
from schemas.rows import Item, Parcel
from schemas.verbosity import Level
from tests.ports import free_port

DATA = (
    '[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"]'
    '[origin@32473 ip="192.0.2.1" software="evntslog"]'
)
READ = 1 << 16


def rfc5424(count: int, data: str = DATA) -> list[bytes]:
    """Give messages over ten seconds, seven hosts and all severities."""
    return [
        f"<{160 + at % 8}>1 2024-10-11T22:14:{at * 10 // count:02}.{at % 1000:03}Z web{at % 7}.example.com evntslog "
        f"{at % 32768} ID{at % 64} {data} An application event log entry number {at}".encode()
        for at in range(count)
    ]


def rfc3164(count: int) -> list[bytes]:
    """Give the same in the older form."""
    return [
        f"<{160 + at % 8}>Oct 11 22:14:{at * 10 // count:02} web{at % 7} evntslog[{at % 32768}]: "
        f"An application event log entry number {at}".encode()
        for at in range(count)
    ]


def kmsg(count: int) -> bytes:
    """Give kernel records, every fourth of them with a device."""
    device = " SUBSYSTEM=pci\n DEVICE=+pci:0000:83:00.0\n"
    return "".join(
        f"{at % 8},{at},{at * 1000},-;igb 0000:01:00.0: an entry of the kernel log, number {at}\n"
        f"{device * (at % 4 == 0)}"
        for at in range(count)
    ).encode()


def parsed(messages: list[bytes]) -> Callable[[], int]:
    """Parse in units and make blocks, as a listener does."""
    parser = Parser(time.time_ns)

    def run() -> int:
        rows, counts, done = Rows("node-1", time.time_ns), Counts(), 0
        for at in range(0, len(messages), ROWS_A_UNIT):
            done += parser.parse(messages[at : at + ROWS_A_UNIT], "udp", rows, counts)
            rows.take()
        return done

    return run


def framed(stream: bytes) -> Callable[[], int]:
    """Cut a stream that comes in reads of 64 KiB into messages."""

    def run() -> int:
        framer = Framer(READ)
        return sum(len(framer.feed(stream[at : at + READ])) for at in range(0, len(stream), READ))

    return run


def sifted(texts: list[str]) -> Callable[[], int]:
    """Look for storms in units of rows that are parsed already."""
    rows: list[Row] = [
        (at, text, 5, 20, "web1", "app", None, None, None, None, None, "") for at, text in enumerate(texts)
    ]

    def run() -> int:
        storms = Storms(50, 10.0, time.monotonic)
        for at in range(0, len(rows), ROWS_A_UNIT):
            storms.sift("udp", Level.STANDARD, rows[at : at + ROWS_A_UNIT], 0)
        storms.finish()
        return len(rows)

    return run


def words(count: int) -> list[str]:
    """Give texts that differ in more than numbers."""
    letters = "ghijklmnopqrstuv"
    return [f"session of {''.join(letters[int(digit, 16)] for digit in f'{at:x}')} opened" for at in range(count)]


def kernel(data: bytes, *, events: bool = False) -> Callable[[], int]:
    """Read a kernel log from memory; reading it from the device adds a system call a record."""

    def run() -> int:
        reader, rows, counts = RecordedReader(data), Rows("node-1", time.time_ns), Counts()
        teller = Teller(lambda _kind, _name: "") if events else None
        log = KernelLog(reader, Path("/nonexistent"), None, counts, teller=teller)
        while True:
            log.read(rows)
            if not rows.take():
                log.close()
                return counts.messages_total

    return run


class Received:
    """An `emit` that counts."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, items: Iterable[Item]) -> None:
        self.rows += sum(len(item.block.rows) for item in items if isinstance(item, Parcel))


def through_socket(messages: list[bytes], way: str) -> tuple[float, int]:
    """Send messages to a collector; give the CPU seconds of its thread and how many rows it emitted.

    The kernel's own work of receiving is in it, as it is in every figure of a whole agent.
    """
    kind = socket.SOCK_STREAM if way == "tcp" else socket.SOCK_DGRAM
    address = ("127.0.0.1", free_port(kind))
    where = {way: f"127.0.0.1:{address[1]}"}
    config = SyslogConfig(kmsg=False, storm_copies=0, udp_receive_buffer_bytes=256 << 20, **where)  # type: ignore[arg-type]
    collector = SyslogCollector(config, Context(subject="node-1", log=logging.getLogger("bench")))
    received, stopping, used = Received(), threading.Event(), [0.0]

    def watch() -> None:
        started = time.thread_time()
        collector.watch(received, stopping)
        used[0] = time.thread_time() - started

    collector.start()
    thread = threading.Thread(target=watch)
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.connect(address)
        if way == "udp":
            for message in messages:
                sock.send(message)
            thread.start()
        else:
            thread.start()
            sock.sendall(b"".join(b"%d %s" % (len(message), message) for message in messages))
        until = time.monotonic() + 30
        while received.rows < len(messages) and time.monotonic() < until:
            time.sleep(0.02)
    stopping.set()
    thread.join()
    collector.stop()
    return used[0], received.rows


def best(run: Callable[[], int], rounds: int) -> tuple[float, int]:
    """Give the least CPU seconds of the rounds, and how many messages that was for."""
    least, count = float("inf"), 0
    for _ in range(rounds):
        started = time.process_time()
        count = run()
        least = min(least, time.process_time() - started)
    return least, count


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--messages", type=int, default=50_000)
    arguments.add_argument("--rounds", type=int, default=7)
    options = arguments.parse_args()
    messages = rfc5424(options.messages)
    ways: dict[str, Callable[[], int]] = {
        "RFC 5424 with structured data": parsed(messages),
        "RFC 5424 without": parsed(rfc5424(options.messages, "-")),
        "RFC 3164": parsed(rfc3164(options.messages)),
        "kernel log": kernel(kmsg(options.messages)),
        "kernel log, looked at by rules": kernel(kmsg(options.messages), events=True),
        "storms: looking, none there": sifted(words(options.messages)),
        "storms: folding 29 texts": sifted(
            [f"line {word}: 0x{at:x}" for at in range(options.messages // 29) for word in words(29)]
        ),
        "framing, octet-counted": framed(b"".join(b"%d %s" % (len(message), message) for message in messages)),
        "framing, lines": framed(b"\n".join(messages) + b"\n"),
    }
    for name, run in ways.items():
        _print(name, *best(run, options.rounds))
    for way in ("tcp", "udp"):
        rounds = [through_socket(messages, way) for _ in range(max(1, options.rounds // 2))]
        _print(f"{way} socket to blocks, RFC 5424", *min(rounds))


def _print(name: str, seconds: float, count: int) -> None:
    print(f"{name:32} {count / seconds:>12,.0f} messages/core-second {seconds / count * 1e6:>7.2f} us/message")


if __name__ == "__main__":
    main()
