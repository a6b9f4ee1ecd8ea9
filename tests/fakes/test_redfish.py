"""The simulator of BMCs is what the tests of the collector take it for."""

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.certificates import Authority
from tests.fakes.redfish import (
    RECORDED,
    Bmc,
    Drop,
    Fault,
    Garbage,
    Huge,
    Options,
    Raw,
    Redirect,
    Rewrite,
    Simulator,
    Slow,
    Stall,
    Status,
    Trickle,
    Truncated,
    made,
    recorded,
)

SESSIONS = "/redfish/v1/SessionService/Sessions"
SYSTEM = "/redfish/v1/Systems/System"
SENSORS = "/redfish/v1/Chassis/Box/Sensors"
LOG = f"{SYSTEM}/LogServices/EventLog"
EVENTS = "/redfish/v1/EventService"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Browser:
    """A client without any opinion."""

    def __init__(self, bmc: Bmc, seconds: float = 10.0, context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(bmc.url)
        host, port = str(parts.hostname), parts.port
        self._connection: http.client.HTTPConnection = (
            http.client.HTTPConnection(host, port, timeout=seconds)
            if context is None
            else http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
        )
        self.headers: dict[str, str] = {}
        self.bmc = bmc

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Give status, decoded body (text where it is no JSON) and headers."""
        data = None if body is None else json.dumps(body)
        self._connection.request(
            method, path, data, self.headers | {k.replace("_", "-"): v for k, v in headers.items()}
        )
        answer = self._connection.getresponse()
        raw = answer.read()
        told = dict(answer.getheaders())
        try:
            return answer.status, json.loads(raw) if raw else None, told
        except ValueError:
            return answer.status, raw.decode(), told

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Give status and body."""
        return self.ask("GET", path, None, **headers)[:2]

    def log_in(self) -> int:
        """Make a session and use it from now on; give the status."""
        status, _, headers = self.ask("POST", SESSIONS, {"UserName": self.bmc.user, "Password": self.bmc.password})
        if status == 201:
            self.headers["X-Auth-Token"] = headers["X-Auth-Token"]
        return status

    def close(self) -> None:
        """End its connection."""
        self._connection.close()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def browser(simulator: Simulator) -> Iterator[Browser]:
    browser = Browser(simulator.add(made("made"), Options(session_limit=2, stream_limit=1)))
    yield browser
    browser.close()


@pytest.fixture
def inside(browser: Browser) -> Browser:
    assert 201 == browser.log_in()
    return browser


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_machine_answers_with_the_bytes_that_were_recorded(simulator: Simulator, name: str) -> None:
    tree = recorded(name)
    browser = Browser(simulator.add(tree))
    browser.log_in()
    for path in ("/redfish/v1", "/redfish/v1/Systems", "/redfish/v1/Chassis"):
        assert (200, json.loads(tree[path])) == browser.get(path)
    browser.close()


def test_the_root_is_open_and_the_rest_is_not(browser: Browser) -> None:
    assert 200 == browser.get("/redfish/v1/")[0]
    assert 401 == browser.get("/redfish/v1/Systems")[0]
    assert 201 == browser.log_in()
    assert 200 == browser.get("/redfish/v1/Systems")[0]


def test_a_password_is_taken_with_each_request_and_a_wrong_one_never(browser: Browser) -> None:
    good = "Basic d2F0Y2hlcjpsZXQgbWUgbG9vaw=="
    assert 200 == browser.get("/redfish/v1/Systems", Authorization=good)[0]
    for bad in ("Basic d2F0Y2hlcjp3cm9uZw==", "Basic \u00e9", "Bearer x"):
        assert 401 == browser.get("/redfish/v1/Systems", Authorization=bad)[0]
    assert 401 == browser.ask("POST", SESSIONS, {"UserName": "watcher", "Password": "wrong"})[0]


def test_sessions_have_a_limit_and_an_end(browser: Browser) -> None:
    assert [201, 201, 503] == [browser.log_in() for _ in range(3)]
    assert 2 == browser.get(SESSIONS)[1]["Members@odata.count"]
    browser.bmc.sessions.expire()
    assert 401 == browser.get("/redfish/v1/Systems")[0]
    assert 201 == browser.log_in()
    number = browser.get(SESSIONS)[1]["Members"][0]["@odata.id"]
    assert 204 == browser.ask("DELETE", number)[0]
    assert 401 == browser.get("/redfish/v1/Systems")[0]


def test_a_session_that_nobody_uses_is_over(simulator: Simulator) -> None:
    now = [0.0]
    browser = Browser(simulator.add(made("made"), Options(session_seconds=60.0), clock=lambda: now[0]))
    browser.log_in()
    for _ in range(3):
        now[0] += 50.0
        assert 200 == browser.get("/redfish/v1/Systems")[0]
    now[0] += 61.0
    assert 401 == browser.get("/redfish/v1/Systems")[0]
    browser.close()


def test_one_without_sessions_says_so_and_takes_passwords(simulator: Simulator) -> None:
    browser = Browser(simulator.add(made("made"), Options(sessions=False)))
    assert 404 == browser.log_in()
    browser.close()


def test_an_entity_tag_saves_the_body_until_the_resource_changes(inside: Browser) -> None:
    tag = inside.ask("GET", SYSTEM)[2]["ETag"]
    assert (304, None) == inside.get(SYSTEM, If_None_Match=tag)
    inside.bmc.change(SYSTEM, PowerState="Off")
    assert "Off" == inside.get(SYSTEM, If_None_Match=tag)[1]["PowerState"]


def test_a_collection_is_expanded_as_far_as_the_bmc_says_that_it_can(inside: Browser) -> None:
    members = inside.get(f"{SENSORS}?$expand=.($levels=1)")[1]["Members"]
    assert 20 == len(members) == sum("Reading" in one for one in members)
    assert 400 == inside.get(f"{SENSORS}?$expand=.($levels=3)")[0]
    two = inside.get("/redfish/v1/Chassis?$expand=.($levels=2)")[1]["Members"][0]
    assert "Members" in two["Sensors"]
    assert {"@odata.id"} == two["Links"]["ManagedBy"][0].keys()


def test_one_that_cannot_expand_refuses(simulator: Simulator) -> None:
    browser = Browser(simulator.add(made("made"), Options(expand=False)))
    browser.log_in()
    assert 501 == browser.get(f"{SENSORS}?$expand=.($levels=1)")[0]
    browser.close()


def test_members_are_chosen_and_come_in_pages(inside: Browser) -> None:
    page = inside.get(f"{SENSORS}?$skip=18")[1]
    assert (2, 20) == (len(page["Members"]), page["Members@odata.count"])
    later = inside.get(f"{LOG}/Entries?$filter=Created%20gt%20'2026-11-01T10:00:00%2B00:00'")[1]
    assert ["2", "3"] == [one["Id"] for one in later["Members"]]
    only = inside.get("/redfish/v1/Systems?only")[1]
    assert SYSTEM == only["@odata.id"]
    assert {"@odata.id", "@odata.type", "UUID"} == inside.get(f"{SYSTEM}?$select=UUID")[1].keys()


def test_a_bmc_that_pages_says_where_the_next_page_is(simulator: Simulator) -> None:
    browser = Browser(simulator.add(made("made"), Options(page=8)))
    browser.log_in()
    found: list[str] = []
    path: str | None = SENSORS
    while path is not None:
        page = browser.get(path)[1]
        found += [one["@odata.id"] for one in page["Members"]]
        path = page.get("Members@odata.nextLink")
    assert 20 == len(set(found)) == len(found)
    browser.close()


def test_faults_come_as_often_as_the_script_says(inside: Browser) -> None:
    path = "/redfish/v1/Systems"
    inside.bmc.faults.add(Status(503, retry_after="7"), path, times=1)
    inside.bmc.faults.add(Truncated(10), path, skip=1, times=1)
    inside.bmc.faults.add(Slow(0.05), path)
    status, _, headers = inside.ask("GET", path)
    assert (503, "7") == (status, headers["Retry-After"])
    assert 10 == len(inside.get(path)[1])
    assert 200 == inside.get(path)[0]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Drop(), http.client.RemoteDisconnected),
        (Drop(reset=True), ConnectionResetError),
        (Drop(after_bytes=230), http.client.IncompleteRead),
        (Stall(), TimeoutError),
        (Stall(after_bytes=230), TimeoutError),
        (Raw(b"SSH-2.0-dropbear\r\n"), http.client.BadStatusLine),
    ],
)
def test_a_connection_fails_as_it_is_told(simulator: Simulator, fault: Fault, error: type[Exception]) -> None:
    browser = Browser(simulator.add(made("made")), seconds=0.5)
    browser.bmc.faults.add(fault, "/redfish/v1", times=1)
    with pytest.raises(error):
        browser.get("/redfish/v1/")
    browser.close()
    assert 200 == browser.get("/redfish/v1/")[0]
    browser.close()


