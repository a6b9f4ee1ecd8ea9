"""Syslog load as a program of its own: `python -m tests.bench.syslog_load PORT RATE SECONDS`.

RFC 5424 with structured data over TCP, octet counting, at a steady rate; prints how many messages the kernel took.
"""

import socket
import sys
import time

TICK = 0.02


def message(number: int) -> bytes:
    """Give one message as it travels, about 220 bytes."""
    text = (
        f"<{8 * 3 + 6}>1 2026-01-01T00:00:00.{number % 1_000_000:06d}Z load-host bench {number % 65536} "
        f"ID{number % 100}"
        f' [meta@32473 sequence="{number}" queue="q{number % 7}" user="someone"]'
        f" request {number} was answered after {number % 997} ms with status {200 + number % 5}"
    ).encode()
    return b"%d %s" % (len(text), text)


def main() -> None:
    """Send, never faster than asked."""
    port, rate, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    total, sent = int(rate * seconds), 0
    ready = [message(number) for number in range(total)]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        began = time.monotonic()
        while sent < total:
            due = min(total, int((time.monotonic() - began + TICK) * rate))
            if due > sent:
                sock.sendall(b"".join(ready[sent:due]))
                sent = due
            time.sleep(TICK)
        spent = time.monotonic() - began
    print(f"{sent} {spent:.3f}")


if __name__ == "__main__":
    main()
