"""Records of other schedulers over HTTP: what they name that is not there is told, or refused."""

from tests.aggregator.http.test_place import Api, api  # noqa: F401  # a fixture

NOWHERE = "0000:fe:00.0"


def gpus(api: Api) -> tuple[str, list[str]]:  # noqa: F811
    """Give a node's name and the addresses of its GPUs."""
    state = api.ledger.peek()
    node = next(iter(state.nodes.values()))
    found = [one for one in state.devices_of(node.id) if one.kind.value == "gpu"]
    return node.name or node.id, [one.slot.address for one in found]


async def test_record_of_a_misspelt_node_is_refused_with_the_near_name(api: Api) -> None:  # noqa: F811
    name, (address, *_) = gpus(api)
    wrong = f"{name[:-1]}x"
    for body in (
        {"kind": "nova", "uses": [{"node": wrong, "address": address, "user": "vm"}], "known_only": True},
        {"kind": "nova", "uses": [], "node": wrong, "known_only": True},
    ):
        status, told = await api.ask("PUT", "/v1/records/nova", body)
        assert (400, "record.invalid") == (status, told["code"])
        assert f"Did you mean '{name}'" in told["detail"]
    assert [] == (await api.ask("GET", "/v1/records"))[1]
    ahead = {"kind": "nova", "uses": [{"node": wrong, "address": address, "user": "vm"}]}
    status, told = await api.ask("PUT", "/v1/records/nova", ahead)
    assert (200, 1, [wrong]) == (status, told["unknown"], [one["node"] for one in told["unknown_uses"]])


async def test_place_where_nothing_is_known_is_named_in_a_dry_run_too(api: Api) -> None:  # noqa: F811
    name, (address, *_) = gpus(api)
    uses = [{"node": name, "address": one, "user": "vm"} for one in (address, NOWHERE)]
    before = api.ledger.durable
    _, would = await api.ask("PUT", "/v1/records/nova", {"kind": "nova", "uses": uses, "dry_run": True})
    assert before == api.ledger.durable
    assert {address: True, NOWHERE: False} == {one["address"]: one["device"] is not None for one in would["named"]}
    _, told = await api.ask("PUT", "/v1/records/nova", {"kind": "nova", "uses": uses, "known_only": True})
    assert [NOWHERE] == [one["address"] for one in told["unknown_uses"]]
    assert (2, 1) == (told["uses"], told["unknown"])


async def test_dropped_record_says_how_much_it_named(api: Api) -> None:  # noqa: F811
    name, (first, second, *_) = gpus(api)
    uses = [{"node": name, "address": one, "user": "vm"} for one in (first, second)]
    await api.ask("PUT", "/v1/records/nova", {"kind": "nova", "uses": uses})
    assert {"source": "nova", "uses": 2} == (await api.ask("DELETE", "/v1/records/nova"))[1]
