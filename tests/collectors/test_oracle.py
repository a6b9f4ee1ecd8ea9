"""The oracle numbers its rows without gaps, whatever happens between two commits."""

import logging
import threading
import time
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.config import CollectorSection
from collectors.contract import Context, Watches
from collectors.oracle import MAX_UNIT, UNIT_SECONDS, OracleCollector, OracleConfig, check_of
from schemas.codec import decode_body, encode_body
from schemas.errors import StartupError
from schemas.rows import Item, Parcel, Position
from schemas.verbosity import Level, RowClass


def oracle(positions: dict[str, str] | None = None, **config: object) -> OracleCollector:
    """Give an oracle that was started."""
    context = Context(subject="node", log=logging.getLogger("test"), positions=positions or {})
    source = OracleCollector(msgspec.convert(config, OracleConfig), context)
    source.start()
    return source


def numbers(items: Iterable[Item]) -> list[int]:
    """Give the numbers of the rows in a unit."""
    return [
        number
        for item in items
        if isinstance(item, Parcel)
        for number in item.block.ints["sequence_total"]
        if number is not None
    ]


def test_a_unit_is_rows_and_the_position_after_them() -> None:
    items = oracle({"oracle": "40"}).unit(5)
    assert [40, 41, 42, 43, 44] == numbers(items)
    assert [Position("oracle", "45")] == [item for item in items if isinstance(item, Position)]
    assert isinstance(items[-1], Position), "rows first, so that no position goes without them"


@given(st.lists(st.tuples(st.integers(1, 50), st.booleans()), max_size=60))
def test_what_is_committed_is_numbered_without_gaps_or_repetition(units: list[tuple[int, bool]]) -> None:
    """Every unit may or may not be committed; where it was not, the process died and a new one resumed."""
    committed: list[int] = []
    positions: dict[str, str] = {}
    source = oracle()
    for rows, lives in units:
        items = source.unit(rows)
        if lives:
            committed += numbers(items)
            positions = {item.source: item.value for item in items if isinstance(item, Position)}
        else:
            source = oracle(positions)
    assert list(range(len(committed))) == committed


def test_nothing_but_the_committed_position_says_where_it_resumes() -> None:
    """A second start of the same object forgets what it emitted without a commit."""
    source = oracle({"oracle": "7"})
    source.unit(100)
    source.stop()
    source.start()
    assert numbers(source.unit(2)) == [7, 8]


def test_every_number_goes_with_its_check() -> None:
    (parcel, _) = oracle({"oracle": "1000000"}).unit(300)
    assert isinstance(parcel, Parcel)
    block = parcel.block
    assert block.ints["check"] == [check_of(number) for number in range(1_000_000, 1_000_300)]
    assert len(set(block.ints["check"])) == 300
    assert check_of(1) == 2_654_448_106
    assert decode_body(encode_body([block])) == [block]


def test_rows_have_the_configured_class_level_and_payload() -> None:
    (parcel, _) = oracle(row_class="event", row_level="detailed", payload_bytes=100).unit(3)
    assert isinstance(parcel, Parcel)
    assert (parcel.row_class, parcel.level) == (RowClass.EVENT, Level.DETAILED)
    assert [100] * 3 == [len(text or "") for text in parcel.block.strings["payload"]]
    (bare, _) = oracle().unit(3)
    assert isinstance(bare, Parcel)
    assert bare.block.strings == {}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"row_class": "capability"}, "capabilities are documents"),
        ({"row_class": "metrics"}, "not a class"),
        ({"row_level": "loud"}, "not a level"),
        ({"row_level": "debug"}, "declared essential"),
        ({"rate": -1.0}, "rate"),
        ({"payload_bytes": 1 << 20}, "payload_bytes"),
        ({"burst_every_seconds": 0.0}, "burst_every_seconds above 0"),
    ],
)
def test_a_configuration_out_of_range_is_refused(config: dict[str, object], says: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=says):
        msgspec.convert(config, OracleConfig)


@pytest.mark.parametrize("value", ["-1", "seven", "", "٣"])
def test_a_position_that_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(StartupError) as raised:
        oracle({"oracle": value})
    assert not raised.value.retry


class Ticks(threading.Event):
    """A `stopping` that never waits: every wait is one tick of the clock that the oracle reads; it ends by itself."""

    def __init__(self, ticks: int, seconds: float = UNIT_SECONDS) -> None:
        super().__init__()
        self.now = 100.0
        self._left = ticks
        self._seconds = seconds

    def wait(self, timeout: float | None = None) -> bool:  # time passes by ticks here
        if not self._left:
            self.set()
            return True
        self._left -= 1
        self.now += self._seconds
        return False


def watched(ticks: Ticks, **config: object) -> list[list[Item]]:
    """Let an oracle watch for some ticks; give its units."""
    context = Context(subject="node", log=logging.getLogger("test"))
    source = OracleCollector(
        msgspec.convert(config, OracleConfig), context, monotonic=lambda: ticks.now, wall_ns=lambda: 10**18
    )
    source.start()
    units: list[list[Item]] = []
    source.watch(lambda items: units.append(list(items)), ticks)
    return units


def test_the_rate_is_kept_in_small_units() -> None:
    units = watched(Ticks(500), rate=5000.0)
    assert sum(len(numbers(unit)) for unit in units) == pytest.approx(50_000, abs=1)
    assert max(len(numbers(unit)) for unit in units) <= 101


def test_a_slow_rate_is_kept_over_many_ticks() -> None:
    assert sum(len(numbers(unit)) for unit in watched(Ticks(500), rate=3.0)) == pytest.approx(30, abs=1)


def test_a_burst_comes_on_top_and_in_units_of_bounded_size() -> None:
    units = watched(Ticks(510), rate=0.0, burst_rows=10_000, burst_every_seconds=5.0)
    sizes = [len(numbers(unit)) for unit in units]
    assert [MAX_UNIT, MAX_UNIT, 10_000 - 2 * MAX_UNIT] * 2 == sizes


def test_a_long_pause_is_not_made_up_for() -> None:
    """One tick of an hour, and rows of at most a second."""
    assert sum(len(numbers(unit)) for unit in watched(Ticks(1, 3600.0), rate=1000.0)) == 1000


def test_it_ends_at_its_limit() -> None:
    units = watched(Ticks(100), rate=5000.0, limit=777)
    assert list(range(777)) == [number for unit in units for number in numbers(unit)]


@pytest.mark.alone
def test_it_stops_at_once_and_is_cheap() -> None:
    """At 20,000 rows a second for a while, in real time: most of a core is left."""
    source = oracle(rate=20_000.0)
    assert isinstance(source, Watches)
    stopping, made = threading.Event(), []
    thread = threading.Thread(target=source.watch, args=(lambda items: made.append(len(numbers(items))), stopping))
    begin = time.process_time()
    thread.start()
    time.sleep(0.6)
    stopping.set()
    thread.join(5.0)
    assert not thread.is_alive()
    assert sum(made) > 1000
    assert time.process_time() - begin < 0.4


def test_no_option_hides_one_of_the_hosts() -> None:
    """`[collectors.oracle]` holds the host's options as well; `level` there is the verbosity, not that of the rows."""
    own = {field.name for field in msgspec.structs.fields(OracleConfig)}
    assert own.isdisjoint(field.name for field in msgspec.structs.fields(CollectorSection))


def test_it_has_nothing_to_collect() -> None:
    assert list(oracle().collect()) == []
