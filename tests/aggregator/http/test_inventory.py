"""The inventory over HTTP: the present, the past, what happened to one device, marks, and the stream of changes."""

import contextlib
import json
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aggregator.app import make_app
from aggregator.control_sqlite import SqliteControl
from aggregator.ledger.keeping import Keeping
from aggregator.ledger_service import LedgerService
from aggregator.log_sqlite import SqliteLog
from aggregator.migrate import LEDGER
from tests.aggregator.ledger.rig import settle


class Site:
    """An application over a ledger, asked over the local socket."""

    def __init__(self, book: LedgerService) -> None:
        self.book = book
        self._app = make_app(SimpleNamespace(book=book, ledger=book.ledger))  # type: ignore[arg-type]

    async def ask(self, method: str, path: str, body: object = None, most: int = 1 << 30) -> tuple[int, Any]:
        """Give the status and the answer; of a stream what comes first, up to `most` bytes."""
        path, _, query = path.partition("?")
        data = b"" if body is None else json.dumps(body).encode()
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(b"content-type", b"application/json")], "client": None, "server": ("/run/muster.sock", None),
        }  # fmt: skip
        sent: list[MutableMapping[str, Any]] = []
        asked = False

        async def receive() -> MutableMapping[str, Any]:
            nonlocal asked
            gone, asked = asked, True
            return {"type": "http.disconnect"} if gone else {"type": "http.request", "body": data, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        text = b"".join(part.get("body", b"") for part in sent[1:])
        return sent[0]["status"], json.loads(text) if text[:1] in (b"{", b"[") else text


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    log, database = SqliteLog(tmp_path / "log.db", partitions=2), SqliteControl(tmp_path / "ledger.db", schema=LEDGER)
    database.open()
    book = LedgerService(database, "here", log)
    async with contextlib.AsyncExitStack() as closing:
        closing.push_async_callback(log.close)
        closing.push_async_callback(database.close)
        await book.ledger.open()
        closing.push_async_callback(book.ledger.close)
        await settle(book.ledger)
        yield Site(book)


async def test_mark_is_put_on_shown_and_taken_off(site: Site) -> None:
    _, listed = await site.ask("GET", "/v1/devices")
    device = listed["devices"][0]["id"]
    status, taint = await site.ask("POST", f"/v1/devices/{device}/taints", {"rule": "flaky", "effect": "Drain"})
    assert (201, "flaky", "Drain", "local") == (status, taint["rule"], taint["effect"], taint["who"])
    _, shown = await site.ask("GET", f"/v1/devices/{device}")
    assert ["flaky"] == [one["rule"] for one in shown["device"]["taints"]]
    assert (204, b"") == await site.ask("DELETE", f"/v1/devices/{device}/taints/flaky?why=reseated")
    status, problem = await site.ask("DELETE", f"/v1/devices/{device}/taints/flaky")
    assert (404, "ledger.taint_unknown") == (status, problem["code"])


@pytest.mark.parametrize(
    "body", [{"rule": ""}, {"rule": "a", "effect": "Burn"}, {"rule": "a", "seconds": 0}, {"rule": "a", "x": 1}, []]
)
async def test_mark_that_is_none_is_refused(site: Site, body: object) -> None:
    status, problem = await site.ask("POST", "/v1/nodes/n0/taints", body)
    assert (400, "claim.invalid") == (status, problem["code"])


async def test_past_is_as_it_was(site: Site) -> None:
    _, listed = await site.ask("GET", "/v1/devices")
    device = listed["devices"][0]["id"]
    await site.ask("POST", f"/v1/devices/{device}/taints", {"rule": "flaky"})
    _, before = await site.ask("GET", f"/v1/devices?as_of={listed['sequence']}")
    assert listed == before
    _, then = await site.ask("GET", f"/v1/devices/{device}?as_of={listed['sequence'] + 1}")
    assert ["flaky"] == [one["rule"] for one in then["device"]["taints"]]
    status, told = await site.ask("GET", "/v1/devices?as_of=2020-01-01T00:00:00Z")
    assert (410, True) == (status, "the ledger begins at" in told["detail"])
    status, problem = await site.ask("GET", "/v1/devices?as_of=99999")
    assert (410, "ledger.gone") == (status, problem["code"])
    assert 400 == (await site.ask("GET", "/v1/devices?as_of=tuesday"))[0]


@pytest.mark.parametrize("kept", [False, True])
async def test_past_is_listed_page_by_page(site: Site, kept: bool) -> None:
    """Over a snapshot, of which devices are made as pages come to them, and over entries alone."""
    if kept:
        await Keeping(site.book.ledger).snapshot()
    _, listed = await site.ask("GET", "/v1/devices")
    for one in listed["devices"]:
        await site.ask("POST", f"/v1/devices/{one['id']}/taints", {"rule": "later"})
    found: list[Any] = []
    after = ""
    while after or not found:
        _, page = await site.ask("GET", f"/v1/devices?as_of={listed['sequence']}&limit=1&after={after}")
        found += page["devices"]
        after = page["next"]
    assert listed["devices"] == found
    node = found[-1]["node_name"]
    _, there = await site.ask("GET", f"/v1/devices?as_of={listed['sequence']}&node={node}")
    assert [one for one in found if one["node_name"] == node] == there["devices"]


async def test_history_of_a_device_goes_back_page_by_page(site: Site) -> None:
    _, listed = await site.ask("GET", "/v1/devices")
    device = listed["devices"][0]["id"]
    for rule in ("a", "b", "c"):
        await site.ask("POST", f"/v1/devices/{device}/taints", {"rule": rule, "evidence": rule})
    found: list[dict[str, Any]] = []
    before = ""
    while True:
        _, page = await site.ask("GET", f"/v1/devices/{device}/history?limit=2{before}")
        found = page["entries"] + found
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert ["device.seen", "viewed", "tainted", "tainted", "tainted"] == [one["kind"] for one in found]
    assert "c" == found[-1]["data"]["taint"]["evidence"]
    assert 404 == (await site.ask("GET", "/v1/devices/gpu-x/history"))[0]


async def test_watch_of_a_place_that_is_gone_is_refused(site: Site) -> None:
    for place in ("99999", "7.1", "here"):
        status, problem = await site.ask("GET", f"/v1/watch?after={place}")
        assert (410, "ledger.gone") == (status, problem["code"])