def test_an_answer_may_be_anything(inside: Browser) -> None:
    path = "/redfish/v1/Systems"
    row = (Redirect("/redfish/v1/Chassis"), Garbage(b"[1]"), Rewrite(lambda told: told | {"Members": 5}))
    for skip, fault in enumerate((*row, Huge(3_000_000), Trickle(40, 0.001))):
        inside.bmc.faults.add(fault, path, skip=skip, times=1)
    status, _, headers = inside.ask("GET", path)
    assert (307, "/redfish/v1/Chassis") == (status, headers["Location"])
    assert (200, [1]) == inside.get(path)
    assert 5 == inside.get(path)[1]["Members"]
    assert 3_000_000 == len(json.dumps(inside.get(path)[1], separators=(",", ":")))
    assert [{"@odata.id": SYSTEM}] == inside.get(path)[1]["Members"]
    assert 200 == inside.get(path)[0]


def test_resources_change_and_vanish(inside: Browser) -> None:
    inside.bmc.change(f"{SENSORS}/Inlet", Reading=None, ReadingUnits="K")
    inside.bmc.change(f"{SENSORS}/Inlet", "/Thresholds/UpperCaution", Reading="high")
    told = inside.get(f"{SENSORS}/Inlet")[1]
    assert (None, "K", "high") == (told["Reading"], told["ReadingUnits"], told["Thresholds"]["UpperCaution"]["Reading"])
    inside.bmc.remove(f"{SENSORS}/Outlet")
    assert 404 == inside.get(f"{SENSORS}/Outlet")[0]
    assert 19 == len(inside.get(SENSORS)[1]["Members"])


