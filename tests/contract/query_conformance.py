"""What every store answers to the same questions: the claims that the API, the page and people rely on.

A test module subclasses `QueryConformance` and gives it a fixture `place` (see `store_conformance.Place`); for a store
that is not embedded, `place.store()` gives an adapter whose `commit` returns when the rows can be asked for (R001-10).
"""

from typing import Any

import msgspec
import pytest

from aggregator.query import SECOND, Aggregate, Asked, Order, Query, Result, Role
from aggregator.query_text import QueryParameters
from aggregator.selector import equals
from aggregator.store import Rows, Transaction
from schemas.errors import QueryError
from schemas.metrics import ValueType
from schemas.verbosity import RowClass
from tests.contract.store_conformance import Place
from tests.contract.store_rows import T0, block, column, rows_of, table, transaction


class Asker:
    """A store with rows in it, and somebody who asks as people do: in text, as of ten minutes after T0."""

    def __init__(self, place: Place, *rows: Rows) -> None:
        self.store = place.store()
        self.store.open()
        self.queries = place.queries(self.store)
        self.write(*rows)

    def write(self, *rows: Rows) -> None:
        """Store batches."""
        if rows:
            self.store.commit(Transaction(list(rows)))

    def __call__(self, measurement: str, **parameters: Any) -> Result:
        """Ask in text."""
        return self.run(QueryParameters(measurement=measurement, **parameters).query(T0 + 600 * SECOND))

    def run(self, query: Query) -> Result:
        """Ask."""
        result = self.queries.run(query)
        assert all(len(data) == result.rows for data in result.data)
        assert len(result.columns) == len(result.data)
        return result

    def close(self) -> None:
        """Let go."""
        self.store.close()


FLEET = [
    rows_of(
        *(
            block(
                "gpu",
                {
                    "power_watts": [100.0 * node + 10 * gpu + second for second in range(4)],
                    "errors_total": [second * (gpu + 1) for second in range(4)],
                    "state": ["idle", "busy", "busy", "idle" if gpu else "lost"],
                    "healthy": [True, True, True, bool(gpu)],
                },
                subject=f"node{node}",
                device=f"gpu:{gpu}",
                seconds=[0, 30, 60, 90],
            )
            for gpu in range(2)
        ),
        publisher=f"pub{node}",
    )
    for node in (1, 2)
]
"""Two nodes of two GPUs, four rows each, half a minute apart."""

CPUS = rows_of(
    *(block("cpu", {"usage_ratio": [cpu / 10]}, device="", cpu=str(cpu)) for cpu in range(8)),
    block("cpu", {"usage_ratio": [0.9]}, device="", subject="node2", cpu="0"),
)
"""CPUs 0 to 7 of node1, and 0 of node2."""

LOGS = rows_of(
    block(
        "log",
        {
            "message": ["NVRM: Xid (PCI:0000:3b:00): 79", "usb 1-1: new device", "link is Down", "100% _done_"],
            "severity": [2, 6, 3, 5],
            "app": ["kernel", "kernel", None, "job"],
        },
        device="",
        source="kmsg",
    ),
    row_class=RowClass.LOG,
)


