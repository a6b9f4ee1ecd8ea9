"""Tables on narrow terminals."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.cli.adopt import waiting_table
from aggregator.cli.claims import claims_table
from aggregator.cli.devices import devices_table
from aggregator.cli.fitting import fit, fold
from aggregator.cli.render import Table
from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.test_adoption_words import WAITING
from tests.aggregator.cli.test_claims import CLAIM
from tests.aggregator.cli.test_devices import GPU

WORDS = st.text("abcdefghij", min_size=1, max_size=12)
CELLS = st.one_of(st.just("-"), WORDS, st.lists(WORDS, min_size=2, max_size=12).map(" ".join))


def made(rows: Sequence[Sequence[str]], spare: Sequence[str] = ()) -> Table:
    table = Table(["device", "node", "claim", "why"], spare=spare)
    for row in rows:
        table.add(*row)
    return table


ROWS = [
    ("gpu-7f3k2ma", "rack1-gpu3", "-", "the driver of the host has it, and lets it go only when the machine starts"),
    ("gpu-q2ax5ne", "rack1-gpu4", "-", "short"),
]


def test_what_fits_is_left_as_it_is() -> None:
    assert made(ROWS).lines() == made(ROWS).lines(200)


def test_a_column_that_holds_nothing_is_the_first_to_go_and_a_text_folds_next() -> None:
    assert [
        "device       node        why",
        "gpu-7f3k2ma  rack1-gpu3  the driver of the host has it, and",
        "                         lets it go only when the machine",
        "                         starts",
        "gpu-q2ax5ne  rack1-gpu4  short",
    ] == made(ROWS, spare=["node"]).lines(60)


def test_the_column_that_matters_least_goes_before_a_text_becomes_a_string_of_single_words_and_is_named() -> None:
    lines = made(ROWS, spare=["node"]).lines(40)
    assert "device       why" == lines[0]
    assert "(node: no room; '-o wide' shows all)" == lines[-1]


def test_a_column_that_went_and_held_nothing_is_not_named() -> None:
    assert "no room" not in "\n".join(made(ROWS, spare=["claim"]).lines(60))


def test_what_cannot_be_made_to_fit_is_whole_rather_than_torn() -> None:
    long = [("gpu-" + "7" * 60, "rack1-gpu3", "c-1", "two words")]
    assert long[0][0] in "\n".join(made(long).lines(40))
    assert "two words" in "\n".join(made(long).lines(40))


@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=5), st.integers(20, 120))
def test_whatever_the_cells_are_no_word_of_a_column_that_stays_is_lost(rows: list[tuple[str, ...]], width: int) -> None:
    columns = ["a", "b", "c", "d"]
    kept, widths = fit(columns, rows, ["b", "d"], width)
    assert kept == sorted(set(kept))
    for row in rows:
        for at, room in zip(kept, widths, strict=True):
            lines = fold(row[at], room)
            assert row[at] == " ".join(lines)
            assert all(len(line) <= room for line in lines)
    assert all(row[at] == "-" for row in rows for at in {0, 2} - set(kept))


DEVICE = GPU | {
    "id": "nvme-namespace-7f3k2ma",
    "node_name": "rack1-gpu3-upper",
    "variant": "SAMSUNG_MZQL23T8HCLS_00A07",
    "lifecycle": "provisioning",
    "claim": "c-2f9a81c0aa",
    "taints": [{"rule": "xid-79"}, {"rule": "conflict"}, {"rule": "page-retirement"}],
}
WAITS = WAITING | {"device": DEVICE["id"], "why": "its last clean failed: the drive did not answer within 120 s"}
HELD = CLAIM | {
    "id": "c-2f9a81c0aa",
    "consumer": "a-job-with-a-name-that-goes-on",
    "reason": "the lease ran out before any node was told",
    "devices": [{"device": f"nvme-namespace-{number}"} for number in range(5)],
}


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize(
    "table",
    [devices_table([DEVICE]), claims_table([HELD]), waiting_table([WAITS]), waiting_table([WAITS] * 30)],
    ids=["devices", "claims", "adopt", "adopt, many"],
)
def test_lists_fit_a_terminal_whatever_names_are_as_long_as_they_may_be(table: Table, width: int) -> None:
    assert max(len(line) for part in table.lines(width) for line in part.splitlines()) <= width


def test_a_pipe_has_room_for_every_column(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert "id" in run("nodes")[1].splitlines()[0].split()
    monkeypatch.setenv("COLUMNS", "40")
    assert "id" not in run("nodes")[1].splitlines()[0].split()
    assert "id" in run("nodes", "-o", "wide")[1].splitlines()[0].split()
