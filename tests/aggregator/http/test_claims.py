"""Claims over HTTP: repetitions, conditional writes, many at once; and what one tenant learns of another."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection

from aggregator.control import Control
from aggregator.control_sqlite import SqliteControl
from aggregator.ledger.asks import NotGrantedError, Objection
from aggregator.ledger.entries import QuotaSet, RatioSet
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.model import Quota
from aggregator.ledger.state import State
from aggregator.migrate import LEDGER
from aggregator.placement.request import Request
from schemas.device import DeviceKind
from tests.aggregator.http.test_place import V100, Api
from tests.aggregator.placement.worlds import simulated


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    control = SqliteControl(tmp_path / "ledger.db", schema=LEDGER)
    control.open()
    ledger = Ledger(control, "test")
    await ledger.open()
    await ledger.decide(lambda _: ([one.entry for one in simulated("v100-shared").written], None))
    yield Api(ledger)
    await ledger.close()
    await control.close()


def gpus(api: Api) -> list[str]:
    """Give the GPUs that anybody can have."""
    state = api.ledger.peek()
    return [one.id for one in state.devices.values() if one.kind is DeviceKind.GPU]


def wanted(*devices: str, tenant: str = "blue", **more: Any) -> dict[str, Any]:
    """Ask for devices, beside the host's driver: whatever group they are in."""
    named = [{"device": one, "mode": "driver"} for one in devices]
    return {"tenant": tenant, "consumer": "vm", "devices": named, **more}


# --- once -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/claims", "/v1/place"])
async def test_a_key_stands_for_one_request_and_is_a_tenants_own(api: Api, path: str) -> None:
    """The same again gives the same claim; another body is refused, and gets nothing; a tenant sees only its own."""
    one, two, *_ = gpus(api)
    first = wanted(one) if path == "/v1/claims" else V100
    other = wanted(two) if path == "/v1/claims" else {**V100, "needs": [{"variant": "V100", "count": 2}]}
    status, claim = await api.ask("POST", path, first, "blue", key="k")
    assert status == 201
    written = api.ledger.durable
    assert (201, claim["id"]) == ((again := await api.ask("POST", path, first, "blue", key="k"))[0], again[1]["id"])
    status, told = await api.ask("POST", path, other, "blue", key="k")
    assert (409, "claim.conflict", written) == (status, told["code"], api.ledger.durable)
    status, reds = await api.ask("POST", path, {**other, "tenant": "red"}, "red", key="k")
    assert (201, "red") == (status, reds["tenant"])
    assert reds["id"] != claim["id"]


async def test_one_key_asked_many_times_at_once_is_one_claim(api: Api) -> None:
    body = wanted(gpus(api)[0])
    answers = await asyncio.gather(*(api.ask("POST", "/v1/claims", body, "blue", key="k") for _ in range(20)))
    assert {201} == {status for status, _ in answers}
    assert 1 == len({claim["id"] for _, claim in answers})


async def test_a_key_of_a_refused_request_is_free(api: Api) -> None:
    """Nothing was granted under it: it may be used again, for whatever."""
    one, two, *_ = gpus(api)
    _, blocking = await api.ask("POST", "/v1/claims", wanted(one, tenant="red"), "red")
    assert 409 == (await api.ask("POST", "/v1/claims", wanted(one), "blue", key="k"))[0]
    assert 201 == (await api.ask("POST", "/v1/claims", wanted(two), "blue", key="k"))[0]
    await api.ask("DELETE", f"/v1/claims/{blocking['id']}", None, "red")


