"""Resources are kept small until documents are made of them, and no more of them than any machine has."""

import pytest

from collectors.redfish import trunk
from collectors.redfish.trunk import Trunk


def test_what_was_put_in_comes_out_in_order_without_its_actions() -> None:
    kept = Trunk()
    assert all(kept.add({"Id": str(at), "Fill": "x" * 1000, "Actions": {}}) for at in range(200))
    assert [{"Id": str(at), "Fill": "x" * 1000} for at in range(200)] == list(kept)


def test_a_bmc_without_end_has_no_more_room_than_the_largest_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trunk, "MOST", 5000)
    kept = Trunk()
    assert 4 == sum(kept.add({"Id": "x" * 1000}) for _ in range(100))
    assert 4 == len(list(kept))
