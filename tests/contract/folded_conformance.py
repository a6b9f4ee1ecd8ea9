"""What every store makes of storms that a query asks to have folded: 800,000 copies of 29 lines are 29 rows (R001-11).

A test module subclasses `FoldedConformance` and gives it a fixture `place` (see `store_conformance.Place`).
"""

import random
from collections import defaultdict
from typing import Any

import pytest

from aggregator.query import SECOND
from collectors.log_storm import mask
from schemas.batch import Block
from schemas.errors import QueryError
from schemas.verbosity import RowClass
from tests.contract.query_conformance import FLEET, Asker
from tests.contract.store_conformance import Place
from tests.contract.store_rows import T0, block, column, rows_of, table

Record = dict[str, Any]
_TEXTS = ("message", "host", "app", "unit", "peer")
_NUMBERS = ("severity", "copies", "first_time_ns", "last_time_ns")


def _records(*records: Record, subject: str = "node1", source: str = "udp") -> Block:
    """Give log records, a second apart; each a message, and what else it has."""
    fields = {name: [record.get(name) for record in records] for name in (*_TEXTS, *_NUMBERS)}
    fields = {name: values for name, values in fields.items() if any(value is not None for value in values)}
    return block("log", fields, subject=subject, device="", source=source)


def _asker(place: Place, *blocks: Block) -> Asker:
    return Asker(place, *(rows_of(one, row_class=RowClass.LOG) for one in blocks))


def _counted(message: str, copies: int, first: int, last: int, **more: Any) -> Record:
    times = {"first_time_ns": T0 + first * SECOND, "last_time_ns": T0 + last * SECOND}
    return {"message": message, "copies": copies, "severity": 3, **times, **more}


def _plain(message: str, **more: Any) -> Record:
    return {"message": message, "severity": 3, **more}