# --- conditional writes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "done"), [("POST", "/provision", 202), ("POST", "/renew", 200), ("DELETE", "", 200)]
)
async def test_who_has_read_an_older_claim_changes_nothing(api: Api, method: str, path: str, done: int) -> None:
    """`If-Match` with the version that was read; any other is refused, and what is no version says so."""
    _, claim = await api.ask("POST", "/v1/claims", wanted(gpus(api)[0]), "blue")
    await api.ask("POST", f"/v1/claims/{claim['id']}/renew", None, "blue")
    at, written = f"/v1/claims/{claim['id']}{path}", api.ledger.durable
    for stale in (f'"{claim["version"]}"', f'W/"{claim["version"]}"', '"0"', '"999999999999"'):
        status, told = await api.ask(method, at, None, "blue", match=stale)
        assert (409, "claim.conflict") == (status, told["code"])
    for wrong in ('"abc"', "x", '"-1"'):
        status, told = await api.ask(method, at, None, "blue", match=wrong)
        assert (400, "claim.invalid") == (status, told["code"])
    assert written == api.ledger.durable
    _, now = await api.ask("GET", f"/v1/claims/{claim['id']}", None, "blue")
    assert done == (await api.ask(method, at, None, "blue", match=f'"{now["version"]}"'))[0]


async def test_of_many_conditional_writes_at_once_one_is_taken(api: Api) -> None:
    _, claim = await api.ask("POST", "/v1/claims", wanted(gpus(api)[0]), "blue")
    at, match = f"/v1/claims/{claim['id']}/renew", f'"{claim["version"]}"'
    answers = await asyncio.gather(*(api.ask("POST", at, None, "blue", match=match) for _ in range(20)))
    assert [200] + [409] * 19 == sorted(status for status, _ in answers)


# --- all or none, and no more than there is -------------------------------------------------------------------------


async def test_gangs_that_overlap_get_all_or_none(api: Api) -> None:
    """Every pair of five GPUs at once: who is granted has both, nobody shares, and what was refused holds nothing."""
    five = gpus(api)[:5]
    pairs = [(one, two) for at, one in enumerate(five) for two in five[at + 1 :]]
    answers = await asyncio.gather(*(api.ask("POST", "/v1/claims", wanted(*pair), "blue") for pair in pairs))
    granted = [{one["device"] for one in claim["devices"]} for status, claim in answers if status == 201]
    assert 2 == len(granted)
    assert all(len(devices) == 2 for devices in granted)
    assert not granted[0] & granted[1]
    held = {one.id for one in api.ledger.peek().devices.values() if one.hold is not None}
    assert granted[0] | granted[1] == held


@pytest.mark.parametrize("limit", ["claims", "devices", "vcpus"])
async def test_a_quota_holds_however_many_ask_at_once(api: Api, limit: str) -> None:
    await api.ledger.decide(lambda _: ([QuotaSet(Quota("blue", {limit: 3}))], None))
    node = next(iter(api.ledger.peek().nodes))
    bodies = [
        {"tenant": "blue", "consumer": "vm", "amounts": {node: {"vcpus": 1}}} if limit == "vcpus" else wanted(one)
        for one in gpus(api)[:8]
    ]
    answers = await asyncio.gather(*(api.ask("POST", "/v1/claims", body, "blue") for body in bodies))
    assert 3 == [status for status, _ in answers].count(201)
    refused = [told for status, told in answers if status == 409]
    assert all(f"quota.{limit}" in [one["reason"] for one in told["objections"]] for told in refused)
    assert 3 == api.ledger.peek().tenants["blue"].used[limit]


async def test_an_amount_is_given_more_often_than_it_is_there_only_by_policy(api: Api) -> None:
    """By the last unit; a ratio that says so is a recorded decision, and ends again without taking anything away."""
    node = api.ledger.peek().nodes[next(iter(api.ledger.peek().nodes))]
    total = node.totals["vcpus"]

    async def ask(number: int) -> int:
        body = {"tenant": "blue", "consumer": "vm", "amounts": {node.id: {"vcpus": number}}}
        return (await api.ask("POST", "/v1/claims", body, "blue"))[0]

    assert (409, 201, 409) == (await ask(total + 1), await ask(total), await ask(1))
    await api.ledger.decide(lambda _: ([RatioSet("vcpus", 1.5, "op")], None))
    half = total // 2
    assert (409, 201, 409) == (await ask(half + 1), await ask(half), await ask(1))
    await api.ledger.decide(lambda _: ([RatioSet("vcpus", 1.0, "op")], None))
    assert 409 == await ask(1)
    assert total + half == node.used["vcpus"]


