"""The spool against a simple model, driven by random steps: every number is held, forgotten or told as dropped."""

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from collectors.spool import Counts, NewBatch, Spool
from schemas.intervals import Intervals
from schemas.verbosity import Level, RowClass

CLASSES = st.sampled_from(RowClass)
LEVELS = st.sampled_from(Level)


class SpoolMachine(RuleBasedStateMachine):
    """Commits, acknowledgements, drops, restarts and words in any order (R001-15)."""

    @initialize()
    def open(self) -> None:
        self.place = Path(tempfile.mkdtemp())
        self.folder = self.place / "0"
        self.folder.mkdir()
        self.forgotten: dict[tuple[str, RowClass, Level], Intervals] = {}
        self.dropped: dict[tuple[str, RowClass, Level], Intervals] = {}
        self.numbered: dict[tuple[str, RowClass, Level], int] = {}
        self.filtered = 0
        self.position = 0
        self.restart()

    def restart(self) -> None:
        self.spool = Spool.open(self.folder / "spool.db", "node", "boot", max_bytes=1 << 16, synchronous="OFF")

    @rule(
        row_class=CLASSES, level=LEVELS, rows=st.integers(1, 200), size=st.integers(1, 6000), filtered=st.integers(0, 9)
    )
    def commit(self, row_class: RowClass, level: Level, rows: int, size: int, filtered: int) -> None:
        before = {held.id: held for held in self.spool.pending()}
        self.position += 1
        [held] = self.spool.commit(
            [NewBatch(row_class, level, rows, b"x" * size)],
            {(RowClass.LOG, Level.DEBUG): Counts(filtered=filtered)},
            {("oracle", "n"): str(self.position)},
        )
        key = (held.epoch, row_class, level)
        assert held.first == self.numbered.get(key, 0)
        self.numbered[key] = held.first + rows
        self.filtered += filtered
        now = {one.id for one in self.spool.pending()}
        for one in before.values():
            if one.id not in now:  # made room
                self._drop(one.epoch, one.row_class, one.level, one.first, one.rows)

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        pending = self.spool.pending()
        if not pending:
            return
        held = data.draw(st.sampled_from(pending))
        self.spool.forget([held.id, 10**9])
        key = (held.epoch, held.row_class, held.level)
        self.forgotten.setdefault(key, Intervals()).add(held.first, held.first + held.rows)

    @rule()
    def give_up(self) -> None:
        before = self.spool.pending()
        self.spool.give_up(size=2000)
        now = {one.id for one in self.spool.pending()}
        for one in before:
            if one.id not in now:
                self._drop(one.epoch, one.row_class, one.level, one.first, one.rows)

    @rule()
    def speak_and_be_heard(self) -> None:
        account = self.spool.account()
        self._check_account(account)
        self.spool.acknowledge(account)
        for epoch in account.epochs:
            for stream in epoch.streams:
                self.dropped.pop((epoch.epoch, stream.row_class, stream.level), None)

    @rule()
    def speak_unheard(self) -> None:
        self._check_account(self.spool.account())

    @rule()
    def crash(self) -> None:
        """Losing the object without closing is what SIGKILL leaves: SQLite's file and its WAL."""
        shutil.copytree(self.folder, copy := self.place / str(int(self.folder.name) + 1))
        self.spool.close()
        shutil.rmtree(self.folder)
        self.folder = copy
        self.restart()

    @invariant()
    def positions_and_totals_survive(self) -> None:
        if self.position:
            assert self.spool.positions("oracle") == {"n": str(self.position)}

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.place)

    def _drop(self, epoch: str, row_class: RowClass, level: Level, first: int, rows: int) -> None:
        self.dropped.setdefault((epoch, row_class, level), Intervals()).add(first, first + rows)

    def _check_account(self, account: object) -> None:
        for epoch in account.epochs:  # type: ignore[attr-defined]
            for stream in epoch.streams:
                key = (epoch.epoch, stream.row_class, stream.level)
                assert stream.produced == stream.filtered + stream.folded + stream.numbered
                assert stream.numbered == self.numbered.get(key, 0)
                told = Intervals(pair for one in stream.dropped for pair in one.intervals)
                assert told == self.dropped.get(key, Intervals())
                held = Intervals((one.first, one.first + one.rows) for one in self.spool.pending()
                                 if (one.epoch, one.row_class, one.level) == key)  # fmt: skip
                assert Intervals(stream.spooled) == held


TestSpoolModel = SpoolMachine.TestCase
