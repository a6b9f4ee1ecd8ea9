"""The intake: filtered, stamped, gathered, and committed in time; a position never without the rows before it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.delivery import Delivery
from collectors.gathering import MAX_BODY_BYTES, MAX_ROWS, bodies_of, merge_block, rows_of
from collectors.intake import MAX_WAITING_ROWS, Intake
from collectors.spool import NewBatch, Spool
from collectors.verbosity import Grant, LevelPolicy
from schemas.batch import MAX_COLUMNS, Block
from schemas.codec import check_block, decode_body
from schemas.device import DeviceKind, Document, documents_hash, encode_document
from schemas.errors import SpoolError
from schemas.rows import Parcel, Position, Severity
from schemas.verbosity import Level, RowClass

SECOND = 1_000_000_000
TELEMETRY = (RowClass.TELEMETRY, Level.STANDARD)


class Clocks:
    """The monotonic clock, which only tests move, and a wall clock that somebody may set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.set_by_ns = 0

    def monotonic(self) -> float:
        return self.now

    def wall_ns(self) -> int:
        return time.time_ns() + self.set_by_ns


class Rig:
    """An intake on a real spool."""

    def __init__(self, folder: Path) -> None:
        self.clocks = Clocks()
        self.policy = LevelPolicy(Level.STANDARD, {"loud": Level.DEBUG}, self.clocks.monotonic)
        self.spool = Spool.open(folder / "spool.db", "node-1", "boot", synchronous="OFF")
        self.commits = 0
        self.intake = Intake(
            self.spool,
            self.policy,
            "node-1",
            committed=self._committed,
            clock=self.clocks.monotonic,
            wall_ns=self.clocks.wall_ns,
        )

    def _committed(self) -> None:
        self.commits += 1

    def take(self, *parcels: Parcel, collector: str = "host", position: str = "", **more: Any) -> None:
        positions = [Position("tape", position)] if position else []
        self.intake.take(collector, Delivery(list(parcels), positions, **more))

    def blocks(self, row_class: RowClass = RowClass.TELEMETRY, level: Level | None = None) -> list[Block]:
        """What the spool holds of a class (and level), in order."""
        found = []
        for held in self.spool.pending():
            if held.row_class is row_class and level in (None, held.level):
                body = self.spool.body(held)
                assert body is not None
                blocks = decode_body(body)
                assert held.rows == sum(len(block.rows) for block in blocks)
                found += blocks
        return found

    def values(self, **of: Any) -> list[Any]:
        return [value for block in self.blocks(**of) for value in block.ints["value"]]

    def events(self) -> list[str]:
        return [str(kind) for block in self.blocks(RowClass.EVENT) for kind in block.strings["type"]]

    def until(self, true: Any, what: str = "it") -> None:
        deadline = time.monotonic() + 5
        while not true():
            assert time.monotonic() < deadline, f"{what} did not come true"
            time.sleep(0.005)

    def settle(self) -> None:
        """Give the committing thread the time to do what is due."""
        self.intake.wake()
        before = -1
        while before != self.commits:
            before = self.commits
            time.sleep(0.05)

    def pass_(self, seconds: float) -> None:
        """Let time pass, and the intake notice it."""
        self.clocks.now += seconds
        self.settle()

    def skip_first(self) -> None:
        """Let every stream of these tests have had its first batch, which goes at once."""
        for row_class in RowClass:
            for level in Level:
                self.spool.commit([NewBatch(row_class, level, 1, b"")])
        self.spool.forget([held.id for held in self.spool.pending()])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.intake.start()
    yield rig
    rig.intake.stop()
    rig.spool.close()


def block(*values: int | None, start: int | None = None, measurement: str = "cpu", device: str = "") -> Block:
    start = time.time_ns() if start is None else start
    count = len(values)
    return Block(measurement, "node-1", [], [[device]], [0] * count, start, [0] + [1] * (count - 1),
                 ints={"value": list(values)})  # fmt: skip


def rows(*values: int, level: Level = Level.STANDARD, row_class: RowClass = RowClass.TELEMETRY, **more: Any) -> Parcel:
    return Parcel(row_class, level, block(*values, **more))


def event(value: int) -> Parcel:
    return rows(value, row_class=RowClass.EVENT, level=Level.ESSENTIAL, measurement="event")