async def test_node_of_amounts_may_be_named_once_by_id_or_by_name(api: Api) -> None:
    node = next(iter(api.ledger.peek().nodes.values()))
    body = {"tenant": "blue", "consumer": "vm", "amounts": {node.name: {"vcpus": 1}}}
    status, claim = await api.ask("POST", "/v1/claims", body, "blue")
    assert (201, {node.id: {"vcpus": 1}}) == (status, claim["amounts"])
    both = {**body, "amounts": {node.name: {"vcpus": 1}, node.id: {"vcpus": 1}}}
    status, told = await api.ask("POST", "/v1/claims", both, "blue")
    assert (400, True) == (status, "named twice" in told["detail"])


class _SlowDisk:
    """A database whose commits wait until `open` is set."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.open = asyncio.Event()
        self.open.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._control, name)

    async def write(self, transaction: Callable[[Connection], Any]) -> Any:
        """Write, in the end."""
        await self.open.wait()
        return await self._control.write(transaction)


async def test_claim_is_decided_while_the_commit_before_is_under_way(tmp_path: Path) -> None:
    """So it waits for one commit, its own, which it shares with all that came meanwhile."""
    control = SqliteControl(tmp_path / "ledger.db", schema=LEDGER)
    control.open()
    disk = _SlowDisk(control)
    ledger = Ledger(disk, "test")
    await ledger.open()
    await ledger.decide(lambda _: ([one.entry for one in simulated("v100-shared").written], None))
    api, state = Api(ledger), ledger.peek()
    node = next(iter(state.nodes.values()))
    disk.open.clear()
    asked = []
    for number in range(1, 4):
        body = {"tenant": "blue", "consumer": "vm", "amounts": {node.name: {"vcpus": 1}}}
        asked.append(asyncio.create_task(api.ask("POST", "/v1/claims", body, "blue")))
        async with asyncio.timeout(30):
            while len(state.claims) < number:  # noqa: ASYNC110 - it is in another hand
                await asyncio.sleep(0.001)
    assert not any(one.done() for one in asked)
    disk.open.set()
    assert [201] * 3 == [status for status, _ in await asyncio.gather(*asked)]
    await ledger.close()
    await control.close()


# --- of others, nothing -----------------------------------------------------------------------------------------------


class _Contradicting:
    """A placer whose choice the ledger refuses: it looked at something older than what is."""

    def __init__(self, objections: list[Objection]) -> None:
        self._objections = objections

    def dry_run(self, _state: State, _request: Request) -> object:
        """Refuse."""
        raise NotGrantedError(self._objections)

    def grant(self, _state: State, _request: Request, _claim: str, **_: str) -> object:
        """Refuse."""
        raise NotGrantedError(self._objections)


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_refusal_behind_placement_names_nothing_of_others(api: Api, dry_run: bool) -> None:
    """Whoever placed does not know what was chosen for it: no device, no claim, no node; who may read sees all."""
    device, *_ = gpus(api)
    secret = Objection("lifecycle.assigned", f"{device} is assigned for claim c-secret", "node-of-others", device)
    quota = Objection("quota.devices", "tenant blue would hold 9 of devices, and its quota is 8")
    api.service.book.placer = _Contradicting([secret, quota])
    for who, hidden in (("blue", True), ("reader", False)):
        status, told = await api.ask("POST", "/v1/place", {**V100, "dry_run": dry_run}, who)
        text = msgspec.json.encode(told).decode()
        assert (409, "claim.refused") == (status, told["code"])
        assert hidden is not any(word in text for word in (device, "c-secret", "node-of-others"))
        assert "its quota is 8" in text


async def test_a_tenant_finds_nothing_of_another_whatever_it_asks(api: Api) -> None:
    """Ids of others' claims and devices are in no list, no error and no answer that a tenant gets."""
    one, two, *_ = gpus(api)
    _, reds = await api.ask("POST", "/v1/claims", wanted(one, tenant="red", consumer="reds-vm"), "red", key="reds-key")
    secrets = {reds["id"], "reds-vm", "reds-key"}
    asked: list[tuple[str, str, object]] = [
        ("GET", "/v1/claims", None),
        ("GET", "/v1/claims?tenant=red", None),
        ("GET", "/v1/claims?ended=true", None),
        ("GET", f"/v1/devices/{one}", None),
        ("GET", "/v1/devices", None),
        ("GET", "/v1/nodes", None),
        ("GET", f"/v1/devices/{one}/history", None),
        ("GET", "/v1/watch", None),
        ("GET", "/v1/export/triton", None),
        ("POST", "/v1/claims", wanted(one)),
        ("POST", "/v1/claims", wanted(one, two)),
        ("POST", "/v1/claims", {**wanted(one, two), "dry_run": True}),
        ("POST", "/v1/claims", wanted(one, tenant="red")),
        ("POST", f"/v1/devices/{one}/clean", None),
        ("POST", f"/v1/devices/{one}/attest", {"statement": "mine"}),
        ("POST", "/v1/place", {**V100, "needs": [{"variant": "V100", "count": 1024}], "explain": True}),
        ("POST", "/v1/whatif", {"request": V100}),
    ]
    for method, path, body in asked:
        status, told = await api.ask(method, path, body, "blue")
        assert status not in (404, 405, 500), (method, path)
        text = msgspec.json.encode(told).decode()
        assert not [secret for secret in secrets if secret in text], (method, path)
        mine = {one["device"] for one in (body or {}).get("devices", [])} if isinstance(body, dict) else set()
        others = {device for device in api.ledger.peek().devices if device not in mine and device not in path}
        assert not [device for device in others if device in text], (method, path)


