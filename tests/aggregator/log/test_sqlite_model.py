"""Whatever is done in whatever order, the embedded log is what a list a partition would be."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aggregator.log import Entry, OffsetOutOfRangeError
from aggregator.log_sqlite import SqliteLog

TOPICS = ("event", "inventory")
PARTITIONS = 2
places = st.tuples(st.sampled_from(TOPICS), st.integers(0, PARTITIONS - 1))
values = st.one_of(st.binary(max_size=40), st.integers(0, 20_000).map(bytes))
calls = st.lists(st.lists(st.tuples(places, values), max_size=6), min_size=1, max_size=4)


class LogMachine(RuleBasedStateMachine):
    """Appends (several calls at once), trims, reads and reopens, beside a model of plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.model: dict[tuple[str, int], list[bytes]] = {(t, p): [] for t in TOPICS for p in range(PARTITIONS)}
        self.begins: dict[tuple[str, int], int] = dict.fromkeys(self.model, 0)

    @initialize(tail_bytes=st.sampled_from([0, 3000, 1 << 20]))
    def make(self, tail_bytes: int) -> None:
        self.tail_bytes = tail_bytes
        self._open()

    def _open(self) -> None:
        self.log = SqliteLog(
            self.folder / "log", partitions=PARTITIONS, tail_bytes=self.tail_bytes, synchronous="OFF", min_free_bytes=0
        )

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.loop.run_until_complete(self.log.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)

    @rule(batches=calls)
    def append(self, batches: list[list[tuple[tuple[str, int], bytes]]]) -> None:
        async def all_at_once() -> list[list[int]]:
            entries = [[Entry(*place, value) for place, value in batch] for batch in batches]
            return await asyncio.gather(*(self.log.append(batch) for batch in entries))

        answers = self.loop.run_until_complete(all_at_once())
        for batch, offsets in zip(batches, answers, strict=True):
            for (place, value), offset in zip(batch, offsets, strict=True):
                assert len(self.model[place]) == offset
                self.model[place].append(value)

    @rule(place=places, share=st.floats(0, 1.2))
    def trim(self, place: tuple[str, int], share: float) -> None:
        before = int(len(self.model[place]) * share)
        if before > len(self.model[place]):
            with pytest.raises(OffsetOutOfRangeError):
                self.loop.run_until_complete(self.log.trim(*place, before))
        else:
            self.loop.run_until_complete(self.log.trim(*place, before))
            self.begins[place] = max(self.begins[place], before)

    @rule(place=places, share=st.floats(0, 1.2), max_bytes=st.integers(0, 60_000))
    def read(self, place: tuple[str, int], share: float, max_bytes: int) -> None:
        offset = int(len(self.model[place]) * share)
        if not self.begins[place] <= offset <= len(self.model[place]):
            with pytest.raises(OffsetOutOfRangeError) as outside:
                self.loop.run_until_complete(self.log.read(*place, offset, max_bytes))
            assert (self.begins[place], len(self.model[place])) == (outside.value.begin, outside.value.end)
            return
        records = self.loop.run_until_complete(self.log.read(*place, offset, max_bytes))
        expected = self.model[place][offset:]
        assert expected[: len(records)] == [record.value for record in records]
        taken = sum(len(record.value) for record in records)
        assert taken <= max_bytes or len(records) == 1
        if len(records) < len(expected):
            assert records
            assert taken + len(expected[len(records)]) > max_bytes

    @rule()
    def reopen(self) -> None:
        self.loop.run_until_complete(self.log.close())
        self._open()

    @invariant()
    def begins_ends_and_bytes_agree(self) -> None:
        if not hasattr(self, "log"):
            return
        found = {(s.topic, s.partition): (s.begin, s.end, s.bytes) for s in self.log.standings() if s.topic in TOPICS}
        expected = {
            place: (self.begins[place], len(kept), sum(map(len, kept[self.begins[place] :])))
            for place, kept in self.model.items()
        }
        assert expected == found


TestSqliteLogModel = LogMachine.TestCase
TestSqliteLogModel.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