class FoldedConformance:
    """The claims. A subclass has a fixture `place`."""

    def test_a_storm_is_one_row_with_the_count_of_all_and_their_first_and_last_time(self, place: Place) -> None:
        asker = _asker(
            place,
            _records(
                _plain("Xid 95 at 0x1f"),
                _plain("something else"),
                _plain("Xid 95 at 0x20"),
                _counted("Xid 95 at 0xff", 1000, 2, 60),
                _counted("Xid 95 at 0x1000", 500, 61, 70),
            ),
        )
        rows = table(asker("log", copies="folded", fields="message,copies,first_time_ns,last_time_ns"))
        assert [
            (T0 + 4 * SECOND, "Xid 95 at 0x1000", 1502, T0, T0 + 70 * SECOND),
            (T0 + SECOND, "something else", None, None, None),
        ] == [(row["time"], *list(row.values())[-4:]) for row in rows]
        assert 5 == asker("log").rows == asker("log", copies="apart").rows
        asker.close()

    def test_what_no_storm_counted_stays_apart_however_alike(self, place: Place) -> None:
        asker = _asker(place, _records(*[_plain(f"number {at}") for at in range(5)], _counted("other 1", 7, 0, 1)))
        found = column(asker("log", copies="folded", order="oldest"), "message")
        assert [*[f"number {at}" for at in range(5)], "other 1"] == found
        asker.close()

    @pytest.mark.parametrize(
        "other",
        [{"severity": 4}, {"host": "b"}, {"app": "b"}, {"unit": "b"}, {"peer": "b"}, {"host": None}],
        ids=lambda other: "-".join(map(str, other.items())),
    )
    def test_what_differs_in_more_than_numbers_is_no_copy(self, place: Place, other: Record) -> None:
        common = {"host": "a", "app": "a", "unit": "a", "peer": "a"}
        asker = _asker(place, _records(_counted("x 1", 9, 0, 1, **common), _plain("x 2", **{**common, **other})))
        assert [None, 9] == column(asker("log", copies="folded"), "copies")
        asker.close()

    def test_copies_on_two_nodes_or_by_two_ways_are_two_storms(self, place: Place) -> None:
        storm = (_plain("x 1"), _counted("x 2", 9, 0, 1))
        asker = _asker(place, _records(*storm), _records(*storm, subject="node2"), _records(*storm, source="kmsg"))
        assert [10, 10, 10] == column(asker("log", copies="folded"), "copies")
        assert [10] == column(asker("log", copies="folded", where="node=node2"), "copies")
        asker.close()

    def test_a_limit_counts_storms_once_so_that_they_bury_nothing(self, place: Place) -> None:
        storm = [_plain(f"x {at}") for at in range(50)]
        asker = _asker(place, _records(_plain("before"), *storm, _counted("x 99", 9, 0, 1), _plain("after")))
        found = asker("log", copies="folded", limit=3)
        assert ["after", "x 99", "before"] == column(found, "message")
        assert not found.truncated
        cut = asker("log", copies="folded", limit=2)
        assert (["after", "x 99"], True) == (column(cut, "message"), cut.truncated)
        asker.close()

    def test_other_conditions_come_first(self, place: Place) -> None:
        asker = _asker(place, _records(_plain("x 1"), _plain("x 2"), _counted("x 3", 9, 0, 1), _plain("x 4")))
        assert [12] == column(asker("log", copies="folded"), "copies")
        assert [10] == column(asker("log", copies="folded", since=str(T0 + 2 * SECOND)), "copies")
        assert [None, None] == column(asker("log", copies="folded", until=str(T0 + 2 * SECOND)), "copies")
        assert [None] == column(asker("log", copies="folded", contains="x 4"), "copies")
        asker.close()

    def test_rows_of_a_storm_are_ordered_by_their_newest_by_either_clock(self, place: Place) -> None:
        texts: dict[str, list[Any]] = {
            "message": ["x 1", "late", "x 2"], "copies": [None, None, 5],
            "source_time_ns": [T0 + 10 * SECOND, T0 + 40 * SECOND, T0 + 30 * SECOND],
        }  # fmt: skip
        asker = _asker(place, block("log", texts, device="", source="udp"))
        assert ["x 2", "late"] == column(asker("log", copies="folded"), "message")
        assert ["late", "x 2"] == column(asker("log", copies="folded", by="source"), "message")
        asker.close()

    def test_only_rows_of_logs_are_folded(self, place: Place) -> None:
        asker = Asker(place, *FLEET)
        for measurement, more in (("gpu", {}), ("log", {"every": "1m"}), ("log", {"last": True})):
            with pytest.raises(QueryError, match="copies to fold"):
                asker(measurement, copies="folded", **more)
        assert 0 == asker("log", copies="folded").rows
        asker.close()

    def test_sum_is_what_was_sent_whatever_the_texts(self, place: Place) -> None:
        """Against the nodes' own idea of what copies are."""
        draw = random.Random(7)
        words = ["Xid {} at 0x{:x}", "añb {}", "", "{}{:x} tail", "line\nof {}", "x" * 2040 + " {} {}", "fan {} bad"]
        records: list[Record] = []
        for at in range(400):
            text = draw.choice(words).format(draw.randrange(10**6), draw.randrange(10**6))
            more = {"host": draw.choice(["a", "b", None]), "severity": draw.choice([3, 6])}
            many = draw.random() < 0.02
            records.append(_counted(text, 100, at, at, **more) if many else {"message": text, **more})
        asker = _asker(place, _records(*records))
        found = table(asker("log", copies="folded", limit=10_000))
        alike = defaultdict(list)
        for record in records:
            alike[mask(record["message"]), record["host"], record["severity"]].append(record)
        stormy = [own for own in alike.values() if any("copies" in record for record in own)]
        calm = [record["message"] for own in alike.values() if own not in stormy for record in own]
        assert 2 < len(stormy) < len(alike)
        assert sorted(sum(record.get("copies", 1) for record in own) for own in stormy) == sorted(
            row["copies"] for row in found if row["copies"]
        )
        assert sorted(calm) == sorted(row["message"] for row in found if not row["copies"])
        asker.close()