async def test_claims_are_listed_page_by_page_in_the_order_of_their_grants(api: Api) -> None:
    made = []
    node = next(iter(api.service.ledger.peek().nodes))
    for number in range(5):
        body = {"tenant": "blue", "consumer": f"vm-{number}", "amounts": {node: {"vcpus": 1}}}
        _, claim = await api.ask("POST", "/v1/claims", body, "blue")
        made.append(claim["id"])
    _, one = await api.ask("GET", "/v1/claims?limit=2", None, "blue")
    _, two = await api.ask("GET", f"/v1/claims?limit=2&after={one[-1]['id']}", None, "blue")
    _, rest = await api.ask("GET", f"/v1/claims?limit=2&after={two[-1]['id']}", None, "blue")
    assert [made[:2], made[2:4], made[4:]] == [[claim["id"] for claim in page] for page in (one, two, rest)]
    status, _ = await api.ask("GET", f"/v1/claims?after={made[0]}", None, "red")
    assert 404 == status  # another tenant's claim is no place to begin at


# --- near names -------------------------------------------------------------------------------------------------------


async def test_mistyped_claim_gets_the_one_that_may_have_been_meant_if_it_is_theirs(api: Api) -> None:
    _, claim = await api.ask("POST", "/v1/claims", wanted(gpus(api)[0]), "blue")
    meant = f" Did you mean '{claim['id']}'?"
    for who, near in (("blue", meant), ("red", "")):
        status, told = await api.ask("GET", f"/v1/claims/{claim['id'][:-1]}", None, who)
        assert (404, f"there is no claim {claim['id'][:-1]}.{near}") == (status, told["detail"])


async def test_mistyped_device_of_a_claim_gets_a_near_one_for_who_may_read(api: Api) -> None:
    device = gpus(api)[0]
    status, told = await api.ask("POST", "/v1/claims", wanted(device[:-1]))
    assert (409, True) == (status, f"Did you mean '{device}'?" in told["detail"])
    _, told = await api.ask("POST", "/v1/claims", wanted(device[:-1]), "blue")
    assert device not in told["detail"]
