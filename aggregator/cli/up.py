"""`muster up`: everything on this machine, supervised, with what it sees live in the terminal."""

import argparse
import fcntl
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

from aggregator.cli import add_examples
from aggregator.up import ChildSpec, Supervisor
from collectors.config import socket_path
from collectors.log_output import has_room
from collectors.main import begin_check, end_check
from collectors.process import EXIT_CONFIG, start_logging
from schemas.errors import ConfigError

_EPILOG: Final = """examples:
  muster up
  muster up --simulate 4
  MUSTER_DATA_DIR=/tmp/try MUSTER_LISTEN=127.0.0.1:9000 muster up --quiet

Ctrl-C ends it; the next 'muster up' goes on where it stopped. SIGHUP has
the configuration read again.
exit status: 0 when it was told to end, 78 when the configuration cannot be
used, or Muster already runs on the data folder"""
POLL_SECONDS: Final = 0.1
LONG_SECONDS: Final = 5.0
"""An aggregator that is not ready by then is said to be not ready yet, and why."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file; conf.d/*.toml beside it are read too")
    parser.add_argument("--simulate", type=int, default=0, metavar="N", help="also run a fleet of N simulated nodes")
    parser.add_argument("--fleet", type=Path, metavar="FILE", help="the fleet file of the simulated nodes")
    parser.add_argument("--quiet", action="store_true", help="show nothing but the log")


def run(options: argparse.Namespace) -> int:
    """Run until a signal."""
    named = os.environ.get("MUSTER_CONFIG")
    config = options.config or (Path(named) if named else None)
    # An error is told here, once, not by children in turn. The agent's part is checked beside the import of pydantic.
    checking = begin_check(config)
    try:
        from aggregator.config import load_aggregator_config
        from collectors.config import default_data_dir

        checked = load_aggregator_config(config)
    finally:
        status = end_check(checking)
    if status != 0:
        return EXIT_CONFIG
    data_dir = default_data_dir()
    claim_folder(data_dir)
    live = sys.stdout.isatty() and not options.quiet
    start_logging("WARNING" if live else "")
    supervisor = Supervisor(
        specs(config, options),
        os.environ | {"MUSTER_DATA_DIR": str(data_dir)},
        log_dir=data_dir / "logs" if live else None,
    )
    signals = _Signals()
    try:
        _supervise(supervisor, signals, data_dir, checked.aggregator.listen, live=live)
    finally:
        supervisor.stop()
    if supervisor.failed:
        sys.stderr.write(f"muster up: {supervisor.failed}\n")
        return EXIT_CONFIG
    return 0


def claim_folder(data_dir: Path) -> None:
    """Make the data folder, or say why it cannot be; refuse one on which an aggregator runs. Raises ConfigError."""
    folder = data_dir / "aggregator"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (folder / "lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"{data_dir}: Muster already runs on this folder. Look at it with 'muster top', or start this one on"
            " another with MUSTER_DATA_DIR (and MUSTER_LISTEN)"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{data_dir}: cannot be used as the data folder: {error.strerror}. Name another with MUSTER_DATA_DIR"
        ) from None


def specs(config: Path | None, options: argparse.Namespace) -> list[ChildSpec]:
    """Give what is to be kept running."""
    named = ("--config", str(config)) if config else ()
    children = [
        ChildSpec("aggregator", "aggregator.server", named, beats=True, reloads=True),
        ChildSpec("agent", "collectors.main", ("--checked", *named), beats=True, reloads=True),
    ]
    if options.simulate or options.fleet:
        fleet = ("--fleet", str(options.fleet)) if options.fleet else ("--nodes", str(options.simulate))
        children.append(ChildSpec("fleet", "collectors.fleet_main", (*fleet, *named), beats=True))
    return children


class _Signals:
    """What signals ask for: SIGTERM and SIGINT to end; SIGHUP to read the configuration again.

    SIGHUP is also what a terminal sends that goes away; then it means to end, as for every program. Where it is ignored
    (nohup) it stays so.
    """

    def __init__(self) -> None:
        self.stop = False
        self.reload = False
        self._had_terminal = _has_terminal()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._hang_up)

    def _stop(self, *_: object) -> None:
        self.stop = True

    def _hang_up(self, *_: object) -> None:
        if self._had_terminal and not _has_terminal():
            self.stop = True
        else:
            self.reload = True

    def obey(self, supervisor: Supervisor) -> bool:
        """Hand on what is to be handed on; tell whether to go on."""
        if self.reload:
            self.reload = False
            supervisor.reload()
        return not self.stop and not supervisor.failed


def _has_terminal() -> bool:
    """Tell whether this process has a terminal that is there. Source: tty(4): opening it fails without one."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _supervise(supervisor: Supervisor, signals: _Signals, data_dir: Path, listen: str, *, live: bool) -> None:
    supervisor.poll()
    if live:
        from aggregator.cli.live_view import LiveView

        with LiveView(data_dir, listen) as view:
            while signals.obey(supervisor):
                supervisor.poll()
                view.update(supervisor.statuses())
                time.sleep(POLL_SECONDS)
        return
    ended = threading.Event()
    # asked by a thread: whoever hangs while it is asked must be found hanging meanwhile, and started again
    threading.Thread(target=_tell_ready, args=(data_dir, listen, ended), name="ready", daemon=True).start()
    try:
        while signals.obey(supervisor):
            supervisor.poll()
            time.sleep(POLL_SECONDS)
    finally:
        ended.set()


def _tell_ready(data_dir: Path, listen: str, ended: threading.Event) -> None:
    """Say when everything works, and what is waited for when that takes long."""
    from aggregator.cli.client import Client, ServerError

    began, told = time.monotonic(), False
    address = socket_path(data_dir)
    while not ended.wait(POLL_SECONDS):
        if not address.exists():
            continue
        try:
            answer = Client(f"unix://{address}").raw("GET", "/readyz")
        except ServerError:
            continue
        if answer.status == 200:
            _say(f"muster: listening on {listen}; in another terminal try: muster query, muster top, muster balance."
                 " Ctrl-C ends it\n")  # fmt: skip
            return
        if not told and time.monotonic() - began > LONG_SECONDS:
            told = True
            _say(f"muster: listening on {listen}, and not ready yet: {answer.problem().get('detail', '')}\n")


def _say(line: str) -> None:
    if has_room(sys.stdout.fileno()):
        sys.stdout.write(line)
        sys.stdout.flush()