class QueryConformance:
    """The claims. A subclass has a fixture `place`."""

    # --- raw -------------------------------------------------------------------------------------------------------

    def test_raw_rows_come_newest_first_with_whose_they_are(self, place: Place) -> None:
        asker = Asker(place, *FLEET)
        rows = table(asker("gpu", where="node=node1,device=gpu:1", fields="power_watts,state"))
        told = ((90, 113.0, "idle"), (60, 112.0, "busy"), (30, 111.0, "busy"), (0, 110.0, "idle"))
        expected = [(T0 + second * SECOND, "node1", "gpu:1", watts, state) for second, watts, state in told]
        assert expected == [tuple(row.values()) for row in rows]
        asker.close()

    def test_what_one_reading_brought_by_levels_is_one_row_again(self, place: Place) -> None:
        """A field's level decides when it is sent, not what a row is."""
        essential = block("gpu", {"power_watts": [1.0, 2.0]})
        standard = block("gpu", {"energy_joules_total": [10.0]})  # at the first of the two times
        asker = Asker(place, rows_of(essential), rows_of(standard))
        both = asker("gpu", fields="power_watts,energy_joules_total", order="oldest")
        assert [(1.0, 10.0), (2.0, None)] == [tuple(row.values())[-2:] for row in table(both)]
        assert [10.0] == column(asker("gpu", fields="energy_joules_total"), "energy_joules_total")
        asker.close()

    def test_a_limit_cuts_and_says_so(self, place: Place) -> None:
        asker = Asker(place, *FLEET)
        cut, whole = asker("gpu", limit=15), asker("gpu", limit=16)
        assert (15, True, 16, False) == (cut.rows, cut.truncated, whole.rows, whole.truncated)
        oldest = asker("gpu", limit=1, order="oldest")
        assert ([T0], True) == (column(oldest, "time"), oldest.truncated)
        asker.close()

    def test_the_range_takes_its_beginning_and_not_its_end(self, place: Place) -> None:
        asker = Asker(place, *FLEET)
        query = Query(measurement="gpu", since=T0 + 30 * SECOND, until=T0 + 90 * SECOND, order=Order.OLDEST,
                      where=(equals("node", "node1"), equals("device", "gpu:0")))  # fmt: skip
        assert [T0 + 30 * SECOND, T0 + 60 * SECOND] == column(asker.run(query), "time")
        asker.close()

    def test_nothing_found_is_an_empty_answer_with_columns(self, place: Place) -> None:
        asker = Asker(place, *FLEET)
        for more in ({}, {"every": "1m"}, {"last": True}, {"group": "all", "fields": "power_watts:max"}):
            for where in ("node=elsewhere", "node!=node1,node!=node2"):
                result = asker("gpu", where=where, **more)
                assert 0 == result.rows
                assert result.columns
        assert 0 == asker("gpu", since="10s").rows
        asker.close()

    def test_a_declared_measurement_without_rows_is_empty_not_unknown(self, place: Place) -> None:
        asker = Asker(place, *FLEET)
        result = asker("quiet")
        assert (0, ["time", "node", "device", "value_ratio"]) == (result.rows, [one.name for one in result.columns])
        asker.close()

    # --- selectors ---------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("where", "cpus"),
        [
            ("", "00123456 7"),
            ("node=node1", "0123456 7"),
            ("subject=node2", "0"),
            ("cpu=3", "3"),
            ("cpu=3|5", "35"),
            ("cpu!=3|5,node=node1", "012467"),
            ("cpu=[0-2],node=node1", "012"),
            ("node=node?,cpu=0", "00"),
            ("node=*2", "0"),
            ('cpu="[0-2]"', ""),
            ('device=""', "00123456 7"),
            ("publisher=pub1,cpu=7", "7"),
            ("publisher!=pub1", ""),
        ],
    )
    def test_selectors_choose_series(self, place: Place, where: str, cpus: str) -> None:
        asker = Asker(place, CPUS)
        found = sorted(column(asker("cpu", where=where), "cpu"))
        assert list(cpus.replace(" ", "")) == found
        asker.close()

    def test_series_without_the_attribute_have_it_empty(self, place: Place) -> None:
        asker = Asker(place, rows_of(block("net", {"a": [1]}), block("net", {"a": [2]}, interface="eth0")))
        assert [1] == column(asker("net", where='interface=""'), "a")
        assert [2] == column(asker("net", where='interface!=""'), "a")
        assert {(1, None), (2, "eth0")} == {(row["a"], row["interface"]) for row in table(asker("net"))}
        asker.close()

    # --- aggregates --------------------------------------------------------------------------------------------------

    def test_each_kind_has_its_own_default(self, place: Place) -> None:
        """Gauges avg, counters rate, states and texts last."""
        asker = Asker(place, *FLEET)
        result = asker(
            "gpu", where="node=node1,device=gpu:1", group="all", fields="power_watts,errors_total,state,healthy"
        )
        assert [111.5, 2 / 30, "idle", True] == [data[0] for data in result.data]
        assert [Aggregate.AVG, Aggregate.RATE, Aggregate.LAST, Aggregate.LAST] == [c.aggregate for c in result.columns]
        assert ["watts", "per_second", "", ""] == [one.unit for one in result.columns]
        asker.close()

    @pytest.mark.parametrize(
        ("aggregate", "expected"),
        [
            ("avg", 111.5), ("min", 110.0), ("max", 113.0), ("sum", 446.0), ("count", 4), ("last", 113.0),
            ("first", 110.0), ("p50", 111.5), ("p95", 112.85), ("p99", 112.97),
        ],
    )  # fmt: skip
    def test_aggregates(self, place: Place, aggregate: str, expected: float) -> None:
        asker = Asker(place, *FLEET)
        result = asker("gpu", where="node=node1,device=gpu:1", group="all", fields=f"power_watts:{aggregate}")
        assert pytest.approx(expected) == result.data[0][0]
        asker.close()

    def test_absent_values_take_no_part(self, place: Place) -> None:
        asker = Asker(place, rows_of(block("gpu", {"power_watts": [None, 4.0, None, 2.0, None]})))
        result = asker(
            "gpu", group="all", fields="power_watts:count,power_watts:avg,power_watts:first,power_watts:last"
        )
        assert [[2], [3.0], [4.0], [2.0]] == result.data
        asker.close()

    def test_buckets_begin_at_whole_multiples_and_empty_ones_have_no_row(self, place: Place) -> None:
        asker = Asker(place, rows_of(block("gpu", {"power_watts": [1.0, 3.0, 9.0]}, seconds=[59, 61, 200])))
        rows = table(asker("gpu", every="1m", since="9m5s", fields="power_watts"))
        assert [(T0, 1.0), (T0 + 60 * SECOND, 3.0), (T0 + 180 * SECOND, 9.0)] == [
            (row["time"], row["power_watts"]) for row in rows
        ]
        assert [T0 + 60 * SECOND, T0 + 180 * SECOND] == column(asker("gpu", every="1m", since="9m"), "time")
        rows = table(asker("gpu", every="1m", order="newest", fields="power_watts"))
        assert [T0 + 180 * SECOND, T0 + 60 * SECOND, T0] == [row["time"] for row in rows]
        asker.close()

    def test_groups_join_series_and_come_in_order(self, place: Place) -> None:
        asker = Asker(place, *FLEET)
        rows = table(asker("gpu", group="node", fields="power_watts:max,power_watts:count"))
        assert [("node1", 113.0, 8), ("node2", 213.0, 8)] == [tuple(row.values()) for row in rows]
        rows = table(asker("gpu", group="device,node", every="1m", fields="power_watts:min"))
        assert 8 == len(rows)
        assert (T0, "gpu:0", "node1", 100.0) == tuple(rows[0].values())
        assert (T0, "gpu:0", "node2", 200.0) == tuple(rows[1].values())
        asker.close()

    def test_one_series_of_many_is_aggregated_alone(self, place: Place) -> None:
        """However the store chooses between choosing rows and choosing results."""
        asker = Asker(
            place, *(rows_of(block("gpu", {"power_watts": [float(n)]}, device=f"gpu:{n}")) for n in range(40))
        )
        for where, expected in (
            ("device=gpu:7", [7.0]),
            ("device=gpu:1|gpu:39", [1.0, 39.0]),
            ("device=gpu:3|gpu:5", [3.0, 5.0]),
            ("device=gpu:9|gpu:10", [10.0, 9.0]),
            ("device=gpu:3?", [*range(30, 40)]),
        ):
            assert expected == column(asker("gpu", where=where, every="1m", fields="power_watts"), "power_watts")
            assert [len(expected)] == column(
                asker("gpu", where=where, group="all", fields="power_watts:count"), "power_watts:count"
            )
        asker.close()

    def test_an_average_and_a_rate_of_neighbouring_series_stay_apart(self, place: Place) -> None:
        asker = Asker(place, *FLEET)
        found = asker("gpu", where="device=gpu:1", group="node", every="1m", fields="power_watts:max,errors_total:rate")
        apart = asker("gpu", group="node,device", every="1m", fields="power_watts:max,errors_total:rate")
        own = [tuple(row.values()) for row in table(apart) if row["device"] == "gpu:1"]
        assert own == [(row["time"], row["node"], "gpu:1", *tuple(row.values())[2:]) for row in table(found)]
        asker.close()

    def test_thousands_of_series_are_aggregated_each_alone(self, place: Place) -> None:
        asker = Asker(
            place, rows_of(*(block("gpu", {"power_watts": [float(n)]}, device=f"gpu:{n}") for n in range(2_100)))
        )
        result = asker("gpu", every="1m", group="device", fields="power_watts", limit=5_000)
        assert {f"gpu:{n}": float(n) for n in range(2_100)} == dict(
            zip(column(result, "device"), column(result, "power_watts"), strict=True)
        )
        assert sorted(column(result, "device")) == column(result, "device")
        asker.close()

    # --- rates -------------------------------------------------------------------------------------------------------

    def test_a_reset_counter_never_shows_a_negative_rate(self, place: Place) -> None:
        """After a reset the counter began at 0: 10 -> 20 -> (reset) 5 -> 15 grew by 10 + 5 + 10."""
        asker = Asker(
            place, rows_of(block("gpu", {"energy_joules_total": [10.0, 20.0, 5.0, 15.0]}, seconds=[0, 10, 20, 30]))
        )
        result = asker("gpu", fields="energy_joules_total", group="all")
        assert ([25 / 30], "joules_per_second") == (result.data[0], result.columns[0].unit)
        by_bucket = column(asker("gpu", fields="energy_joules_total", every="10s"), "energy_joules_total")
        assert [1.0, 0.5, 1.0] == by_bucket
        asker.close()

    def test_a_rate_spans_gaps_and_the_edge_of_the_range(self, place: Place) -> None:
        """What a counter grew by between two rows belongs to the bucket of the later; so for the first row in range."""
        asker = Asker(place, rows_of(block("gpu", {"errors_total": [0, None, 40, 100]}, seconds=[0, 10, 20, 120])))
        rows = table(asker("gpu", fields="errors_total", every="1m"))
        assert [(T0, 2.0), (T0 + 120 * SECOND, 0.6)] == [(row["time"], row["errors_total"]) for row in rows]
        late = Query(measurement="gpu", since=T0 + 100 * SECOND, asked=(Asked("errors_total", Aggregate.RATE),))
        assert [0.6] == column(asker.run(late), "errors_total:rate")
        asker.close()

    def test_the_rate_of_a_group_is_the_sum_over_its_series(self, place: Place) -> None:
        asker = Asker(place, *FLEET)
        rows = table(asker("gpu", group="node", fields="errors_total:rate,power_watts:max"))
        assert [pytest.approx(3 / 30)] * 2 == [row["errors_total:rate"] for row in rows]
        assert [113.0, 213.0] == [row["power_watts:max"] for row in rows]
        asker.close()

    def test_one_value_alone_has_no_rate(self, place: Place) -> None:
        asker = Asker(place, rows_of(block("gpu", {"errors_total": [5], "power_watts": [1.0]})))
        assert [[1], [None]] == asker("gpu", group="all", fields="power_watts:count,errors_total:rate").data
        assert 0 == asker("gpu", group="all", fields="errors_total:rate").rows
        asker.close()

    # --- last values -------------------------------------------------------------------------------------------------

    def test_last_gives_the_newest_value_of_each_field(self, place: Place) -> None:
        """A field that was absent in the newest row shows its newest value before; late rows displace nothing."""
        asker = Asker(place)
        asker.write(
            rows_of(block("gpu", {"power_watts": [1.0, 2.0, None], "state": ["a", None, "c"]}, seconds=[400, 401, 402]))
        )
        asker.write(rows_of(block("gpu", {"power_watts": [0.5], "state": ["late"]}, seconds=[399])))
        rows = table(asker("gpu", last=True, fields="power_watts,state"))
        assert [(T0 + 402 * SECOND, "node1", "gpu:0", 2.0, "c")] == [tuple(row.values()) for row in rows]
        asker.write(rows_of(block("gpu", {"power_watts": [7.0]}, seconds=[500])))
        rows = table(asker("gpu", last=True, fields="power_watts,state"))
        assert [(T0 + 500 * SECOND, "node1", "gpu:0", 7.0, "c")] == [tuple(row.values()) for row in rows]
        asker.close()

    def test_last_looks_no_further_back_than_asked(self, place: Place) -> None:
        asker = Asker(place, rows_of(block("gpu", {"power_watts": [1.0]}, seconds=[100])))
        assert 0 == asker("gpu", last=True, since="5m").rows
        assert 1 == asker("gpu", last=True, since="9m").rows
        asker.close()

    def test_last_of_a_group_is_the_newest_of_its_series(self, place: Place) -> None:
        own = (block("gpu", {"power_watts": [float(n)]}, device=f"gpu:{n}", seconds=[590 - n]) for n in range(3))
        asker = Asker(place, rows_of(*own))
        assert [("node1", 0.0)] == [
            (r["node"], r["power_watts"]) for r in table(asker("gpu", last=True, group="node", fields="power_watts"))
        ]
        cut = asker("gpu", last=True, fields="power_watts", limit=2)
        assert ([0.0, 1.0], True) == (column(cut, "power_watts"), cut.truncated)
        asker.close()

    def test_last_is_the_same_after_reopening(self, place: Place) -> None:
        asker = Asker(place, *FLEET)
        parameters: dict[str, Any] = {"last": True, "since": "10m", "fields": "power_watts,state,healthy"}
        before = asker("gpu", **parameters)
        asker.close()
        again = Asker(place)
        assert before == again("gpu", **parameters)
        again.close()

    # --- logs and events ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("parameters", "found"),
        [
            ({"contains": "xid"}, ["NVRM: Xid (PCI:0000:3b:00): 79"]),
            ({"contains": "% _"}, ["100% _done_"]),
            ({"contains": "no such"}, []),
            ({"matches": r"Xid .*: \d+$"}, ["NVRM: Xid (PCI:0000:3b:00): 79"]),
            ({"severity": "error"}, ["link is Down", "NVRM: Xid (PCI:0000:3b:00): 79"]),
            ({"severity": "5", "contains": "DOWN"}, ["link is Down"]),
            ({"where": "source=udp"}, []),
        ],
    )
    def test_logs_are_found_by_text_and_severity(
        self, place: Place, parameters: dict[str, str], found: list[str]
    ) -> None:
        asker = Asker(place, LOGS)
        assert found == column(asker("log", **parameters), "message")
        asker.close()

    def test_logs_can_be_counted(self, place: Place) -> None:
        asker = Asker(place, LOGS)
        result = asker("log", severity="error", fields="message:count", group="node,source")
        assert [("node1", "kmsg", 2)] == [tuple(row.values()) for row in table(result)]
        asker.close()

    @pytest.mark.parametrize(
        ("parameters", "found"),
        [
            ({}, ["unstamped", "second", "first", "third"]),
            ({"by": "source"}, ["third", "second", "first", "unstamped"]),
            ({"by": "source", "order": "oldest"}, ["unstamped", "first", "second", "third"]),
            ({"by": "source", "limit": 2}, ["third", "second"]),
            ({"by": "source", "contains": "ir"}, ["third", "first"]),
        ],
    )
    def test_logs_are_ordered_by_the_time_of_reading_or_of_their_source(
        self, place: Place, parameters: dict[str, Any], found: list[str]
    ) -> None:
        """What a relay held back comes where it belongs; what its source did not stamp, where it was read."""
        stamps = [T0 + second * SECOND if second else None for second in (30, 10, 20, 0)]
        texts: dict[str, list[Any]] = {"message": ["third", "first", "second", "unstamped"], "source_time_ns": stamps}
        asker = Asker(place, rows_of(block("log", texts, device="", source="udp"), row_class=RowClass.LOG))
        assert found == column(asker("log", since="15m", **parameters), "message")
        asker.close()

    def test_the_last_of_a_log_is_a_record_and_not_the_newest_of_each_field(self, place: Place) -> None:
        asker = Asker(place, LOGS)
        texts: dict[str, list[Any]] = {"message": ["anonymous"], "severity": [4], "app": [None]}
        asker.write(rows_of(block("log", texts, device="", seconds=[500], source="kmsg"), row_class=RowClass.LOG))
        rows = table(asker("log", last=True, fields="message,app"))
        assert [("anonymous", None)] == [(row["message"], row["app"]) for row in rows]
        rows = table(asker("log", last=True, fields="message,app", since="10m", severity="error"))
        assert [("link is Down", None)] == [(row["message"], row["app"]) for row in rows]
        asker.close()

    def test_the_last_document_of_a_device_is_found_however_old_it_is(self, place: Place) -> None:
        """Documents are sent when they change, which may be years apart."""
        day = -86_400
        kept = block("capability", {"document": ["{}", '{"v":2}']}, device="gpu:1", seconds=[100 * day, 99 * day])
        gone = block("capability", {"document": ["{}", ""]}, device="gpu:0", seconds=[100 * day, 98 * day])
        documents = [rows_of(one, row_class=RowClass.CAPABILITY) for one in (kept, gone)]
        asker = Asker(place, *documents)
        rows = table(asker("capability", last=True))
        assert [("gpu:0", ""), ("gpu:1", '{"v":2}')] == [(row["device"], row["document"]) for row in rows]
        assert 0 == asker("capability", last=True, since="5m").rows
        asker.close()

    # --- errors ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("measurement", "parameters", "says"),
        [
            ("gpus", {}, "no measurement 'gpus'. Did you mean 'gpu'? There is: "),
            ("gpu", {"fields": "power_wats"}, "no field 'power_wats' of 'gpu'. Did you mean 'power_watts'? There is: "),
            ("cpu", {"where": "cpus=1"}, "no attribute 'cpus' of 'cpu'. Did you mean 'cpu'? There is: cpu, device"),
            ("cpu", {"group": "nodes"}, "no attribute 'nodes' of 'cpu'. Did you mean 'node'?"),
            ("gpu", {"fields": "state:avg"}, "gpu.state holds str values, which have no avg"),
            ("gpu", {"contains": "x"}, "'gpu' has no messages to search"),
            ("gpu", {"severity": "error"}, "'gpu' has no severity"),
            ("log", {"matches": "Xid (unclosed"}, "')' is missing at column 5"),
            ("gpu", {"last": True, "every": "1m"}, "last values go with neither"),
            ("gpu", {"by": "source"}, "only rows of `log` and `event` can be ordered by the source's time"),
            ("log", {"by": "source", "last": True}, "only rows of `log` and `event` can be ordered"),
            ("gpu", {"since": "1h", "until": "2h"}, "the time range is empty"),
            ("gpu", {"fields": "state,state"}, "asked for twice"),
            ("gpu", {"since": "100d", "until": "1s", "every": "1s"}, "buckets exceed"),
        ],
    )  # fmt: skip
    def test_a_wrong_question_gets_an_answer_that_helps(
        self, place: Place, measurement: str, parameters: dict[str, Any], says: str
    ) -> None:
        asker = Asker(place, *FLEET, CPUS, LOGS)
        with pytest.raises(QueryError) as caught:
            asker(measurement, **parameters)
        assert says in str(caught.value)
        asker.close()

    # --- what there is -----------------------------------------------------------------------------------------------

    def test_describe_tells_fields_with_unit_level_and_meaning(self, place: Place) -> None:
        asker = Asker(place, *FLEET, rows_of(block("gpu", {"extra": [1.5]}, seconds=[99])))
        info = asker.queries.describe("gpu")[0]
        by_name = {field.name: field for field in info.fields}
        assert ("watts", "What gpu.power_watts means.", True) == (
            by_name["power_watts"].unit,
            by_name["power_watts"].meaning,
            by_name["power_watts"].declared,
        )
        assert (ValueType.FLOAT, False) == (by_name["extra"].type, by_name["extra"].declared)
        assert (4, RowClass.TELEMETRY) == (info.series, info.row_class)
        assert {"gpu", "cpu", "quiet", "log", "event", "capability"} <= {one.name for one in asker.queries.describe()}
        with pytest.raises(QueryError, match="Did you mean 'gpu'"):
            asker.queries.describe("gpuu")
        asker.close()

    def test_an_answer_is_json(self, place: Place) -> None:
        asker = Asker(place, *FLEET)
        answer = msgspec.json.decode(
            asker("gpu", limit=1, fields="power_watts,state", where="node=node1,device=gpu:0").json()
        )
        assert {"columns", "data", "rows", "truncated"} == set(answer)
        assert [[T0 + 90 * SECOND], ["node1"], ["gpu:0"], [103.0], ["lost"]] == answer["data"]
        assert [Role.TIME.value, "label", "label", "value", "value"] == [one["role"] for one in answer["columns"]]
        asker.close()

    def test_sums_beyond_64_bits_are_still_numbers(self, place: Place) -> None:
        asker = Asker(place, rows_of(block("thing", {"a": [2**64 - 1, 2**64 - 1]})))
        result = asker("thing", fields="a:sum", group="all")
        assert [[float(2**65)]] == msgspec.json.decode(result.json())["data"]
        asker.close()

    def test_rows_of_the_future_are_found_and_break_nothing(self, place: Place) -> None:
        asker = Asker(
            place,
            rows_of(block("gpu", {"power_watts": [1.0]})),
            rows_of(block("gpu", {"power_watts": [2.0]}, seconds=[2_000_000_000])),
        )
        assert [2.0, 1.0] == column(asker("gpu", fields="power_watts"), "power_watts")
        assert [1.0, 2.0] == column(asker("gpu", fields="power_watts", every="1s"), "power_watts")
        asker.close()

    def test_positions_do_not_show_in_answers(self, place: Place) -> None:
        """The store's own tables are no measurements."""
        asker = Asker(place, *FLEET)
        asker.store.commit(transaction(offset=1))
        assert not [one.name for one in asker.queries.describe() if one.name.startswith("_")]
        asker.close()
