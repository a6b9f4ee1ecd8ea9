"""Feeds over HTTP."""

import pytest

from tests.aggregator.http.test_place import V100, Api, api  # noqa: F401  # a fixture


@pytest.mark.parametrize("text", ["", "root:x:0:0:root:/root:/bin/bash\n", "\x00\x01[pci]\x02", "[pci]\nalias = {}\n"])
async def test_what_is_no_nova_conf_is_not_called_sound(api: Api, text: str) -> None:  # noqa: F811
    status, told = await api.ask("POST", "/v1/export/nova/check", {"text": text})
    assert (400, "feed.nova_conf") == (status, told["code"])
    assert "no [pci] device_spec here" in told["detail"]


async def test_what_a_claim_holds_is_handed_on_only_when_claims_are_novas(api: Api) -> None:  # noqa: F811
    _, claim = await api.ask("POST", "/v1/place", V100)
    ids = {one["device"] for one in claim["devices"]}
    _, rows = await api.ask("GET", "/v1/export/json")
    (address,) = [one["address"] for one in rows if one["id"] in ids]

    async def listed(query: str) -> list[str]:
        _, made = await api.ask("GET", f"/v1/export/nova{query}")
        return [spec["address"] for node in made["nodes"] for spec in node["device_spec"]]

    assert address not in await listed("")
    assert address in await listed("?held=true")


@pytest.mark.parametrize("form", ["nova", "triton", "csv", "json"])
async def test_a_variant_or_node_that_there_is_not_is_no_empty_inventory(api: Api, form: str) -> None:  # noqa: F811
    status, told = await api.ask("GET", f"/v1/export/{form}?variant=V10")
    assert (404, True) == (status, "Did you mean 'V100'?" in told["detail"])
    name = next(iter(api.ledger.peek().nodes.values())).name
    status, told = await api.ask("GET", f"/v1/export/{form}?node={name}x")
    assert (404, True) == (status, f"Did you mean '{name}'" in told["detail"])
