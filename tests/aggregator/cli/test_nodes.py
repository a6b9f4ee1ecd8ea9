import json

import pytest

from aggregator.cli.nodes import state_of
from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import NODE, Stub


def test_list_shows_a_node_by_name_state_and_id(run: Run) -> None:
    status, out, _ = run("nodes")
    assert status == 0
    head, line = out.splitlines()
    assert head.split() == ["node", "state", "heard", "agent", "id"]
    assert [line.split()[0], line.split()[1], line.split()[-1]] == ["rack1-gpu3", "live", NODE]


def test_nodes_are_in_the_order_of_their_names(run: Run, stub: Stub) -> None:
    [view] = stub.find("GET", "/v1/nodes", None)
    names = {"3": "gpu-b", "1": "gpu-c", "2": ""}
    stub.answers["GET /v1/nodes"] = [
        view | {"node": view["node"] | {"id": id_, "host_name": name}} for id_, name in names.items()
    ]
    assert ["2", "3", "1"] == [row.split()[-1] for row in run("nodes")[1].splitlines()[1:]]


def test_tables_fit_80_columns(run: Run) -> None:
    for words in (("nodes",), ("verbosity", "list"), ("collectors", "rack1-gpu3")):
        assert max(map(len, run(*words)[1].splitlines())) <= 80


def test_room_shows_what_is_left_of_each_amount_and_nothing_where_nobody_knows(run: Run, stub: Stub) -> None:
    """R001-4: consumed against remaining. Absent is not zero."""
    [view] = stub.find("GET", "/v1/nodes", None)
    amounts = {
        "vcpus": {"total": 8, "limit": 16, "used": 10, "left": 6},
        "memory_bytes": {"total": 1 << 34, "limit": 1 << 34, "used": 1 << 34, "left": 0},
    }
    stub.answers["GET /v1/nodes"] = [
        view | {"life": {"amounts": amounts}},
        view | {"node": view["node"] | {"id": "2", "host_name": "unheard"}, "life": None},
    ]
    status, out, _ = run("nodes", "room")
    rows = [line.split() for line in out.splitlines()[1:]]
    assert status == 0
    assert ["rack1-gpu3", "6", "of", "16", "0", "B", "of", "16.0", "GiB", "-"] == rows[0]
    assert ["unheard", *["-"] * 3] == rows[1]
    assert max(map(len, out.splitlines())) <= 80
    assert json.loads(run("nodes", "room", "-o", "json")[1]) == {NODE: amounts, "2": {}}


def test_no_nodes_says_how_to_get_one(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/nodes"] = []
    assert "muster up" in run("nodes")[1]


def test_state_filter_leaves_others_out(run: Run) -> None:
    assert json.loads(run("nodes", "--state", "silent", "-o", "json")[1]) == []


def test_decommission_by_host_name_reaches_the_id(run: Run, stub: Stub) -> None:
    stub.answers[f"POST /v1/nodes/{NODE}/decommission"] = {"id": NODE, "replaced_by": None}
    status, out, _ = run("nodes", "decommission", "rack1-gpu3", "--yes")
    assert (0, "rack1-gpu3 is decommissioned\n") == (status, out)
    assert (f"POST /v1/nodes/{NODE}/decommission", None) in stub.asked


def test_decommission_without_a_terminal_or_yes_changes_nothing(run: Run, stub: Stub) -> None:
    status, _, err = run("nodes", "decommission", "rack1-gpu3")
    assert status == 1
    assert "--yes" in err
    assert not any(word.startswith("POST") for word, _ in stub.asked)


def test_replace_by_a_node_that_has_not_spoken_takes_its_id_as_it_is(run: Run, stub: Stub) -> None:
    stub.answers[f"POST /v1/nodes/{NODE}/replace/new-board"] = {"id": NODE, "replaced_by": "new-board"}
    status, out, _ = run("nodes", "replace", "rack1-gpu3", "new-board", "-y")
    assert (0, "rack1-gpu3 is replaced by new-board\n") == (status, out)


def test_unknown_node_gets_near_names(run: Run) -> None:
    status, _, err = run("nodes", "reinstate", "rack1-gpu4")
    assert status == 1
    assert "Did you mean 'rack1-gpu3'?" in err


def test_output_option_may_stand_after_the_word(run: Run, stub: Stub) -> None:
    stub.answers[f"POST /v1/nodes/{NODE}/reinstate"] = {"id": NODE, "replaced_by": None}
    for words in (("nodes", "-o", "json", "reinstate", NODE), ("nodes", "reinstate", NODE, "-o", "json")):
        assert json.loads(run(*words)[1])["id"] == NODE


def test_reinstating_a_node_that_is_there_says_that_nothing_was_to_be_undone(run: Run, stub: Stub) -> None:
    stub.answers[f"POST /v1/nodes/{NODE}/reinstate"] = {"id": NODE, "replaced_by": None}
    [view] = stub.find("GET", "/v1/nodes", None)
    for state, told in (("live", "neither decommissioned nor replaced"), ("decommissioned", "it needs a token")):
        stub.answers["GET /v1/nodes"] = [view | {"state": state}]
        assert told in run("nodes", "reinstate", NODE, "-y")[1]


def test_no_server_fails_and_says_how_to_start_one(run: Run, stub: Stub) -> None:
    stub.close()
    status, _, err = run("nodes", "--server", "unix:///nonexistent/muster.sock")
    assert status == 1
    assert "muster up" in err


def test_drain_is_a_command_of_its_own_and_the_same(run: Run, stub: Stub) -> None:
    stub.answers[f"POST /v1/nodes/{NODE}/drain"] = {"node": NODE, "claims": []}
    words = ("drain", "rack1-gpu3", "--why", "new kernel")
    long = run("nodes", *words)
    asked = stub.asked[:]
    stub.asked.clear()
    assert long == run(*words)
    assert asked == stub.asked
    assert "new kernel" in str(asked)


@pytest.mark.parametrize(
    ("life", "expected"),
    [
        (None, "live"),
        ({"marks": {}}, "live"),
        ({"marks": {"shrunk": "claims hold 60 vcpus", "hot": "95 C"}}, "live, hot, shrunk"),
        ({"marks": {"hot": "95 C"}, "cordoned": "bad fan"}, "cordoned"),
    ],
)
def test_marks_of_a_node_stand_in_its_state_where_nothing_was_ordered(life: object, expected: str) -> None:
    assert expected == state_of({"state": "live", "life": life})
