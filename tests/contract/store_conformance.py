"""What every embedded implementation of `aggregator.store.Store` does: the claims that the store consumer relies on.

A test module subclasses `StoreConformance`, gives it a fixture `place`, and inherits the claims
(R001-6, R001-10, R001-15):

    class TestDuckStore(StoreConformance):
        @pytest.fixture
        def place(self, tmp_path): return DuckPlace(tmp_path)
"""

from typing import Any, Protocol

import pytest

from aggregator.ownership import FencedError
from aggregator.past import Past, PastLine, Places
from aggregator.query import Order, Queries, Query
from aggregator.store import Bad, Outcome, Position, Progress, Rows, Run, Seen, Store, Stream, Transaction, Word
from schemas.account import Account
from schemas.errors import StoreError
from schemas.verbosity import Level, RowClass
from tests.contract.store_rows import STREAM, T0, block, column, rows_of, seen, table, transaction


class Place(Protocol):
    """Where one store lives, empty at first, with the catalogue of `store_rows`."""

    def store(self) -> Store:
        """Give a store on this place, not yet open. The one given before is closed, or its process is dead."""

    def queries(self, store: Store) -> Queries:
        """Give what asks that store."""

    def take(self) -> int:
        """Take partition 0 as an owner does before it reads; give its epoch, above every one before."""


def ask(place: Place, store: Store, measurement: str, **more: Any) -> list[dict[str, Any]]:
    """Give every row of a measurement, oldest first."""
    query = Query(measurement=measurement, since=0, order=Order.OLDEST, **more)
    return table(place.queries(store).run(query))


def values(place: Place, store: Store, measurement: str, field: str) -> list[Any]:
    """Give one field's values, oldest first."""
    return [row[field] for row in ask(place, store, measurement)]


def power(watts: float) -> Rows:
    """Give one row, at as many seconds as it has watts."""
    return rows_of(block("gpu", {"power_watts": [watts]}, seconds=[watts]))


def brand_new() -> Rows:
    """Give one row of a measurement that no other test has."""
    return rows_of(block("brand_new", {"a": [1]}))


