"""`muster query`: what people see of an answer, and which time is which."""

import json
from typing import Any

import pytest

from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import Stub

NODE = "4c4c4544-0051-3510-8052-b4c04f565031"
_READ, _WRITTEN = 1_795_275_000_000_000_000, 1_795_200_000_000_000_000


def _column(name: str, role: str = "value", kind: str = "str") -> dict[str, str]:
    return {"name": name, "role": role, "type": kind}


def _log(**more: Any) -> dict[str, Any]:
    columns = [
        _column("time", "time", "int"), _column("node", "label"), _column("source", "label"), _column("message"),
        _column("severity", kind="int"), _column("facility", kind="int"), _column("source_time_ns", kind="int"),
    ]  # fmt: skip
    data = [[_READ], [NODE], ["udp"], ["link is Down"], [4], [3], [_WRITTEN]]
    return {"columns": columns, "data": data, "rows": 1, **more}


def test_a_log_is_shown_with_its_message_last_and_without_what_few_want(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/query?measurement=log"] = _log()
    status, out, _ = run("query", "log")
    assert 0 == status
    assert ["time", "node", "source", "severity", "message"] == out.splitlines()[0].split()
    assert out.splitlines()[1].endswith("rack1-gpu3  udp     warning   link is Down")


def test_by_source_asks_for_that_order_and_shows_that_time_beside_the_other(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/query?measurement=log&by=source"] = _log()
    head, row = run("query", "log", "--by", "source")[1].splitlines()
    assert ["time", "source_time", "node", "source", "severity", "message"] == head.split()
    assert row[: head.index("node")].count(":") == 4  # two clock times


def test_a_wide_table_has_every_column_and_the_id_beside_the_host_name(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/query?measurement=log"] = _log()
    head, row = run("query", "log", "-o", "wide")[1].splitlines()
    assert ["time", "node", "node_id", "source", "message", "severity", "facility", "source_time"] == head.split()
    assert f"rack1-gpu3  {NODE}" in row


def test_programs_get_the_answer_as_it_came(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/query?measurement=log"] = _log()
    out = run("query", "log", "-o", "json")[1]
    assert f'"{NODE}"' in out
    assert f"{_WRITTEN}" in out
    assert "rack1-gpu3" not in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["capability"], "--last gives the newest of every device"),
        (["log"], "look further back with --since"),
        (["log", "--since", "1d"], "nothing matches in that time\n"),
    ],
)
def test_nothing_found_says_what_may_find_something(run: Run, stub: Stub, words: list[str], says: str) -> None:
    stub.answers[f"GET /v1/query?measurement={words[0]}"] = {"columns": [], "data": [], "rows": 0}
    assert says in run("query", *words)[1]


def test_few_rows_stand_upright_only_where_that_fits(run: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"field_{at}" for at in range(9)]
    wide: dict[str, Any] = {"columns": [_column(name) for name in names], "data": [["x" * 20] * 2 for _ in names]}
    stub.answers["GET /v1/query?measurement=cpu&last=true"] = {**wide, "rows": 2}
    upright = run("query", "cpu", "--last")[1].splitlines()
    assert (10, "field_0") == (len(upright), upright[1].split()[0])
    stub.answers["GET /v1/query?measurement=cpu&last=true"] = {
        **wide,
        "data": [["x" * 60] * 2 for _ in names],
        "rows": 2,
    }
    lines = run("query", "cpu", "--last")[1].splitlines()
    assert "field_0" == lines[0]
    assert max(map(len, lines)) <= 80


def test_columns_that_a_terminal_has_no_room_for_are_named(
    run: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who and when stay, and the fields from the first on; a pipe gets all of them."""
    names = [f"field_{at:02}" for at in range(40)]
    columns = [_column("time", "time", "int"), _column("node", "label"), *map(_column, names)]
    data: list[list[Any]] = [[1_000_000_000] * 9, [NODE] * 9, *([f"value-{name}"] * 9 for name in names)]
    stub.answers["GET /v1/query?measurement=gpu"] = {"columns": columns, "data": data, "rows": 9}
    monkeypatch.delenv("COLUMNS", raising=False)
    assert 42 == len(run("query", "gpu")[1].splitlines()[0].split())
    for width in (60, 80, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        head, *lines = run("query", "gpu")[1].splitlines()
        assert max(map(len, (head, *lines))) <= width
        assert ["time", "node", "field_00"] == head.split()[:3]
        told = " ".join(lines).partition("(")[2]
        assert all((name in head) is not (name in told) for name in names)
        assert told.endswith("no room; '-o wide' shows all)")
        assert 42 < len(run("query", "gpu", "-o", "wide")[1].splitlines()[0].split())


def _storm() -> dict[str, Any]:
    answer = _log(rows=2)
    answer["columns"] += [_column("copies", kind="int"), _column("first_time_ns", kind="int")]
    answer["data"] = [[*column, *column] for column in answer["data"]] + [[27_586, None], [_WRITTEN, None]]
    return answer


def test_a_table_shows_a_storm_as_one_row_with_its_count_and_says_for_how_many(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/query?measurement=log&copies=folded"] = _storm()
    head, first, second, told = run("query", "log")[1].splitlines()
    assert ["time", "node", "source", "severity", "copies", "first_time", "message"] == head.split()
    assert "link is Down" == second[head.index("message") :].strip()
    assert [True, False] == ["27,586" in row for row in (second, first)]
    assert "(1 row stands for 27,586 records)" == told


@pytest.mark.parametrize(
    ("words", "copies"),
    [
        ((), "folded"),
        (("-o", "wide"), "folded"),
        (("-o", "json"), None),
        (("message,copies",), None),
        (("--last",), None),
        (("--group", "node"), None),
        (("-o", "json", "--copies", "folded"), "folded"),
        (("--copies", "apart"), "apart"),
    ],
    ids=str,
)
def test_storms_are_one_row_for_people_and_as_they_are_stored_for_programs(
    run: Run, stub: Stub, words: tuple[str, ...], copies: str | None
) -> None:
    asked: list[str | None] = []

    def answer(parameters: dict[str, str], _: Any) -> dict[str, Any]:
        asked.append(parameters.get("copies"))
        return _log()

    stub.answers["GET /v1/query?measurement=log"] = answer
    assert 0 == run("query", "log", *words)[0]
    assert [copies] == asked


_DATA = r'[exampleSDID@32473 iut="3" ip="10.0.0.1" ip="10.0.0.2"][note@1 text="a \"b\" \] c"]'


def _structured() -> dict[str, Any]:
    answer = _log(rows=3)
    answer["columns"].append(_column("structured_data"))
    answer["data"] = [column * 3 for column in answer["data"]] + [[_DATA, None, "[broken"]]
    return answer


def test_structured_data_is_raw_unless_it_is_asked_for_taken_apart(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/query?measurement=log"] = _structured()
    as_it_came = json.loads(run("query", "log", "-o", "json")[1])
    assert ([_DATA, None, "[broken"], "str") == (as_it_came["data"][-1], as_it_came["columns"][-1]["type"])
    found = json.loads(run("query", "log", "-o", "json", "--decode")[1])
    assert "elements" == found["columns"][-1]["type"]
    assert [
        [
            {"id": "exampleSDID@32473", "parameters": {"iut": ["3"], "ip": ["10.0.0.1", "10.0.0.2"]}},
            {"id": "note@1", "parameters": {"text": ['a "b" ] c']}},
        ],
        None,
        "[broken",
    ] == found["data"][-1]


def test_structured_data_is_read_in_a_table_before_the_message(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/query?measurement=log"] = _structured()
    head, *rows = run("query", "log", "--decode")[1].splitlines()
    assert ["severity", "structured_data", "message"] == head.split()[-3:]
    at, end = head.index("structured_data"), head.index("message")
    assert [
        "[broken",
        "-",
        r'exampleSDID@32473 iut=3 ip=10.0.0.1 ip=10.0.0.2; note@1 text="a \"b\" ] c"',
    ] == [row[at:end].strip() for row in rows]
    assert "structured_data" not in run("query", "log")[1]
