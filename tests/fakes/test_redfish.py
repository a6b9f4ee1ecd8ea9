"""The simulator of BMCs is what the tests of the collector take it for."""

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.fakes.redfish import Bmc, Drop, Options, Simulator, Slow, Status, Truncated, recorded

SESSIONS = "/redfish/v1/SessionService/Sessions"


class Browser:
    """A client without any opinion."""

    def __init__(self, bmc: Bmc) -> None:
        parts = urlsplit(bmc.url)
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
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
    browser = Browser(simulator.add(recorded("dell"), Options(session_limit=2)))
    yield browser
    browser.close()


def test_the_root_is_open_and_the_rest_is_not(browser: Browser) -> None:
    assert 200 == browser.get("/redfish/v1/")[0]
    assert 401 == browser.get("/redfish/v1/Systems")[0]
    assert 201 == browser.log_in()
    assert 200 == browser.get("/redfish/v1/Systems")[0]


def test_sessions_have_a_limit_and_an_end(browser: Browser) -> None:
    assert [201, 201, 503] == [browser.log_in() for _ in range(3)]
    browser.bmc.sessions.expire()
    assert 401 == browser.get("/redfish/v1/Systems")[0]
    assert 201 == browser.log_in()


def test_an_entity_tag_saves_the_body_until_the_resource_changes(browser: Browser) -> None:
    browser.log_in()
    path = "/redfish/v1/Systems/System.Embedded.1"
    tag = browser.ask("GET", path)[2]["ETag"]
    assert (304, None) == browser.get(path, If_None_Match=tag)
    browser.bmc.change(path, PowerState="Off")
    assert "Off" == browser.get(path, If_None_Match=tag)[1]["PowerState"]


def test_a_collection_is_expanded_as_far_as_the_bmc_says_that_it_can(browser: Browser) -> None:
    browser.log_in()
    path = "/redfish/v1/Chassis/System.Embedded.1/Sensors"
    members = browser.get(f"{path}?$expand=.($levels=1)")[1]["Members"]
    assert 33 == len(members) == sum("Reading" in one for one in members)
    assert 400 == browser.get(f"{path}?$expand=.($levels=2)")[0]


def test_faults_come_as_often_as_the_script_says(browser: Browser) -> None:
    browser.log_in()
    path = "/redfish/v1/Systems"
    browser.bmc.faults.add(Status(503, retry_after="7"), path, times=1)
    browser.bmc.faults.add(Truncated(10), path, skip=1, times=1)
    browser.bmc.faults.add(Slow(0.05), path)
    status, _, headers = browser.ask("GET", path)
    assert (503, "7") == (status, headers["Retry-After"])
    assert 10 == len(browser.get(path)[1])
    assert 200 == browser.get(path)[0]
    browser.bmc.faults.add(Drop(), path)
    with pytest.raises(http.client.RemoteDisconnected):
        browser.get(path)
