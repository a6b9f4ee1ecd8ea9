"""What fault tests stand on: a Muster fed by the oracle, and what became of every row that the oracle numbered."""

import os
import random
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import psutil
import pytest

from collectors.oracle import check_of
from collectors.transport import Answer, Transport, TransportError
from tests.acceptance.stage import PATIENCE, FailedError, Muster, until

PAGE = 100_000
"""Rows of one answer, at most (`aggregator.query.MAX_LIMIT`)."""
RATE = 5000
"""Rows a second; the promise is made for at least so many."""
_RATE = re.compile(r"rate = \d+")


def rounds(few: int) -> list[Any]:
    """Give the rounds of a test: the first one in every run, the others (SOAK_ROUNDS, else `few`) under `make soak`."""
    many = int(os.environ.get("SOAK_ROUNDS", few))
    return [0, *(pytest.param(number, marks=pytest.mark.soak) for number in range(1, many))]


def seed() -> int:
    """Give the seed of what happens at random: FAULT_SEED, or another one each time; a failing test shows it."""
    return int(os.environ.get("FAULT_SEED", time.time_ns() & 0xFFFF_FFFF))


def config(*, rate: float = RATE, limit: int = 0, more: str = "", agent: str = "", aggregator: str = "") -> str:
    """Give a configuration in which the oracle is all that runs; `agent`, `aggregator`: lines of those sections."""
    return (
        f'[agent]\nonly = ["oracle"]\n{agent}\n[collectors.oracle]\nrate = {rate}\nlimit = {limit}\n'
        f"[aggregator]\n{aggregator}\n{more}\n"
    )


class Fate(msgspec.Struct):
    """What became of the oracle's rows."""

    committed: int
    """How many the spool took, ever: the oracle's committed position."""
    numbered: int
    """The same as the balance says, over all epochs."""
    stored: int
    twice: list[int]
    damaged: list[int]
    """Stored, and the check is not that of the number, or no row of this number was ever committed."""
    missing: list[int]
    """Committed and not stored, in order."""
    dropped: dict[str, int]
    """By reason, of the oracle's class and level, as the balance says."""
    balance: dict[str, Any]

    def expect_exact(self, *, may_drop: bool = False) -> None:
        """Fail unless stored + dropped = committed, no number twice, every check right, and the balance closed."""
        told = (
            f"{msgspec.structs.replace(self, twice=self.twice[:5], damaged=self.damaged[:5], missing=self.missing[:5])}"
        )
        assert self.committed > 0, told
        assert [] == self.twice, told
        assert [] == self.damaged, told
        assert self.balance["closed"], told
        assert self.committed == self.numbered, told
        assert len(self.missing) == sum(self.dropped.values()), told
        assert self.committed == self.stored + sum(self.dropped.values()), told
        if not may_drop:
            assert {} == self.dropped, told