def test_a_log_grows_and_is_cleared(inside: Browser) -> None:
    entry = inside.bmc.machine.log(f"{LOG}/Entries", "The fan failed.", Severity="Critical")
    assert f"{LOG}/Entries/4" == entry["@odata.id"]
    assert "The fan failed." == inside.get(f"{LOG}/Entries")[1]["Members"][-1]["Message"]
    assert "Critical" == inside.get(f"{LOG}/Entries/4")[1]["Severity"]
    assert 204 == inside.ask("POST", f"{LOG}/Actions/LogService.ClearLog", {})[0]
    assert 0 == inside.get(f"{LOG}/Entries")[1]["Members@odata.count"]
    assert 404 == inside.get(f"{LOG}/Entries/4")[0]


def test_a_machine_is_turned_off_and_starts_step_by_step(simulator: Simulator) -> None:
    now = [0.0]
    browser = Browser(simulator.add(made("made"), clock=lambda: now[0]))
    browser.log_in()
    browser.bmc.machine.boot_seconds = 10.0
    assert 204 == browser.ask("POST", f"{SYSTEM}/Actions/ComputerSystem.Reset", {"ResetType": "PowerCycle"})[0]

    def state() -> tuple[str, str]:
        told = browser.get(SYSTEM)[1]
        return told["PowerState"], told["BootProgress"]["LastState"]

    assert ("On", "OSRunning") == state()
    now[0] = 11.0
    assert ("Off", "None") == state()
    now[0] = 41.0
    assert ("On", "MemoryInitializationStarted") == state()
    now[0] = 90.0
    assert ("On", "OSRunning") == state()
    assert 400 == browser.ask("POST", f"{SYSTEM}/Actions/ComputerSystem.Reset", {"ResetType": "Nudge"})[0]
    browser.close()