def times_of(blocks: list[Block]) -> list[int]:
    times = []
    for one in blocks:
        at = one.start
        for step in one.steps:
            at += step
            times.append(at)
    return times


class TestFilter:
    def test_rows_above_the_level_are_counted_and_not_kept(self, rig: Rig) -> None:
        rig.take(rows(1, 2, 3, level=Level.DETAILED), rows(4))
        assert rig.intake.drain()
        assert [4] == rig.values()
        streams = {(one.row_class, one.level): one for one in rig.spool.account().epochs[0].streams}
        assert (3, 3, 0) == _counts(streams[RowClass.TELEMETRY, Level.DETAILED])
        assert (1, 0, 1) == _counts(streams[TELEMETRY])

    def test_a_collector_may_have_a_level_of_its_own(self, rig: Rig) -> None:
        rig.take(rows(1, level=Level.DEBUG), collector="loud")
        assert rig.intake.drain()
        assert [1] == rig.values()

    def test_rows_that_a_grant_alone_admits_travel_under_its_name(self, rig: Rig) -> None:
        rig.policy.set_grants([Grant("g1", Level.DEBUG, "", None, rig.clocks.now + 60)])
        rig.take(rows(1), rows(2, level=Level.DEBUG))
        assert rig.intake.drain()
        assert [("", 1), ("g1", 1)] == sorted((held.grant, held.rows) for held in rig.spool.pending())

    def test_a_grant_ends_by_the_monotonic_clock_alone(self, rig: Rig) -> None:
        rig.policy.set_grants([Grant("g1", Level.DEBUG, "", None, rig.clocks.now + 60)])
        rig.clocks.set_by_ns = 3600 * SECOND
        rig.take(rows(1, level=Level.DEBUG))
        rig.clocks.now += 61
        rig.clocks.set_by_ns = -3600 * SECOND
        rig.take(rows(2, level=Level.DEBUG))
        assert rig.intake.drain()
        assert [1] == rig.values()

    def test_a_grant_for_a_class_admits_no_other(self, rig: Rig) -> None:
        rig.policy.set_grants([Grant("g1", Level.DEBUG, "host", RowClass.LOG, rig.clocks.now + 60)])
        rig.take(rows(1, level=Level.DEBUG), rows(2, level=Level.DEBUG, row_class=RowClass.LOG))
        assert rig.intake.drain()
        assert [] == rig.values()
        assert [2] == rig.values(row_class=RowClass.LOG)

    @pytest.mark.parametrize("row_class", [RowClass.EVENT, RowClass.CAPABILITY])
    def test_events_and_capabilities_are_essential_whatever_a_collector_says(
        self, rig: Rig, row_class: RowClass
    ) -> None:
        rig.policy.configure(Level.ESSENTIAL, {})
        rig.take(rows(1, level=Level.DEBUG, row_class=row_class))
        assert rig.intake.drain()
        assert [1] == rig.values(row_class=row_class, level=Level.ESSENTIAL)


def _counts(stream: Any) -> tuple[int, int, int]:
    return stream.produced, stream.filtered, stream.numbered


