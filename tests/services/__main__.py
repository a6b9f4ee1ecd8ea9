"""`python -m tests.services install | list | up`: what `make services` and CI run."""

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.services.binaries import PROGRAMS, PROMETHEUS, TELEGRAF, NotAvailableError, provide
from tests.services.prometheus import prometheus
from tests.services.telegraf import HOST_INPUTS, telegraf


def install() -> int:
    """Get every program; print where each is. Exit status 1 when one cannot be had."""
    failed = 0
    for program in PROGRAMS:
        try:
            print(f"{program.name}: {provide(program, may_install=True)}", flush=True)
        except NotAvailableError as error:
            failed = 1
            print(f"{program.name}: {error}", file=sys.stderr, flush=True)
    return failed


def listing() -> int:
    """Print where each program is, or that it is not here."""
    for program in PROGRAMS:
        print(f"{program.name}: {program.find() or 'not here'}")
    return 0


def up(scrape: str) -> int:
    """Start every server, print what to export so that tests use it, and wait for Ctrl-C."""
    if install():
        return 1
    with tempfile.TemporaryDirectory(prefix="muster-services-") as name, ExitStack() as stack:
        folder = Path(name)
        scraper = stack.enter_context(
            prometheus(provide(PROMETHEUS, may_install=False), folder / "prometheus", [scrape])
        )
        peer = stack.enter_context(
            telegraf(provide(TELEGRAF, may_install=False), folder / "telegraf", HOST_INPUTS + "[[outputs.discard]]\n")
        )
        print(f"export TEST_SERVICE_PROMETHEUS={scraper.address}  # scrapes {scrape}")
        print(f"# telegraf: health at {peer.address}, pid {peer.pid}")
        print("Ctrl-C ends them", flush=True)
        stopping = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
        signal.sigwait(stopping)
    return 0


def main() -> int:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.add_argument("action", choices=("install", "list", "up"))
    parser.add_argument("--scrape", default="127.0.0.1:8420", metavar="HOST:PORT", help="what Prometheus scrapes")
    chosen = parser.parse_args()
    if chosen.action == "up":
        return up(chosen.scrape)
    return install() if chosen.action == "install" else listing()


if __name__ == "__main__":
    sys.exit(main())