class Bench:
    """A Muster, its parts apart or under `muster up`, and questions to it over the local socket."""

    def __init__(self, muster: Muster) -> None:
        self.muster = muster
        self.spool = muster.data_dir / "agent" / "spool.db"

    @property
    def socket(self) -> str:
        """The address of the local socket."""
        return f"unix://{self.muster.data_dir / 'muster.sock'}"

    def get(self, path: str, **parameters: object) -> Any:
        """Give the API's answer; None when it is a refusal, or nobody answers."""
        try:
            answer = ask(self.socket, "GET", path, parameters=parameters)
        except TransportError:
            return None
        return msgspec.json.decode(answer.body) if answer.status == 200 else None

    def start(self, name: str, failpoint: str = "", **env: str) -> None:
        """Start one part; it dies at `failpoint` (name, or name:count) when it gets there."""
        self.muster.start(name, env=env | ({"MUSTER_FAILPOINT": failpoint} if failpoint else {}))

    def ready(self, seconds: float = PATIENCE) -> None:
        """Wait until the aggregator follows its log."""
        until("the aggregator to be ready", lambda: self.get("/readyz"), seconds)

    def dies(self, name: str, failpoint: str, seconds: float = PATIENCE) -> None:
        """Wait until a part was killed; fail when it ends in any other way, or lives on."""
        process = self.muster.processes[name]
        code = until(f"{name} to reach {failpoint}", lambda: process.poll() or None, seconds)
        if code != -signal.SIGKILL:
            raise FailedError(f"{name} ended with {code}, and not at {failpoint}")
        self.muster.processes.pop(name)

    def kill(self, name: str) -> None:
        """SIGKILL a part that was started by itself; its children are left to notice."""
        process = self.muster.processes.pop(name)
        process.kill()
        process.wait()

    def spooled(self) -> int:
        """Give how many batches the spool holds."""
        return int(self.ask_spool("SELECT count(*) FROM batch", 0))

    def committed(self) -> int:
        """Give the oracle's committed position: the rows whose spool commit succeeded."""
        value = self.ask_spool("SELECT value FROM position WHERE collector = 'oracle' AND source = 'oracle'", "0")
        return int(value)

    def ask_spool(self, question: str, default: object) -> Any:
        """Read one value of the spool's file as another process sees it: what is committed."""
        try:
            with sqlite3.connect(f"file:{self.spool}?mode=ro", uri=True, timeout=10) as db:
                row = db.execute(question).fetchone()
        except sqlite3.OperationalError as error:
            if "unable to open" in str(error) or "no such table" in str(error):
                return default  # the agent has not made it yet
            raise
        finally:
            if "db" in locals():
                db.close()
        return default if row is None else row[0]

    def grows(self, by: int = 1000, seconds: float = PATIENCE) -> None:
        """Wait until so many more rows were committed."""
        before = self.committed()
        until(f"{by} more rows in the spool", lambda: self.committed() >= before + by, seconds)

    def stored(self, payload: str | None = None) -> list[tuple[int, int]]:
        """Page through every stored row of the oracle: number and check, as the API gives them.

        `payload`: only rows with that text; None for those without any.
        """
        found: list[tuple[int, int]] = []
        since = "0"
        fields = "sequence_total,check,payload"
        while True:
            page = self.get(
                "/v1/query", measurement="oracle", fields=fields, since=since, order="oldest", limit=str(PAGE)
            )
            if page is None:
                raise FailedError("the aggregator does not answer a query for stored rows")
            columns = {column["name"]: values for column, values in zip(page["columns"], page["data"], strict=True)}
            times = columns["time"]
            texts = columns.get("payload", [None] * len(times))
            numbers = zip(columns["sequence_total"], columns["check"], texts, strict=True)
            rows = [(number, check) if text == payload else None for number, check, text in numbers]
            if not page["truncated"]:
                return [row for row in (*found, *rows) if row is not None]
            # the last nanosecond of a page may go on on the next one: leave it to that
            keep = next(at for at in range(len(times) - 1, -1, -1) if times[at] != times[-1]) + 1
            found += [row for row in rows[:keep] if row is not None]
            since = str(times[keep])

    def settle(self, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait for the balance to settle, as a user does; give it. Fails when rows are unaccounted."""
        return self.muster.balance(wait=seconds)

    def fate(self, seconds: float = PATIENCE) -> Fate:
        """Wait until everything is drained, and give what became of every row. The oracle must rest."""
        committed = self.committed()
        until("an empty spool", lambda: not self.spooled(), seconds)  # what is not sent yet, no word has told
        balance = self.settle(seconds)
        stored = self.stored()
        counts = Counter(number for number, _ in stored)
        damaged = [number for number, check in stored if check != check_of(number) or not 0 <= number < committed]
        dropped: Counter[str] = Counter()
        lines = [line for line in balance["lines"] if line["row_class"] == "telemetry"]
        for line in lines:
            dropped.update({reason: count for reason, count in line["dropped"].items() if count})
        return Fate(
            committed=committed,
            numbered=sum(line["numbered"] for line in lines),
            stored=len(stored),
            twice=[number for number, count in counts.items() if count > 1],
            damaged=damaged,
            missing=[number for number in range(committed) if number not in counts],
            dropped=dict(dropped),
            balance=balance,
        )

    def rest(self) -> None:
        """Let the oracle make no more rows from the agent's next start on."""
        self.muster.config.write_text(_RATE.sub("rate = 0", self.muster.config.read_text()))

    def quiesce(self, seconds: float = PATIENCE, *, name: str = "agent") -> Fate:
        """End `name` in order, start it again with an oracle that makes no rows, drain, and give the rows' fate."""
        self.muster.stop(name)
        self.rest()
        self.start(name)
        self.ready(seconds)
        return self.fate(seconds)


def child_dies(process: psutil.Process, what: str, seconds: float = PATIENCE) -> None:
    """Wait for the end of a process that is not ours to reap."""

    def gone() -> bool:
        try:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    until(f"the end of {what}", gone, seconds)


def ask(
    address: str,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    token: str = "",
    content_type: str = "",
    ca_file: Path | None = None,
    parameters: Mapping[str, object] | None = None,
) -> Answer:
    """Make one HTTP request on a connection of its own. Raises TransportError without an answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if content_type:
        headers["Content-Type"] = content_type
    transport = Transport([address], ca_file=ca_file)
    try:
        return transport.request(method, f"{path}?{urlencode(parameters)}" if parameters else path, body, headers)
    finally:
        transport.close()


def victims(muster: Muster, name: str, choose: Callable[[str], bool]) -> list[psutil.Process]:
    """Give processes below a part whose kernel name satisfies `choose`."""
    found = []
    for process in muster.family(name)[1:]:
        try:
            if choose(process.name()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Give chance with a seed that is told when the test fails."""
    number = seed()
    request.node.add_report_section("call", "seed", f"FAULT_SEED={number}")
    return random.Random(number)
