"""Devices over HTTP: those of a node that there is, and when a part came into its slot."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aggregator.control_sqlite import SqliteControl
from aggregator.ledger.ledger import Ledger
from aggregator.migrate import LEDGER
from tests.aggregator.http.test_place import Api
from tests.aggregator.ledger.rig import settle


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    control = SqliteControl(tmp_path / "ledger.db", schema=LEDGER)
    control.open()
    ledger = Ledger(control, "test", clock=lambda: 1_700_000_000 * 10**9)
    await ledger.open()
    await settle(ledger)
    yield Api(ledger)
    await ledger.close()
    await control.close()


@pytest.mark.parametrize("name", ["n1", "host-n1"])
async def test_node_is_known_by_id_and_by_host_name(api: Api, name: str) -> None:
    status, told = await api.ask("GET", f"/v1/devices?node={name}")
    assert (200, ["n1"] * 3) == (status, [one["node"] for one in told["devices"]])


async def test_unknown_node_is_no_empty_list_and_near_names_are_told(api: Api) -> None:
    status, told = await api.ask("GET", "/v1/devices?node=host-n2")
    assert 404 == status
    assert "there is no node 'host-n2'" in told["detail"]
    assert "'host-n1'" in told["detail"]


async def test_stays_of_a_device_have_times(api: Api) -> None:
    device = (await api.ask("GET", "/v1/devices?node=n0&limit=1"))[1]["devices"][0]["id"]
    _, told = await api.ask("GET", f"/v1/devices/{device}")
    [[name, _, _, _, since, until]] = told["history"]["slot"]
    assert (device, None) == (name, until)
    assert {str(since): 1_700_000_000 * 10**9} == told["times_ns"]