class StoreConformance:
    """The claims. A subclass has a fixture `place`."""

    def test_a_new_store_has_dealt_with_nothing(self, place: Place) -> None:
        store = place.store()
        assert Progress() == store.open()
        store.close()

    def test_rows_are_there_after_commit_and_after_reopening(self, place: Place) -> None:
        store = place.store()
        store.open()
        store.commit(transaction(rows_of(block("gpu", {"power_watts": [1.5, None, 3.0]}))))
        assert [1.5, None, 3.0] == values(place, store, "gpu", "power_watts")
        store.close()
        store = place.store()
        store.open()
        assert [1.5, None, 3.0] == values(place, store, "gpu", "power_watts")
        assert [T0, T0 + 10**9, T0 + 2 * 10**9] == [row["time"] for row in ask(place, store, "gpu")]
        store.close()

    def test_absent_is_not_zero_and_zero_is_not_absent(self, place: Place) -> None:
        store = place.store()
        store.open()
        store.commit(transaction(rows_of(block("gpu", {"power_watts": [0.0, None], "errors_total": [None, 0]}))))
        assert ([0.0, None], [None, 0]) == (
            values(place, store, "gpu", "power_watts"),
            values(place, store, "gpu", "errors_total"),
        )
        store.close()

    def test_nan_is_absent(self, place: Place) -> None:
        store = place.store()
        store.open()
        store.commit(transaction(rows_of(block("gpu", {"power_watts": [1.0, float("nan"), float("inf")]}))))
        assert [1.0, None, float("inf")] == values(place, store, "gpu", "power_watts")
        store.close()

    def test_every_type_comes_back_as_it_went_in(self, place: Place) -> None:
        fields: dict[str, list[Any]] = {
            "a": [1.25, -0.0],
            "b": [-(2**63), 2**63 - 1],
            "c": [True, False],
            "d": ["", "x\u0001'\"\\ \u00fc\U0001f680"],
            "e": [2**64 - 1, 0],
        }
        store = place.store()
        store.open()
        store.commit(transaction(rows_of(block("thing", fields))))
        for name, expected in fields.items():
            assert expected == values(place, store, "thing", name)
        store.close()

    def test_new_fields_and_measurements_join_later(self, place: Place) -> None:
        store = place.store()
        store.open()
        store.commit(transaction(rows_of(block("thing", {"a": [1]}))))
        store.commit(
            transaction(rows_of(block("thing", {"b": ["x"]}, seconds=[1])), rows_of(block("other", {"a": [2.5]})))
        )
        assert [(1, None), (None, "x")] == [(row["a"], row["b"]) for row in ask(place, store, "thing")]
        assert [2.5] == values(place, store, "other", "a")
        store.close()

    def test_a_measurement_may_have_a_name_that_sql_uses(self, place: Place) -> None:
        store = place.store()
        store.open()
        for name in ("order", "select", "series", "pick", "blk"):
            store.commit(transaction(rows_of(block(name, {"group": [1], "end": [2], "b": [3], "g": [4]}))))
            assert [(1, 2, 3, 4)] == [(r["group"], r["end"], r["b"], r["g"]) for r in ask(place, store, name)]
        store.close()

    def test_whole_numbers_grow_beyond_64_bits_signed(self, place: Place) -> None:
        store = place.store()
        store.open()
        store.commit(transaction(rows_of(block("gpu", {"errors_total": [7, -1]}))))
        store.commit(transaction(rows_of(block("gpu", {"errors_total": [2**64 - 1]}, seconds=[5]))))
        store.commit(transaction(rows_of(block("gpu", {"errors_total": [8]}, seconds=[6]))))
        assert [7, -1, 2**64 - 1, 8] == values(place, store, "gpu", "errors_total")
        store.close()
        store = place.store()
        store.open()
        assert [7, -1, 2**64 - 1, 8] == values(place, store, "gpu", "errors_total")
        store.close()

    def test_whole_numbers_go_into_a_column_of_floats(self, place: Place) -> None:
        store = place.store()
        store.open()
        batch = rows_of(block("gpu", {"power_watts": [300, 2**60]}))
        assert [] == store.check([batch])
        store.commit(transaction(batch))
        assert [300.0, float(2**60)] == values(place, store, "gpu", "power_watts")
        store.close()

    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            ({"errors_total": [1.0, 2.5]}, "gpu.errors_total: 2.5 in a column of whole numbers"),
            ({"errors_total": [float("inf")]}, "gpu.errors_total: inf in a column of whole numbers"),
            ({"errors_total": ["many"]}, "gpu.errors_total: 'many' in a column of whole numbers"),
            ({"errors_total": [True]}, "gpu.errors_total: True in a column of whole numbers"),
            ({"power_watts": ["high"]}, "gpu.power_watts: 'high' in a column of numbers"),
            ({"power_watts": [2**53 + 1]}, f"gpu.power_watts: {2**53 + 1} in a column of numbers"),
            ({"state": [1]}, "gpu.state: 1 in a column of texts"),
            ({"healthy": [1]}, "gpu.healthy: 1 in a column of true and false"),
            ({"time": [1]}, "gpu.time: a field cannot have this name; it is taken"),
        ],
    )
    def test_what_would_have_to_be_altered_is_bad(self, place: Place, fields: dict[str, list[Any]], why: str) -> None:
        """R001-15: nothing is altered in silence; the reason names measurement and field."""
        store = place.store()
        store.open()
        good = rows_of(block("gpu", {"power_watts": [1.0]}))
        bad = rows_of(block("gpu", fields, seconds=range(len(next(iter(fields.values()))))))
        assert [Bad(1, why)] == store.check([good, bad, good])
        with pytest.raises(StoreError):
            store.commit(transaction(good, bad))
        store.commit(transaction(good))
        assert [1.0] == values(place, store, "gpu", "power_watts")
        store.close()

    def test_whole_floats_go_into_a_column_of_whole_numbers(self, place: Place) -> None:
        store = place.store()
        store.open()
        batch = rows_of(block("gpu", {"errors_total": [1.0, None, 3.0]}))
        assert [] == store.check([batch])
        store.commit(transaction(batch))
        assert [1, None, 3] == values(place, store, "gpu", "errors_total")
        store.close()

    def test_the_first_of_two_batches_that_disagree_on_a_new_field_decides(self, place: Place) -> None:
        store = place.store()
        store.open()
        numbers, words = rows_of(block("thing", {"a": [1]})), rows_of(block("thing", {"a": ["x"]}))
        assert [1] == [bad.index for bad in store.check([numbers, words])]
        assert [1] == [bad.index for bad in store.check([words, numbers])]
        store.commit(transaction(numbers))
        assert [0] == [bad.index for bad in store.check([words])]
        store.close()

    def test_a_bad_batch_leaves_nothing_behind(self, place: Place) -> None:
        """The fields that it alone would have brought do not come to be."""
        store = place.store()
        store.open()
        bad = rows_of(block("gpu", {"brand_new": [1]}), block("gpu", {"state": [1]}))
        word = rows_of(block("gpu", {"brand_new": ["text"]}))
        assert [0] == [one.index for one in store.check([bad, word])]
        store.close()

    def test_an_attribute_and_a_field_cannot_share_a_name(self, place: Place) -> None:
        store = place.store()
        store.open()
        bad = rows_of(block("gpu", {"power_watts": [1.0]}, state="on"))
        assert ["gpu.state: an attribute cannot have this name; it is taken"] == [b.reason for b in store.check([bad])]
        store.close()

    def test_attributes_in_another_order_are_the_same_series(self, place: Place) -> None:
        store = place.store()
        store.open()
        one = block("net", {"a": [1]}, interface="eth0", queue="7")
        other = block("net", {"a": [2]}, queue="7", interface="eth0", seconds=[1])
        store.commit(transaction(rows_of(one), rows_of(other)))
        assert 1 == place.queries(store).describe("net")[0].series
        assert [("eth0", "7"), ("eth0", "7")] == [(row["interface"], row["queue"]) for row in ask(place, store, "net")]
        store.close()

    def test_positions_are_the_latest_and_seen_rows_are_joined(self, place: Place) -> None:
        store = place.store()
        store.open()
        for number in range(5):
            part = [seen(number * 10, number * 10 + 5), seen(number * 10 + 5, number * 10 + 10)]
            store.commit(transaction(offset=number + 1, seen=part))
        store.commit(transaction(offset=6, seen=[seen(60, 70), seen(50, 55, Outcome.QUARANTINED)]))
        expected = Progress(
            "log1",
            [Position("telemetry", 0, 6)],
            [seen(0, 50), seen(60, 70), seen(50, 55, Outcome.QUARANTINED)],
        )
        assert expected == store.open()
        store.close()
        store = place.store()
        assert expected == store.open()
        store.close()

    def test_streams_are_kept_apart(self, place: Place) -> None:
        streams = [
            STREAM,
            Stream("pub1", "epoch2", RowClass.TELEMETRY, Level.STANDARD),
            Stream("pub1", "epoch1", RowClass.EVENT, Level.STANDARD),
            Stream("pub1", "epoch1", RowClass.TELEMETRY, Level.DEBUG),
            Stream("pub2", "epoch1", RowClass.TELEMETRY, Level.STANDARD),
        ]
        store = place.store()
        store.open()
        for number, stream in enumerate(streams):
            store.commit(transaction(seen=[Seen(stream, number, number + 1, Outcome.DONE)]))
        kept = {one.stream: (one.first, one.end) for one in store.open().seen}
        assert {stream: (number, number + 1) for number, stream in enumerate(streams)} == kept
        store.close()

    def test_the_last_word_of_each_publisher_is_kept(self, place: Place) -> None:
        words = [
            Word("a", "e1", 5, Account(1, [])),
            Word("b", "e1", 6, Account(9, [])),
            Word("a", "e2", 4, Account(0, []), ["e1"]),
        ]
        store = place.store()
        store.open()
        for word in words:
            store.commit(Transaction([], Progress(words=[word])))
        assert {"a": words[2], "b": words[1]} == {word.publisher: word for word in store.open().words}
        store.close()

    @pytest.mark.parametrize("upkeep", [False, True])
    def test_of_a_settled_run_only_the_past_is_kept(self, place: Place, upkeep: bool) -> None:
        """Its past and the end of what was seen of it are one transaction; other runs keep theirs."""
        other = Stream("pub1", "epoch2", RowClass.TELEMETRY, Level.STANDARD)
        stranger = Stream("pub2", STREAM.epoch, RowClass.TELEMETRY, Level.STANDARD)
        kept = [Seen(other, 0, 7, Outcome.DONE), Seen(stranger, 0, 9, Outcome.DONE)]
        line = PastLine(RowClass.TELEMETRY, Level.STANDARD, Places(numbered=15, done=10, dropped={"spool_full": 5}))
        first = Past("pub1").settle("epoch0", 4, [line])
        second = first.settle(STREAM.epoch, 5, [line])
        store = place.store()
        store.open()
        store.commit(transaction(offset=1, seen=[seen(0, 10), seen(12, 15, Outcome.FILTERED), *kept]))
        store.commit(Transaction([], Progress(pasts=[first], settled=[Run("pub1", "epoch0")])))
        if upkeep:
            store.maintain(T0)
        store.commit(Transaction([], Progress(pasts=[second], settled=[Run(STREAM.publisher, STREAM.epoch)])))
        if upkeep:
            store.maintain(T0)
        expected = Progress("log1", [Position("telemetry", 0, 1)], kept, [], [second])
        assert expected == store.open()
        store.close()
        store = place.store()
        assert expected == store.open()
        store.close()

    def test_another_log_begins_anew(self, place: Place) -> None:
        """A position under another log id means nothing; what was seen still counts."""
        store = place.store()
        store.open()
        store.commit(transaction(offset=100, seen=[seen(0, 10)]))
        store.commit(transaction(offset=3, seen=[seen(10, 12)], log_id="log2"))
        expected = Progress("log2", [Position("telemetry", 0, 3)], [seen(0, 12)])
        assert expected == store.open()
        store.close()

    def test_a_late_owner_is_refused_and_nothing_of_it_stays(self, place: Place) -> None:
        """DESIGN part 1: every position that is written checks the epoch of the partition's owner."""
        late = place.store()
        late.open()
        old = place.take()
        late.commit(transaction(power(1.0), offset=1, seen=[seen(0, 1)], owner=old))
        late.close()
        store = place.store()
        store.open()
        new = place.take()
        store.commit(transaction(power(2.0), offset=2, seen=[seen(1, 2)], owner=new))
        store.close()

        late.open()
        for owner in (old, None):  # also one that names no epoch at all
            with pytest.raises(FencedError) as fenced:
                late.commit(transaction(power(666.0), brand_new(), offset=9, seen=[seen(2, 9)], owner=owner))
            assert (0, owner or 0, new) == (fenced.value.partition, fenced.value.epoch, fenced.value.current)
        late.close()
        store = place.store()
        expected = Progress("log1", [Position("telemetry", 0, 2)], [seen(0, 2)], owners={0: new})
        assert expected == store.open()
        assert [1.0, 2.0] == values(place, store, "gpu", "power_watts")
        assert "brand_new" not in [one.name for one in place.queries(store).describe("")]
        store.commit(transaction(power(3.0), offset=3, seen=[seen(2, 3)], owner=new))
        assert [1.0, 2.0, 3.0] == values(place, store, "gpu", "power_watts")
        store.close()

    def test_taking_over_fences_before_anything_was_stored(self, place: Place) -> None:
        """Between the new owner's first reading and its first rows the old one must have no room to write."""
        store = place.store()
        store.open()
        old, new = place.take(), place.take()
        store.commit(transaction(owner=new))
        with pytest.raises(FencedError):
            store.commit(transaction(power(1.0), offset=1, seen=[seen(0, 1)], owner=old))
        with pytest.raises(FencedError):
            store.commit(transaction(owner=old))
        assert Progress(owners={0: new}) == store.open()
        store.close()

    def test_partitions_have_owners_of_their_own(self, place: Place) -> None:
        store = place.store()
        store.open()
        first = place.take()
        store.commit(Transaction([], Progress("log1", [Position("event", 0, 1)], owners={0: first})))
        store.commit(Transaction([], Progress("log1", [Position("event", 5, 1)])))  # nobody ever took that one
        store.maintain(T0)
        store.close()
        store = place.store()
        progress = store.open()
        assert ({0: first}, [0, 5]) == (progress.owners, [one.partition for one in progress.positions])
        store.close()

    def test_upkeep_changes_no_answer(self, place: Place) -> None:
        store = place.store()
        store.open()
        store.commit(
            transaction(rows_of(block("gpu", {"power_watts": [1.0, 2.0]})), offset=1, seen=[seen(0, 1), seen(5, 6)])
        )
        before = store.open()
        store.maintain(T0)
        assert before == store.open()
        assert [1.0, 2.0] == values(place, store, "gpu", "power_watts")
        store.close()
        store = place.store()
        assert before == store.open()
        store.close()

    def test_closing_twice_and_opening_again_on_the_same_object(self, place: Place) -> None:
        store = place.store()
        store.close()
        store.open()
        store.commit(transaction(rows_of(block("gpu", {"power_watts": [1.0]})), offset=1))
        store.close()
        store.close()
        assert [Position("telemetry", 0, 1)] == store.open().positions
        assert [1.0] == values(place, store, "gpu", "power_watts")
        store.close()

    def test_nothing_is_kept_while_closed(self, place: Place) -> None:
        store = place.store()
        with pytest.raises(StoreError):
            store.commit(transaction(offset=1))
        with pytest.raises(StoreError):
            store.maintain(T0)

    def test_logs_events_and_capabilities_are_measurements(self, place: Place) -> None:
        store = place.store()
        store.open()
        store.commit(
            transaction(
                rows_of(block("log", {"message": ["m"], "severity": [3]}, source="kmsg"), row_class=RowClass.LOG),
                rows_of(block("event", {"type": ["a.b"], "message": ["e"]}), row_class=RowClass.EVENT),
                rows_of(block("capability", {"document": ["{}"]}), row_class=RowClass.CAPABILITY),
            )
        )
        assert (["m"], ["e"], ["{}"]) == (
            values(place, store, "log", "message"),
            values(place, store, "event", "message"),
            values(place, store, "capability", "document"),
        )
        store.close()

    def test_an_empty_transaction_is_nothing(self, place: Place) -> None:
        store = place.store()
        store.open()
        store.commit(Transaction())
        assert Progress() == store.open()
        store.close()

    def test_one_field_of_many_batches_in_one_transaction(self, place: Place) -> None:
        """Columns that only some batches have are absent in the others, in any order."""
        store = place.store()
        store.open()
        batches: list[Rows] = []
        expected = []
        for number in range(30):
            fields: dict[str, list[Any]] = {}
            if number % 2:
                fields["a"] = [number, None]
            if number % 3 == 0 or not fields:
                fields["b"] = [None, f"t{number}"]
            batches.append(rows_of(block("thing", fields, device=f"d{number}", seconds=[2 * number, 2 * number + 1])))
            a, b = fields.get("a", [None, None]), fields.get("b", [None, None])
            expected += [(f"d{number}", a[0], b[0]), (f"d{number}", a[1], b[1])]
        store.commit(transaction(*batches))
        assert expected == [(row["device"], row["a"], row["b"]) for row in ask(place, store, "thing")]
        assert expected[0][0] == column(place.queries(store).run(Query(measurement="thing", since=0)), "device")[-1]
        store.close()
