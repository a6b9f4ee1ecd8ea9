"""BMCs that offer no stream deliver their events to an address of ours; nobody else tells anything there."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from collectors.redfish import callbacks
from collectors.redfish.callbacks import Callbacks, place_of
from collectors.redfish.config import RedfishConfig
from collectors.redfish.events import MAX_ALERTS, MAX_EVENT
from collectors.redfish.unit import EVENTS_AT_ONCE
from schemas.errors import StartupError
from schemas.rows import Severity
from tests.collectors.redfish.running import Running, address
from tests.fakes.redfish import Bmc, Options, Simulator, made
from tests.ports import free_port

SERVICE = "/redfish/v1/EventService"
SUPPLY = "/redfish/v1/Chassis/Box/PowerSubsystem/PowerSupplies/PSU_1"


@pytest.fixture
def bmc(simulator: Simulator) -> Bmc:
    """A BMC without a stream."""
    bmc = simulator.add(made("made"))
    bmc.change(SERVICE, ServerSentEventUri=None)
    return bmc


@pytest.fixture
def listen() -> str:
    return f"127.0.0.1:{free_port()}"


def subscribed(running: Running, bmc: Bmc) -> str:
    """Wait for the subscription; give its destination."""
    [one] = running.until(lambda: bmc.events.subscriptions, "a subscription")
    return str(one["Destination"])


def send(url: str, body: bytes, method: str = "POST", **headers: str) -> int:
    """Post something; give the status."""
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    try:
        connection.request(method, parts.path, body, headers)
        answer: HTTPResponse = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_a_delivered_event_is_told_within_a_second_and_is_the_bmcs(bmc: Bmc, listen: str) -> None:
    with Running(address(bmc, "b"), callback_listen=listen) as running:
        subscribed(running, bmc)
        running.until(lambda: running.described("bmc:b"))
        began = time.monotonic()
        bmc.events.emit("Power.1.0.PowerSupplyFailed", "PSU 1 failed", "Critical", SUPPLY)
        [event] = running.until(lambda: running.events("redfish.supply"))
        assert time.monotonic() - began < 1.0
        assert ("psu:b/Box/PSU_1", "bmc:b", Severity.CRITICAL) == (event.device, event.subject, event.severity)
        running.until(lambda: 204 in {status for _, status in bmc.events.delivered}, "its answer")


def flood(url: str, first: int) -> int:
    """Deliver as many alerts as one event may have, each another; give the status."""
    alerts = [
        {"MessageId": "Power.1.0.PowerSupplyFailed", "Message": f"failure {at}", "Severity": "Critical"}
        for at in range(first, first + MAX_ALERTS)
    ]
    return send(url, json.dumps({"@odata.type": "#Event.v1_7_0.Event", "Events": alerts}).encode())


def test_of_a_flood_some_is_told_and_counted_and_another_bmc_is_heard(simulator: Simulator, listen: str) -> None:
    bmcs = [simulator.add(made("made")) for _ in range(2)]
    for bmc in bmcs:
        bmc.change(SERVICE, ServerSentEventUri=None)
    began = time.monotonic()
    with Running(address(bmcs[0], "mad"), address(bmcs[1], "sound"), callback_listen=listen) as running:
        mad = subscribed(running, bmcs[0])
        subscribed(running, bmcs[1])
        sent = 4 * EVENTS_AT_ONCE
        assert {204} == {flood(mad, first) for first in range(0, sent, MAX_ALERTS)}
        bmcs[1].events.emit("Power.1.0.PowerSupplyFailed", "PSU 1 failed", "Critical", SUPPLY)
        running.until(lambda: [one for one in running.events("redfish.supply") if one.subject == "bmc:sound"])
        told = [one.message for one in running.events("redfish.supply") if one.subject == "bmc:mad"]
        assert [f"failure {at}" for at in range(EVENTS_AT_ONCE)] == told[:EVENTS_AT_ONCE]
        assert len(told) <= EVENTS_AT_ONCE + 2 * (time.monotonic() - began) + 1
        faults = running.until(lambda: [row.fields.get("faults_total") for row in running.rows("bmc_reader", "bmc:mad")
                                        if (row.fields.get("faults_total") or 0) >= sent - len(told)])  # type: ignore[operator]  # fmt: skip
        assert faults


def test_bmc_with_a_stream_is_not_asked_to_deliver(simulator: Simulator, listen: str) -> None:
    bmc = simulator.add(made("made"))
    with Running(address(bmc, "b"), callback_listen=listen) as running:
        running.until(lambda: bmc.events.streams)
        running.until(lambda: len(running.states("bmc:b")) >= 3)
        assert [] == bmc.events.subscriptions


def test_what_an_earlier_run_subscribed_to_is_taken_back_and_others_stay(bmc: Bmc, listen: str) -> None:
    with Running(address(bmc, "b"), callback_listen=listen) as running:
        before = subscribed(running, bmc)
        bmc.events._subscribe({"Destination": "https://somebody.example/x", "Protocol": "Redfish", "Context": "theirs"})
    with Running(address(bmc, "b"), callback_listen=listen) as running:
        running.until(lambda: any(before != one["Destination"] and "127.0.0.1" in one["Destination"]
                                  for one in bmc.events.subscriptions))  # fmt: skip
        told = [one["Destination"] for one in bmc.events.subscriptions]
        assert (2, False, True) == (len(told), before in told, "https://somebody.example/x" in told)


def test_bmc_without_room_for_a_subscription_is_read_all_the_same(simulator: Simulator, listen: str) -> None:
    bmc = simulator.add(made("made"), Options(subscription_limit=0))
    bmc.change(SERVICE, ServerSentEventUri=None)
    with Running(address(bmc, "b"), callback_listen=listen) as running:
        running.until(lambda: len(running.states("bmc:b")) >= 3)
        assert "ok" == running.states("bmc:b")[-1]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda url: {"url": url + "x"}, 404),
        (lambda url: {"url": url.rpartition("/")[0] + "/"}, 404),
        (lambda _: {"body": b"<html>"}, 400),
        (lambda _: {"body": b'{"Events": 3}'}, 400),
        (lambda _: {"headers": {"Content-Length": str(MAX_EVENT + 1)}}, 413),
        (lambda _: {"headers": {"Content-Length": "many"}}, 411),
        (lambda _: {"method": "GET"}, 501),
    ],
)
def test_whatever_else_comes_there_is_refused_and_tells_nothing(
    bmc: Bmc, listen: str, change: Callable[[str], dict[str, Any]], status: int
) -> None:
    with Running(address(bmc, "b"), callback_listen=listen) as running:
        url = subscribed(running, bmc)
        event = {"Events": [{"MessageId": "Power.1.0.PowerSupplyFailed", "MessageSeverity": "Critical"}]}
        asked = {"url": url, "body": json.dumps(event).encode(), "method": "POST", "headers": {}} | change(url)
        assert status == send(asked["url"], asked["body"], asked["method"], **asked["headers"])
        assert [] == running.events("redfish.supply")
        assert 204 == send(url, json.dumps(event).encode())
        running.until(lambda: running.events("redfish.supply"))


def test_place_that_is_taken_or_none_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        here = f"127.0.0.1:{taken.getsockname()[1]}"
        path = tmp_path / "list.toml"
        path.write_text('[[bmcs]]\naddress = "http://127.0.0.1:1"\n')
        with pytest.raises(StartupError, match="callback_listen"), Running(callback_listen=here, file=str(path)):
            pass
    with pytest.raises(ValueError, match="is not <host>:<port>"):
        place_of("nowhere")
    assert [("::1", 80), ("", 8443)] == [place_of("[::1]:80"), place_of(":8443")]
    assert "" == RedfishConfig().callback_listen


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callbacks]:
    """A server that waits for nobody."""
    monkeypatch.setattr(callbacks, "_SECONDS", 0.5)
    server = Callbacks("127.0.0.1:0", "", lambda _: None, lambda _: None)
    yield server
    server.close()


def test_who_drips_is_hung_up_on(hasty: Callbacks) -> None:
    parts = urlsplit(hasty.address)
    with socket.create_connection((str(parts.hostname), parts.port), timeout=10) as drip:
        drip.sendall(b"POST /x HTTP/1.1\r\n")
        assert b"" == drip.recv(1000)


def test_address_is_what_bmcs_reach() -> None:
    server = Callbacks("127.0.0.1:0", "https://poller.example:8443/", lambda _: None, lambda _: None)
    try:
        assert "https://poller.example:8443" == server.address
        assert server.whose("/nothing") is None
    finally:
        server.close()
