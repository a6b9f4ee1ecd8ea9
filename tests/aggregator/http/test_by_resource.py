"""Routes that are allowed by whose something is: a node's token gets nothing, a tenant's only its own (R001-18).

`test_authority` looks at every other route.
"""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, insert

from aggregator.access import Caller, Who
from aggregator.app import make_served
from aggregator.control_sqlite import SqliteControl
from aggregator.ingest import Ingest
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.tables import LEDGER_USAGE
from aggregator.migrate import LEDGER
from aggregator.opened import OpenedBatches
from aggregator.usage import Use
from schemas.batch import WIRE_VERSION
from schemas.control import ControlRequest
from schemas.control import encode_request as encode_control
from schemas.publish import encode_request as encode_publish
from tests.aggregator.http.test_bounded import Client
from tests.aggregator.http.test_bounded import Fleet as Quiet
from tests.aggregator.http.test_place import SCOPES, V100, Api
from tests.aggregator.placement.worlds import simulated

NODE = ("ingest:*",)


def _used(connection: Connection, tenant: str) -> None:
    use = msgspec.json.encode(Use([], {}))
    row = {"claim": f"c-{tenant}", "tenant": tenant, "consumer": "vm", "from_ns": 1, "until_ns": 2, "reason": ""}
    connection.execute(insert(LEDGER_USAGE).values(**row, use=use))


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """An application in which blue and red had something, and blue has a claim."""
    monkeypatch.setitem(SCOPES, "node", NODE)
    control = SqliteControl(tmp_path / "ledger.db", schema=LEDGER)
    control.open()
    ledger = Ledger(control, "test")
    await ledger.open()
    await ledger.decide(lambda _: ([one.entry for one in simulated("v100-shared").written], None))
    for tenant in ("blue", "red"):
        await control.write(partial(_used, tenant=tenant))
    yield Api(ledger)
    await ledger.close()
    await control.close()


async def blues_claim(api: Api) -> str:
    status, claim = await api.ask("POST", "/v1/place", V100, "blue")
    assert status == 201
    return str(claim["id"])


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/place", V100),
        ("POST", "/v1/place", {**V100, "dry_run": True}),
        ("POST", "/v1/claims", {"tenant": "blue", "consumer": "vm", "amounts": {"sim-0001": {"vcpus": 1}}}),
        ("GET", "/v1/usage", None),
        ("GET", "/v1/variants", None),
        ("GET", "/v1/variants/V100", None),
        ("GET", "/v1/packages", None),
        ("GET", "/v1/packages/large", None),
        ("GET", "/v1/quotas/blue", None),
    ],
)
async def test_a_nodes_token_is_refused_and_nothing_is_written(api: Api, method: str, path: str, body: object) -> None:
    before = api.ledger.durable
    status, told = await api.ask(method, path, body, "node")
    assert (403, "access.denied") == (status, told["code"])
    assert before == api.ledger.durable


@pytest.mark.parametrize("who", ["node", "red"])
async def test_who_is_not_the_tenant_neither_sees_nor_moves_its_claim(api: Api, who: str) -> None:
    """As if it were not there: whether a claim of that name exists is nobody else's business either."""
    claim = await blues_claim(api)
    before = api.ledger.durable
    routes = [("GET", ""), ("POST", "/provision"), ("POST", "/renew"), ("DELETE", "")]
    for method, more in routes:
        real = await api.ask(method, f"/v1/claims/{claim}{more}", None, who)
        invented = await api.ask(method, f"/v1/claims/c-none{more}", None, who)
        assert (404, invented[1]["detail"]) == (real[0], real[1]["detail"].replace(claim, "c-none"))
        assert invented[0] == real[0]
    status, told = await api.ask("GET", "/v1/claims", None, who)
    assert status == 403 or told == []
    assert before == api.ledger.durable


async def test_a_tenant_reads_its_own_usage_and_nobody_elses(api: Api) -> None:
    for who, expected in (("blue", ["c-blue"]), ("red", ["c-red"]), ("reader", ["c-blue", "c-red"])):
        status, told = await api.ask("GET", "/v1/usage", None, who)
        assert (200, expected) == (status, [one["claim"] for one in told])


async def test_who_claims_may_know_what_there_is_to_claim(api: Api) -> None:
    for path in ("/v1/variants", "/v1/packages"):
        assert 200 == (await api.ask("GET", path, None, "red"))[0]
        assert 401 == (await api.ask("GET", path, None, ""))[0]


class Tokens:
    """Knows one node."""

    async def authenticate(self, _text: str) -> Caller:
        """See `token_service.Tokens`."""
        return Caller(Who.TOKEN, ("ingest:another",), "t1")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/publish", encode_publish("n1", "e1", "boot", [], "n1", [b"batch"])),
        ("/v1/control", encode_control(ControlRequest(WIRE_VERSION, "n1", "e1", "boot", [], wait=0.0))),
    ],
)
async def test_a_nodes_token_speaks_for_no_other_node(path: str, body: bytes) -> None:
    service: Any = _house()
    status, told = await Client(make_served(service)).send("POST", path, [body], token="good")
    assert 403 == status, told


def _house() -> SimpleNamespace:
    async def aside(*_: object) -> None:
        pytest.fail("nothing is to be taken")

    config = SimpleNamespace(aggregator=SimpleNamespace(max_request_bytes=1 << 20, beyond_loopback=True))
    ingest = Ingest(SimpleNamespace(), SimpleNamespace(), aside, OpenedBatches())
    return SimpleNamespace(tokens=Tokens(), fleet=Quiet(), config=config, ingest=ingest)
