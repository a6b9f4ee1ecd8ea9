"""Placement over HTTP: who may ask, what a claim is made of, and what tenants never learn of each other."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from starlette.types import Message

from aggregator.access import Caller, Who
from aggregator.app import make_app
from aggregator.claiming import Claiming
from aggregator.control_sqlite import SqliteControl
from aggregator.leases import Leases
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.past import Past
from aggregator.migrate import LEDGER
from aggregator.placement.placing import Placer
from schemas.device import DeviceKind
from schemas.errors import AccessError
from tests.aggregator.ledger.worlds import Book
from tests.aggregator.placement.worlds import simulated

SCOPES = {
    "admin": ("admin",),
    "reader": ("read", "claims:blue"),
    "blue": ("claims:blue",),
    "red": ("claims:red",),
}
V100 = {"tenant": "blue", "consumer": "vm", "needs": [{"variant": "V100"}]}


class Tokens:
    """Knows a few."""

    async def authenticate(self, text: str) -> Caller:
        """See `token_service.Tokens`."""
        if text not in SCOPES:
            raise AccessError("no such token", authenticated=False)
        return Caller(Who.TOKEN, SCOPES[text], text)


class Api:
    """The application over a ledger of simulated nodes."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        claiming = Claiming(ledger, Leases(), lambda: None)
        book = SimpleNamespace(placer=Placer(), past=Past(ledger))
        self.service = SimpleNamespace(ledger=ledger, book=book, claiming=claiming, tokens=Tokens())
        self.app = make_app(self.service)  # type: ignore[arg-type]

    async def ask(
        self, method: str, path: str, body: object = None, who: str = "admin", key: str = "", match: str = ""
    ) -> tuple[int, Any]:
        """Ask; give status and decoded answer."""
        sent: list[Message] = []
        data = b"" if body is None else msgspec.json.encode(body)

        async def receive() -> Message:
            return {"type": "http.request", "body": data}

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"authorization", f"Bearer {who}".encode())] if who else []
        headers += [(b"idempotency-key", key.encode())] if key else []
        headers += [(b"if-match", match.encode())] if match else []
        scope: dict[str, Any] = {"type": "http", "http_version": "1.1", "method": method, "scheme": "http"}
        path, _, query = path.partition("?")
        scope |= {"path": path, "root_path": "", "query_string": query.encode(), "headers": headers}
        scope |= {"server": ("127.0.0.1", 8420), "client": ("127.0.0.1", 1)}
        await self.app(scope, receive, send)
        return sent[0]["status"], msgspec.json.decode(b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    control = SqliteControl(tmp_path / "ledger.db", schema=LEDGER)
    control.open()
    ledger = Ledger(control, "test")
    await ledger.open()
    book: Book = simulated("v100-shared")
    await ledger.decide(lambda _: ([one.entry for one in book.written], None))
    yield Api(ledger)
    await ledger.close()
    await control.close()


async def test_a_request_becomes_a_claim_and_a_repetition_the_same_one(api: Api) -> None:
    status, claim = await api.ask("POST", "/v1/place", V100, "blue", key="k1")
    assert (201, "blue", "reserved", 1) == (status, claim["tenant"], claim["state"], len(claim["devices"]))
    assert claim["id"] == (await api.ask("POST", "/v1/place", V100, "blue", key="k1"))[1]["id"]
    other = {**V100, "needs": [{"variant": "V100", "count": 2}]}
    assert 409 == (await api.ask("POST", "/v1/place", other, "blue", key="k1"))[0]


async def test_a_dry_run_gives_what_the_claim_then_has_and_writes_nothing(api: Api) -> None:
    before = api.ledger.durable
    status, told = await api.ask("POST", "/v1/place", {**V100, "dry_run": True}, "blue")
    assert (200, True, before) == (status, told["placed"], api.ledger.durable)
    _, claim = await api.ask("POST", "/v1/place", V100, "blue")
    assert [told["instances"][0]["devices"][0]["device"]] == [one["device"] for one in claim["devices"]]


@pytest.mark.parametrize(("who", "status"), [("", 401), ("nobody", 401), ("red", 403), ("blue", 201), ("admin", 201)])
async def test_who_may_not_claim_for_a_tenant_may_not_place_for_it(api: Api, who: str, status: int) -> None:
    assert status == (await api.ask("POST", "/v1/place", V100, who))[0]


async def test_a_tenant_learns_of_others_nothing_but_counts(api: Api) -> None:
    secrets = set()
    for _ in range(4):
        _, claim = await api.ask("POST", "/v1/place", {**V100, "tenant": "red", "isolation": "whole-group"}, "red")
        secrets |= {
            claim["id"],
            "red",
            *(one["device"] for one in claim["devices"]),
            *(one["node"] for one in claim["devices"]),
        }
    for dry_run, status in ((True, 200), (False, 409)):
        wanted = {**V100, "explain": True, "dry_run": dry_run}
        found, told = await api.ask("POST", "/v1/place", wanted, "blue")
        text = msgspec.json.encode(told).decode()
        assert status == found
        assert not [secret for secret in secrets if secret in text]
        assert [{"reason": "lifecycle.reserved", "count": 1}] == told["blockers"]
        assert {"condition": "lifecycle.reserved", "of": "devices", "removed": 6, "left": 0} in told["conditions"]
    _, told = await api.ask("POST", "/v1/place", {**V100, "explain": True}, "reader")
    assert told["blockers"][0]["device"] in secrets


async def test_who_claims_by_name_learns_how_a_device_is_and_not_whose(api: Api) -> None:
    await api.ask("POST", "/v1/place", {**V100, "tenant": "red", "isolation": "singleton"}, "red")
    await api.ask("POST", "/v1/place", {**V100, "tenant": "red", "needs": [{"variant": "V100", "count": 3}]}, "red")
    state = api.ledger.peek()
    secrets = {"red", *state.claims, *state.nodes}
    for device in state.devices.values():
        if device.kind is not DeviceKind.GPU or device.part.model != "Simulated V100":
            continue
        for dry_run in (True, False):
            wanted = {"tenant": "blue", "consumer": "vm", "devices": [{"device": device.id}], "dry_run": dry_run}
            status, told = await api.ask("POST", "/v1/claims", wanted, "blue")
            if status == 201:
                continue
            text = msgspec.json.encode({**told, "instance": ""}).decode()
            others = {other for other in state.devices if other != device.id}
            assert not [secret for secret in secrets | others if secret in text.replace("reserved", "")]
            if dry_run and not told["granted"]:
                assert told["objections"][0]["reason"] in ("lifecycle.reserved", "relation.together")
                _, whole = await api.ask("POST", "/v1/claims", wanted, "admin")
                assert [claim for claim in state.claims if claim in msgspec.json.encode(whole).decode()]


async def test_mistakes_are_told_with_what_was_meant(api: Api) -> None:
    status, told = await api.ask("POST", "/v1/place", {**V100, "nedes": []}, "blue")
    assert (400, "placement.unknown") == (status, told["code"])
    assert "'needs'" in told["detail"]
    status, told = await api.ask("POST", "/v1/place", {**V100, "package": "x"}, "blue")
    assert (400, "placement.contradiction") == (status, told["code"])


async def test_what_if_is_for_who_may_read(api: Api) -> None:
    asked = {"request": {**V100, "needs": [{"variant": "V100", "count": 7}]}, "edits": []}
    assert 403 == (await api.ask("POST", "/v1/whatif", asked, "blue"))[0]
    status, told = await api.ask("POST", "/v1/whatif", asked, "reader")
    assert (200, False, None) == (status, told["after"]["placed"], told["after"]["nearest"])


async def test_what_if_at_a_moment_of_the_past(api: Api) -> None:
    then = api.ledger.durable
    for _ in range(4):
        await api.ask("POST", "/v1/place", {**V100, "isolation": "whole-group"})
    asked: dict[str, Any] = {"request": V100, "edits": [{"edit": "add-node", "like": "sim-0001"}]}
    _, told = await api.ask("POST", "/v1/whatif", asked)
    assert (0, 6) == (told["before"]["fits"], told["after"]["fits"])
    _, told = await api.ask("POST", "/v1/whatif", {**asked, "as_of": str(then)})
    assert (6, 12) == (told["before"]["fits"], told["after"]["fits"])


async def test_variants_packages_and_quotas_are_the_operators(api: Api) -> None:
    package = {"amounts": {"vcpus": 4}, "devices": [{"variant": "V100", "count": 1}]}
    assert 403 == (await api.ask("PUT", "/v1/packages/gpu_large", package, "blue"))[0]
    assert 200 == (await api.ask("PUT", "/v1/packages/gpu_large", package))[0]
    assert {"name": "gpu_large", **package} == (await api.ask("GET", "/v1/packages/gpu_large", who="blue"))[1]
    status, claim = await api.ask(
        "POST", "/v1/place", {"tenant": "blue", "consumer": "vm", "package": "gpu_large"}, "blue"
    )
    assert (201, {"vcpus": 4}) == (status, *claim["amounts"].values())
    assert 409 == (await api.ask("DELETE", "/v1/variants/V100"))[0]
    assert 200 == (await api.ask("PUT", "/v1/quotas/*", {"limits": {"devices:V100": 1}}))[0]
    _, told = await api.ask("GET", "/v1/quotas/blue", who="blue")
    assert ({"devices:V100": 1}, False, 1) == (told["limits"], told["own"], told["used"]["devices:V100"])
    assert 403 == (await api.ask("GET", "/v1/quotas/red", who="blue"))[0]
    status, told = await api.ask("POST", "/v1/place", V100, "blue")
    assert (409, True) == (status, "quota" in told["detail"] or "may have 0 more" in told["detail"])
    assert 200 == (await api.ask("DELETE", "/v1/packages/gpu_large"))[0]


@pytest.mark.parametrize(
    ("path", "body", "status", "near"),
    [
        ("/v1/variants/X", {"kind": "gpu", "vendor": "10DE", "device": "zz"}, 400, "four hexadecimal"),
        ("/v1/variants/X", {"kind": "gpu", "vendor": "10de", "device": "1db4"}, 400, "'V100'"),
        ("/v1/variants/a b", {"kind": "gpu", "vendor": "10de", "device": "1db5"}, 400, "cannot name"),
        ("/v1/packages/p", {"devices": [{"variant": "V10", "count": 1}]}, 404, "'V100'"),
        ("/v1/packages/p", {"amounts": {"vcpu": 1}}, 400, "'vcpus'"),
        ("/v1/packages/p", {}, 400, "nothing"),
        ("/v1/quotas/blue", {"limits": {"device": 1}}, 400, "'devices'"),
        ("/v1/quotas/blue", {"limits": {"devices:V10": 1}}, 404, "'V100'"),
        ("/v1/quotas/blue", {"limits": {"claims": -1}}, 400, "below 0"),
        ("/v1/ratios/vcpus", {"ratio": 0}, 400, "above 0"),
        ("/v1/ratios/vcpu", {"ratio": 2}, 400, "'vcpus'"),
    ],
)
async def test_what_cannot_be_set_is_refused_with_what_was_meant(
    api: Api, path: str, body: Any, status: int, near: str
) -> None:
    before = api.ledger.durable
    found, told = await api.ask("PUT", path, body)
    assert (status, before) == (found, api.ledger.durable)
    assert near in told["detail"]


async def test_the_same_again_writes_nothing(api: Api) -> None:
    for _ in range(2):
        await api.ask("PUT", "/v1/ratios/vcpus", {"ratio": 4})
        await api.ask("PUT", "/v1/quotas/blue", {"limits": {"claims": 15}})
    assert 4.0 == (await api.ask("GET", "/v1/ratios"))[1]["vcpus"]
    before = api.ledger.durable
    await api.ask("PUT", "/v1/quotas/blue", {"limits": {"claims": 15}})
    assert before == api.ledger.durable
    assert 200 == (await api.ask("DELETE", "/v1/quotas/blue"))[0]
    status, told = await api.ask("DELETE", "/v1/quotas/blue")
    assert (404, "catalog.unknown") == (status, told["code"])