class TestStamps:
    def test_equal_and_earlier_times_of_a_stream_become_the_next_free_ones(self, rig: Rig) -> None:
        now = time.time_ns()
        rig.take(rows(1, 2, start=now), rows(3, start=now), rows(4, start=now - SECOND // 2))
        assert rig.intake.drain()
        assert [now, now + 1, now + 2, now + 3] == times_of(rig.blocks())

    def test_rows_that_were_overtaken_by_seconds_do_not_turn_the_clock_back(self, rig: Rig) -> None:
        """A helper whose rows waited, beside one whose rows did not: no step of the clock."""
        now = time.time_ns()
        rig.take(rows(1, start=now))
        rig.take(rows(2, start=now - 5 * SECOND))
        assert rig.intake.drain()
        assert [now, now + 1] == times_of(rig.blocks())
        assert [] == rig.events()

    def test_streams_do_not_push_one_another(self, rig: Rig) -> None:
        now = time.time_ns()
        rig.take(rows(1, start=now), rows(2, start=now, row_class=RowClass.LOG))
        assert rig.intake.drain()
        assert [now] == times_of(rig.blocks(RowClass.LOG))

    def test_time_ahead_of_the_clock_is_not_believed(self, rig: Rig) -> None:
        """Else one such row would push every later one of the stream."""
        rig.take(rows(1, start=time.time_ns() + 3600 * SECOND))
        rig.take(rows(2))
        assert rig.intake.drain()
        assert all(at <= time.time_ns() + SECOND for at in times_of(rig.blocks()))

    @pytest.mark.parametrize(("step", "told"), [(3600, 3600.0), (-3600, -3600.0)])
    def test_a_step_of_the_clock_is_told_with_its_size_and_followed(self, rig: Rig, step: int, told: float) -> None:
        before = rig.clocks.wall_ns()
        rig.take(rows(1, start=before))
        rig.clocks.set_by_ns += step * SECOND
        after = rig.clocks.wall_ns()
        rig.take(rows(2, start=after))
        assert rig.intake.drain()
        assert [before, after] == times_of(rig.blocks())
        [detail] = [value for one in rig.blocks(RowClass.EVENT) for value in one.strings["detail"]]
        assert detail is not None
        assert told == pytest.approx(msgspec.json.decode(detail)["step_seconds"], abs=0.05)
        assert ["clock.step"] == rig.events()

    def test_rows_from_before_a_step_back_that_come_after_it_do_not_lead_the_stream_away(self, rig: Rig) -> None:
        late = rig.clocks.wall_ns()
        rig.clocks.set_by_ns -= 3600 * SECOND
        rig.take(rows(1, start=rig.clocks.wall_ns()))
        rig.take(rows(2, start=late))
        rig.take(rows(3, start=rig.clocks.wall_ns()))
        assert rig.intake.drain()
        times = times_of(rig.blocks())
        assert sorted(set(times)) == times
        assert times[-1] < late - 3000 * SECOND

    def test_a_clock_that_is_slewed_by_more_than_a_second_in_small_bits_tells_no_step(self, rig: Rig) -> None:
        for _ in range(20):
            rig.clocks.set_by_ns += SECOND // 10
            rig.take(rows(1, start=rig.clocks.wall_ns()))
        assert rig.intake.drain()
        assert [] == rig.events()


class TestFlush:
    def test_the_first_batch_of_a_stream_goes_at_once_and_the_second_waits(self, rig: Rig) -> None:
        rig.take(rows(1))
        rig.until(lambda: len(rig.spool) == 1, "the first batch")
        rig.take(rows(2))
        rig.settle()
        assert [1] == rig.values()

    def test_eighty_rows_go_at_once(self, rig: Rig) -> None:
        rig.skip_first()
        rig.take(rows(*range(79)))
        rig.settle()
        assert [] == rig.values()
        rig.take(rows(79))
        rig.until(lambda: rig.values() == list(range(80)), "eighty rows")

    def test_telemetry_that_always_has_enough_rows_goes_once_a_second(self, rig: Rig) -> None:
        rig.skip_first()
        rig.take(rows(*range(80)))
        rig.until(lambda: 80 == len(rig.values()), "the first eighty rows")
        rig.clocks.now += 0.9
        for number in range(1, 4):
            rig.take(rows(*range(80 * number, 80 * number + 80)))
        rig.settle()
        assert 80 == len(rig.values())
        rig.pass_(0.2)
        assert list(range(320)) == rig.values()
        assert 2 == rig.commits

    def test_four_hundred_rows_of_telemetry_wait_for_nothing(self, rig: Rig) -> None:
        rig.skip_first()
        for number in range(6):
            rig.take(rows(*range(80 * number, 80 * number + 80)))
        rig.until(lambda: 480 == len(rig.values()), "the first eighty rows, and four hundred more")

    def test_log_records_are_not_held_back(self, rig: Rig) -> None:
        rig.skip_first()
        for number in (1, 2):
            rig.take(rows(*range(80), row_class=RowClass.LOG))
            rig.until(lambda many=80 * number: many == len(rig.values(row_class=RowClass.LOG)), "eighty records")

    def test_what_is_nearly_due_goes_along_with_what_is(self, rig: Rig) -> None:
        rig.skip_first()
        rig.take(rows(1, 2))
        rig.pass_(2.4)
        rig.take(rows(3, level=Level.ESSENTIAL))
        rig.pass_(2.7)
        assert ([3], [1, 2]) == (rig.values(level=Level.ESSENTIAL), rig.values(level=Level.STANDARD))
        assert 1 == rig.commits

    def test_fewer_go_after_five_seconds(self, rig: Rig) -> None:
        rig.skip_first()
        rig.take(rows(1))
        rig.pass_(4.9)
        assert [] == rig.values()
        rig.take(rows(2))
        rig.pass_(0.2)
        assert [1, 2] == rig.values()

    def test_events_go_at_once_and_take_nobody_along(self, rig: Rig) -> None:
        rig.skip_first()
        rig.take(rows(1))
        rig.take(event(2))
        rig.until(lambda: rig.values(row_class=RowClass.EVENT) == [2], "the event")
        assert [] == rig.values()

    def test_while_somebody_watches_rows_go_after_a_second(self, rig: Rig) -> None:
        rig.skip_first()
        rig.take(rows(1))
        rig.policy.watch(30)
        rig.pass_(0.9)
        assert [] == rig.values()
        rig.pass_(0.2)
        assert [1] == rig.values()

    def test_what_is_not_due_is_on_disk_after_a_stop(self, rig: Rig) -> None:
        rig.skip_first()
        rig.take(rows(1))
        rig.intake.stop()
        rig.intake.stop()
        assert [1] == rig.values()


class TestPositions:
    def test_two_streams_of_one_delivery_are_committed_together(self, rig: Rig) -> None:
        rig.skip_first()
        rig.take(rows(1), rows(2, row_class=RowClass.LOG), position="7")
        rig.take(rows(*range(80)))
        rig.settle()
        assert [2] == rig.values(row_class=RowClass.LOG)
        assert {"tape": "7"} == rig.spool.positions("host")
        assert 1 == rig.commits

    def test_a_later_position_never_goes_before_rows_from_before_it(self, rig: Rig) -> None:
        """An event with a position goes at once: the rows that the source yielded before must go with it."""
        rig.skip_first()
        rig.take(rows(1, row_class=RowClass.LOG), position="1")
        rig.take(event(2), position="2")
        rig.until(lambda: rig.spool.positions("host") == {"tape": "2"}, "the position")
        assert [1] == rig.values(row_class=RowClass.LOG)
        assert [2] == rig.values(row_class=RowClass.EVENT)

    def test_positions_of_other_sources_do_not_wait_for_one_another(self, rig: Rig) -> None:
        rig.skip_first()
        rig.take(rows(1, row_class=RowClass.LOG), position="1", collector="loud")
        rig.take(event(2), position="2")
        rig.until(lambda: rig.spool.positions("host") == {"tape": "2"}, "the position")
        assert {} == rig.spool.positions("loud")
        assert [] == rig.values(row_class=RowClass.LOG)

    def test_a_position_whose_rows_were_all_filtered_goes_with_their_count_in_five_seconds(self, rig: Rig) -> None:
        rig.skip_first()
        for number in range(50):
            rig.take(rows(1, level=Level.DEBUG), position=str(number))
        rig.settle()
        assert 0 == rig.commits  # fifty filtered records are not fifty writes
        assert {"tape": "49"} == rig.intake.positions("host")
        rig.pass_(5.1)
        assert {"tape": "49"} == rig.spool.positions("host")
        streams = {(one.row_class, one.level): one for one in rig.spool.account().epochs[0].streams}
        assert 50 == streams[RowClass.TELEMETRY, Level.DEBUG].filtered

    def test_positions_are_known_before_they_are_committed(self, rig: Rig) -> None:
        rig.skip_first()
        rig.take(rows(1), position="9")
        assert {"tape": "9"} == rig.intake.positions("host")
        assert {} == rig.intake.positions("other")

    @given(st.lists(st.tuples(st.sampled_from(("log", "telemetry", "event", "filtered")), st.sampled_from("ab")),
                    min_size=1, max_size=12))  # fmt: skip
    def test_whenever_the_power_goes_position_and_rows_agree(self, steps: list[tuple[str, str]]) -> None:
        """Property: after every commit, what is there of a source is exactly what lies before its position."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            rig = Rig(Path(folder))
            rig.skip_first()
            agreed = []
            commit = rig.spool.commit

            def checked(*arguments: Any) -> Any:
                held = commit(*arguments)
                agreed.append(_positions_and_rows(rig))
                return held

            rig.spool.commit = checked  # type: ignore[assignment, method-assign]
            made: dict[str, list[str]] = {"a": [], "b": []}
            rig.intake.start()
            for kind, source in steps:
                made[source].append(kind)
                number = len(made[source])
                rig.take(_of_kind(kind, source, number), position=str(number), collector=source)
            rig.intake.stop()
            rig.spool.close()
        assert agreed
        for found in agreed:
            for source, (position, numbers) in found.items():
                kept = [at for at, kind in enumerate(made[source][:position], 1) if kind != "filtered"]
                assert kept == numbers


def _of_kind(kind: str, source: str, number: int) -> Parcel:
    if kind == "event":
        return Parcel(RowClass.EVENT, Level.ESSENTIAL, block(number, device=source))
    row_class = RowClass.LOG if kind == "log" else RowClass.TELEMETRY
    return Parcel(row_class, Level.DEBUG if kind == "filtered" else Level.STANDARD, block(number, device=source))


def _positions_and_rows(rig: Rig) -> dict[str, tuple[int, list[int]]]:
    numbers: dict[str, list[int]] = {"a": [], "b": []}
    for row_class in (RowClass.EVENT, RowClass.LOG, RowClass.TELEMETRY):
        for one in rig.blocks(row_class):
            for key, value in zip(one.rows, one.ints["value"], strict=True):
                assert value is not None
                numbers[one.keys[key][0]].append(value)
    return {
        source: (int(rig.spool.positions(source).get("tape", "0")), sorted(found)) for source, found in numbers.items()
    }


class TestDocuments:
    def test_only_what_is_new_or_changed_is_sent_and_what_is_gone_is_said(self, rig: Rig) -> None:
        one, two, changed = _document("gpu:1"), _document("gpu:2"), _document("gpu:2", memory_bytes=5)
        for texts in ([one, two], [one, two], [one, changed], [changed]):
            rig.take(documents=texts)
            assert rig.intake.drain()
        sent = [(each.keys[0][0], each.strings["document"][0]) for each in rig.blocks(RowClass.CAPABILITY)]
        assert [("gpu:1", one), ("gpu:2", two), ("gpu:2", changed), ("gpu:1", "")] == sent

    def test_documents_go_at_once(self, rig: Rig) -> None:
        rig.skip_first()
        rig.take(documents=[_document("gpu:1")])
        rig.until(lambda: len(rig.spool) == 1, "the document")

    def test_none_described_changes_nothing(self, rig: Rig) -> None:
        rig.take(documents=[_document("gpu:1")])
        rig.take(rows(1))
        assert rig.intake.drain()
        assert documents_hash([_document("gpu:1")]) == rig.intake.documents_hash()

    def test_the_hash_is_that_of_the_set_of_all_collectors(self, rig: Rig) -> None:
        rig.take(documents=[_document("gpu:1")])
        rig.take(documents=[_document("nic:1")], collector="loud")
        assert documents_hash([_document("nic:1"), _document("gpu:1")]) == rig.intake.documents_hash()

    def test_asked_for_them_again_all_are_sent(self, rig: Rig) -> None:
        rig.take(documents=[_document("gpu:1"), _document("gpu:2")])
        assert rig.intake.drain()
        rig.intake.resend_documents()
        assert rig.intake.drain()
        assert 4 == len(rig.blocks(RowClass.CAPABILITY))

    def test_a_later_document_of_a_device_supersedes_the_earlier_one(self, rig: Rig) -> None:
        for size in (1, 2):
            rig.take(documents=[_document("gpu:1", memory_bytes=size)])
            assert rig.intake.drain()
        assert 1 == len({held.document for held in rig.spool.pending()})

    def test_a_document_that_is_none_harms_nothing(self, rig: Rig) -> None:
        rig.take(rows(1), documents=["{", '{"device": 5}', _document("gpu:1")])
        assert rig.intake.drain()
        assert 1 == len(rig.blocks(RowClass.CAPABILITY))
        assert [1] == rig.values()


def _document(device: str, **capabilities: int) -> str:
    return encode_document(Document(device, DeviceKind.GPU, [f"serial:{device}"], capabilities=dict(capabilities)))


class TestBehind:
    """What happens when the disk takes nothing."""

    def test_it_is_not_ready_when_it_holds_too_much_and_ready_again_when_the_disk_has_it(self, tmp_path: Path) -> None:
        rig = Rig(tmp_path)
        assert rig.intake.ready()
        while rig.intake.ready():
            rig.take(rows(*range(4000)))
        assert MAX_WAITING_ROWS <= 4000 * 5
        rig.intake.start()
        assert rig.intake.drain()
        assert rig.intake.ready()
        rig.intake.stop()

    def test_memory_is_bounded_and_what_was_given_up_is_told_by_an_event(self, tmp_path: Path) -> None:
        rig = Rig(tmp_path)
        for _ in range(12):
            rig.take(rows(*range(4000)))
        rig.take(documents=[_document("gpu:1")])
        assert 2 * 4000 == rig.intake.unspooled
        rig.intake.start()
        assert rig.intake.drain()
        rig.until(lambda: rig.events() == ["rows.given_up"], "the event")
        assert 1 == len(rig.blocks(RowClass.CAPABILITY))  # documents are few, and are not given up
        rig.intake.stop()
        assert 40_000 == len(rig.values())

    def test_a_commit_that_fails_is_tried_again_with_all_that_belonged_to_it(self, rig: Rig) -> None:
        commit, failures = rig.spool.commit, [SpoolError("full"), SpoolError("full")]

        def failing(*arguments: Any) -> Any:
            if failures:
                raise failures.pop()
            return commit(*arguments)

        rig.spool.commit = failing  # type: ignore[assignment, method-assign]
        rig.take(rows(1), rows(2, level=Level.DEBUG), position="1", documents=[_document("gpu:1")])
        rig.until(lambda: rig.spool.positions("host") == {"tape": "1"}, "the position")
        assert [1] == rig.values()
        assert 1 == len(rig.blocks(RowClass.CAPABILITY))
        assert 2 == rig.intake.commit_failures

    def test_a_disk_that_took_nothing_for_a_while_is_told_once_when_it_takes_rows_again(self, rig: Rig) -> None:
        commit, failures = rig.spool.commit, [SpoolError("spool.db: database or disk is full")] * 2

        def failing(*arguments: Any) -> Any:
            if failures:
                rig.clocks.now += 30
                raise failures.pop()
            return commit(*arguments)

        rig.spool.commit = failing  # type: ignore[assignment, method-assign]
        rig.take(rows(1))
        rig.until(lambda: rig.events() == ["spool.blocked"], "the event")
        rig.take(rows(*range(80)))
        rig.pass_(2)
        assert 81 == len(rig.values())
        [told] = rig.blocks(RowClass.EVENT)
        detail = {"blocked_seconds": 30.0, "failures": 2, "reason": "spool.db: database or disk is full"}
        assert [detail] == [msgspec.json.decode(str(text)) for text in told.strings["detail"]]
        assert [Severity.WARNING] == told.ints["severity"]

    def test_large_rows_travel_in_more_batches(self, rig: Rig) -> None:
        """Log messages may have 128 KiB each; 80 of them exceed a body."""
        import random

        text = random.Random(1).randbytes(50_000).hex()
        large = block(*range(200))
        large.strings["message"] = [f"{number}{text}" for number in range(200)]
        rig.take(Parcel(RowClass.LOG, Level.STANDARD, large))
        assert rig.intake.drain(30)
        assert list(range(200)) == rig.values(row_class=RowClass.LOG)
        assert len(rig.spool) > 1
        assert all(held.size <= MAX_BODY_BYTES for held in rig.spool.pending())

    def test_a_value_that_cannot_travel_harms_only_its_row(self, rig: Rig) -> None:
        rig.take(rows(1, 2, 1 << 70, 4), position="1")
        rig.until(lambda: rig.events() == ["rows.given_up"], "the event")
        assert [1, 2, 4] == rig.values()
        assert 1 == rig.intake.unspooled
        assert {"tape": "1"} == rig.spool.positions("host")


# --- blocks that grow together ----------------------------------------------------------------------------------------

_COLUMNS = {"f": "floats", "g": "floats", "i": "ints", "b": "bools", "s": "strings"}
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "floats": st.floats(allow_nan=False),
    "ints": st.integers(-(1 << 63), (1 << 63) - 1),
    "bools": st.booleans(),
    "strings": st.text("xyz", max_size=3),
}


@st.composite
def tables(draw: st.DrawFn) -> list[Block]:
    """Blocks of one measurement that follow one another in time, with whatever devices and columns."""
    blocks, at = [], 1000
    for _ in range(draw(st.integers(2, 6))):
        count = draw(st.integers(1, 5))
        keys = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True))
        at += draw(st.integers(1, 50))
        steps = [0, *draw(st.lists(st.integers(1, 9), min_size=count - 1, max_size=count - 1))]
        which = draw(st.lists(st.integers(0, len(keys) - 1), min_size=count, max_size=count))
        made = Block("cpu", "node-1", [], [[key] for key in keys], which, at, steps)
        for name in draw(st.lists(st.sampled_from(sorted(_COLUMNS)), min_size=1, max_size=5, unique=True)):
            kind = _COLUMNS[name]
            values = st.one_of(st.none(), _VALUES[kind])
            getattr(made, kind)[name] = draw(st.lists(values, min_size=count, max_size=count))
        at = made.end
        blocks.append(made)
    return blocks


def naive(blocks: list[Block]) -> list[tuple[int, str, dict[str, Any]]]:
    """Give every row by itself: time, device, and the values that are there."""
    found = []
    for one in blocks:
        columns: dict[str, list[Any]] = {**one.floats, **one.ints, **one.bools, **one.strings}
        for at, (when, key) in enumerate(zip(times_of([one]), one.rows, strict=True)):
            values = {name: column[at] for name, column in columns.items() if column[at] is not None}
            found.append((when, one.keys[key][0], values))
    return found


class TestBlocks:
    @given(tables())
    def test_merged_blocks_hold_the_rows_of_all_and_keep_their_columns_aligned(self, blocks: list[Block]) -> None:
        expected = naive(blocks)
        into, *rest = blocks
        assert all(merge_block(into, one) for one in rest)
        check_block(into)
        assert expected == naive([into])

    @given(tables(), st.data())
    def test_a_block_in_two_parts_is_the_block(self, blocks: list[Block], data: st.DataObject) -> None:
        one = blocks[0]
        cut = data.draw(st.integers(1, len(one.rows)))
        parts = [rows_of(one, 0, cut)] + ([rows_of(one, cut, len(one.rows))] if cut < len(one.rows) else [])
        for part in parts:
            check_block(part)
        assert naive([one]) == naive(parts)

    def test_a_block_that_does_not_go_on_in_time_is_not_merged(self) -> None:
        into = block(1, 2, start=100)
        assert not merge_block(into, block(3, start=101))
        assert [(100, "", {"value": 1}), (101, "", {"value": 2})] == naive([into])

    def test_a_column_never_has_two_types(self) -> None:
        into, other = block(1, start=100), block(start=200)
        other.rows, other.steps, other.ints, other.floats = [0], [0], {}, {"value": [1.5]}
        assert not merge_block(into, other)
        check_block(into)

    def test_blocks_are_not_merged_beyond_the_columns_that_a_receiver_takes(self) -> None:
        into, other = block(1, start=100), block(2, start=200)
        into.ints = {f"a{number}": [1] for number in range(300)}
        other.ints = {f"b{number}": [1] for number in range(300)}
        assert MAX_COLUMNS < 600
        assert not merge_block(into, other)
        check_block(into)

    def test_blocks_are_not_merged_beyond_the_rows_of_a_batch(self) -> None:
        into = block(*range(MAX_ROWS - 1), start=100)
        assert not merge_block(into, block(1, 2, start=1 << 40))
        assert merge_block(into, block(1, start=1 << 40))

    def test_rows_that_cannot_travel_are_told_between_their_neighbours(self) -> None:
        found = [
            (count, body is None) for count, body, _ in bodies_of([block(1, 1 << 70, 3, start=5), block(4, start=9)])
        ]
        assert 4 == sum(count for count, _ in found)
        assert [1] == [count for count, missing in found if missing]