def test_events_are_streamed_to_so_many_as_there_is_room_for(inside: Browser) -> None:
    parts = urlsplit(inside.bmc.url)
    with socket.create_connection((str(parts.hostname), parts.port or 0), 10.0) as sock:
        token = inside.headers["X-Auth-Token"]
        sock.sendall(f"GET {EVENTS}/SSE HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\r\n".encode())
        until(lambda: inside.bmc.events.streams == 1)
        assert 503 == inside.get(f"{EVENTS}/SSE")[0]
        inside.bmc.events.emit(message="It is warm.", origin=f"{SENSORS}/Inlet")
        heard = b""
        while not heard.endswith(b"}\n\n"):
            heard += sock.recv(4096)
        assert b"text/event-stream" in heard
        told = json.loads(heard.partition(b"data: ")[2])
        assert ("It is warm.", f"{SENSORS}/Inlet") == (
            told["Events"][0]["Message"],
            told["Events"][0]["OriginOfCondition"]["@odata.id"],
        )
        inside.bmc.events.cut()
        assert b"" == sock.recv(100)
    until(lambda: inside.bmc.events.streams == 0)


def test_events_are_posted_to_who_has_subscribed(inside: Browser) -> None:
    heard: list[tuple[str | None, Any]] = []

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.append((self.headers["X-Secret"], told))
            self.send_response(503 if len(heard) == 1 else 204)
            self.end_headers()

        def log_request(self, code: object = None, size: object = None) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        told = {
            "Destination": f"http://127.0.0.1:{server.server_port}/ear",
            "Protocol": "Redfish",
            "Context": "mine",
            "HttpHeaders": [{"X-Secret": "s"}],
        }
        status, _, headers = inside.ask("POST", f"{EVENTS}/Subscriptions", told)
        assert 201 == status
        inside.ask("POST", f"{EVENTS}/Actions/EventService.SubmitTestEvent", {})
        until(lambda: len(heard) == 2)
        assert 204 == inside.ask("DELETE", headers["Location"])[0]
        inside.bmc.events.emit()
        until(lambda: [503, 204] == [status for _, status in inside.bmc.events.delivered])
        server.shutdown()
        thread.join()
    assert [("s", "mine")] * 2 == [(secret, body["Context"]) for secret, body in heard]
    assert 0 == inside.get(f"{EVENTS}/Subscriptions")[1]["Members@odata.count"]


def test_a_weak_bmc_answers_one_after_another(simulator: Simulator) -> None:
    bmc = simulator.add(made("made"), Options(at_once=1, pace_seconds=0.1))
    began = time.monotonic()
    threads = [threading.Thread(target=_look, args=(bmc,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= 0.4


def _look(bmc: Bmc) -> None:
    browser = Browser(bmc)
    assert 200 == browser.get("/redfish/v1/")[0]
    browser.close()


def test_it_speaks_tls_and_its_address_is_its_own(simulator: Simulator, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    bmc = simulator.add(made("made"), host="127.9.8.7", certificate=authority.certificate("127.9.8.7"))
    assert bmc.url.startswith("https://127.9.8.7:")
    browser = Browser(bmc, context=ssl.create_default_context(cafile=str(authority.ca_file)))
    assert 201 == browser.log_in()
    browser.close()


def test_one_disappears_and_appears_again_without_sessions(simulator: Simulator, inside: Browser) -> None:
    simulator.disappear(inside.bmc)
    inside.close()
    with pytest.raises(ConnectionRefusedError):
        inside.get("/redfish/v1/")
    inside.close()
    simulator.reappear(inside.bmc)
    assert 401 == inside.get("/redfish/v1/Systems")[0]
    silent = Bmc(made("made"))
    silent.url = simulator.silent()
    browser = Browser(silent, seconds=0.2)
    with pytest.raises(TimeoutError):
        browser.get("/redfish/v1/")
    browser.close()
