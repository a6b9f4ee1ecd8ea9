"""What a client asks of a BMC, how often, as whom, and what it makes of answers."""

import hashlib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors.redfish.client import Client, Outcome
from collectors.redfish.config import Bmc as Address
from collectors.redfish.config import RedfishConfig
from collectors.redfish.connection import Trust
from collectors.redfish.errors import BmcDeniedError, BmcError, BmcOccupiedError, BmcUnreachableError, BmcUntrustedError
from collectors.redfish.keeping import Keeping
from tests.certificates import Authority
from tests.fakes.redfish import (
    Bmc,
    Drop,
    Garbage,
    Huge,
    Options,
    Redirect,
    Simulator,
    Stall,
    Status,
    Trickle,
    Truncated,
    made,
)

SENSORS = "/redfish/v1/Chassis/Box/Sensors"
SYSTEMS = "/redfish/v1/Systems"


class Clients:
    """Makes clients of simulated BMCs, and ends their sessions."""

    def __init__(self) -> None:
        self.made: list[Client] = []

    def __call__(
        self, bmc: Bmc, *, keeping: Keeping | None = None, who: dict[str, Any] | None = None, **options: Any
    ) -> Client:
        address: dict[str, Any] = {"address": bmc.url, "name": "b", "user": bmc.user, "password": bmc.password}
        address |= who or {}
        clock = options.pop("clock", time.monotonic)
        config = RedfishConfig(**{"answer_seconds": 5.0, **options})
        client = Client(Address(**address), config, Trust(ca_file=config.ca_file), keeping=keeping, clock=clock)
        self.made.append(client)
        return client


@pytest.fixture
def clients() -> Iterator[Clients]:
    made = Clients()
    yield made
    for client in made.made:
        client.log_out()


def asked(bmc: Bmc, method: str = "GET") -> list[str]:
    return [target for verb, target, _ in bmc.requests if verb == method]


def test_members_come_with_their_collection_where_the_bmc_says_it_can(simulator: Simulator, clients: Clients) -> None:
    bmc = simulator.add(made("made"))
    client = clients(bmc)
    client.read_root()
    before = len(bmc.requests)
    sensors = list(client.members(SENSORS))
    assert len(sensors) > 10
    assert all("Reading" in one for one in sensors)
    assert 2 == len(bmc.requests) - before  # the session, and one


@pytest.mark.parametrize("page", [None, 4])
def test_members_are_asked_for_one_by_one_where_it_cannot(
    simulator: Simulator, clients: Clients, page: int | None
) -> None:
    bmc, other = simulator.add(made("made"), Options(expand=False, page=page)), simulator.add(made("made"))
    whole, single = clients(other), clients(bmc)
    for client in (whole, single):
        client.read_root()
    found = {one["@odata.id"] for one in single.members(SENSORS)}
    assert {one["@odata.id"] for one in whole.members(SENSORS)} == found
    seen = len(asked(bmc))
    list(single.members(SENSORS))
    assert not any("expand" in target for target in asked(bmc)[seen:])  # it is remembered


def test_one_failure_to_expand_is_chance_and_two_are_not(simulator: Simulator, clients: Clients) -> None:
    bmc = simulator.add(made("made"))
    client = clients(bmc)
    client.read_root()
    bmc.faults.add(Garbage(), path=f"{SENSORS}", times=1)
    assert list(client.members(SENSORS))
    seen = len(asked(bmc))
    assert list(client.members(SENSORS))
    assert 1 == len(asked(bmc)) - seen
    assert 1 == client.faults.counts["expand"]


def test_what_is_not_there_is_asked_for_once(simulator: Simulator, clients: Clients) -> None:
    bmc = simulator.add(made("made"))
    client = clients(bmc)
    assert [Outcome.UNSUPPORTED] * 3 == [client.ask("/redfish/v1/Nothing").outcome for _ in range(3)]
    assert 1 == asked(bmc).count("/redfish/v1/Nothing")
    client.start_over()
    client.get("/redfish/v1/Nothing")
    assert 2 == asked(bmc).count("/redfish/v1/Nothing")


@pytest.mark.parametrize(
    "link", ["http://elsewhere/redfish/v1", "/etc/passwd", "/redfish/v1/../../x", "", "/redfish/" + "x" * 5000, None, 5]
)
def test_links_that_lead_elsewhere_are_not_followed(simulator: Simulator, clients: Clients, link: Any) -> None:
    bmc = simulator.add(made("made"))
    assert clients(bmc).get(link) is None
    assert [] == bmc.requests


def test_fragments_and_slashes_make_no_difference(simulator: Simulator, clients: Clients) -> None:
    client = clients(simulator.add(made("made")))
    assert client.get(f"{SYSTEMS}/") == client.get(f"{SYSTEMS}#/Members/0") == client.get(SYSTEMS)


@pytest.mark.parametrize("fault", [Garbage(), Truncated(), Status(500), Status(502)])
def test_what_cannot_be_read_is_a_counted_fault_and_there_the_next_time(
    simulator: Simulator, clients: Clients, fault: Any
) -> None:
    bmc = simulator.add(made("made"))
    client = clients(bmc)
    bmc.faults.add(fault, path=SYSTEMS, times=1)
    assert Outcome.UNAVAILABLE is client.ask(SYSTEMS).outcome
    assert 1 == client.faults.lost
    assert client.get(SYSTEMS) is not None


@pytest.mark.parametrize("fault", [Drop(after_bytes=40), Drop(after_bytes=40, reset=True), Huge(100_000)])
def test_an_answer_that_breaks_off_or_never_ends_is_that_resources_alone(
    simulator: Simulator, clients: Clients, fault: Any
) -> None:
    bmc = simulator.add(made("made"))
    client = clients(bmc, max_answer_bytes=50_000)
    client.get(SYSTEMS)
    bmc.faults.add(fault, path=SYSTEMS, times=2)
    assert Outcome.UNAVAILABLE is client.ask(SYSTEMS).outcome
    assert client.faults.counts["hung"]
    assert client.get("/redfish/v1/Chassis") is not None


def test_an_answer_that_drips_has_no_more_time_than_any_other(simulator: Simulator, clients: Clients) -> None:
    bmc = simulator.add(made("made"))
    client = clients(bmc, answer_seconds=0.5)
    client.get(SYSTEMS)
    bmc.faults.add(Trickle(piece_bytes=1, seconds=0.1), path=SYSTEMS)
    began = time.monotonic()
    assert Outcome.UNAVAILABLE is client.ask(SYSTEMS).outcome
    assert time.monotonic() - began < 5.0  # it would take minutes


def test_a_resource_that_hangs_is_left_alone_for_a_while_and_then_asked_for_again(
    simulator: Simulator, clients: Clients
) -> None:
    bmc = simulator.add(made("made"))
    now = [0.0]
    client = clients(bmc, answer_seconds=0.3, clock=lambda: time.monotonic() + now[0])
    bmc.faults.add(Stall(), path=SYSTEMS, times=1)
    assert client.get("/redfish/v1/Chassis") is not None
    assert [Outcome.UNAVAILABLE] * 3 == [client.ask(SYSTEMS).outcome for _ in range(3)]
    assert 3 == client.faults.counts["hung"] == client.faults.lost
    assert 1 == asked(bmc).count(SYSTEMS)
    now[0] = 61.0
    assert client.get(SYSTEMS) is not None


def test_where_nothing_is_answered_nothing_is_said_to_hang(simulator: Simulator, clients: Clients) -> None:
    bmc = simulator.add(made("made"))
    client = clients(bmc, answer_seconds=0.3)
    client.get(SYSTEMS)
    simulator.disappear(bmc)
    for _ in range(3):
        with pytest.raises(BmcUnreachableError):
            client.get(SYSTEMS)
    assert "hung" not in client.faults.counts


def test_a_connection_that_was_closed_while_idle_is_opened_again(simulator: Simulator, clients: Clients) -> None:
    bmc = simulator.add(made("made"))
    client = clients(bmc)
    client.get(SYSTEMS)
    simulator.hang_up(bmc)
    assert client.get(SYSTEMS) is not None
    assert 1 == bmc.sessions.made


def test_one_connection_is_all_that_it_takes(simulator: Simulator, clients: Clients) -> None:
    bmc = simulator.add(made("made"))
    client = clients(bmc)
    client.read_root()
    for path in (SYSTEMS, SENSORS, "/redfish/v1/Managers"):
        list(client.members(path))
    assert 1 == simulator.connections(bmc)


def test_what_seldom_changes_is_not_sent_again(simulator: Simulator, clients: Clients) -> None:
    bmc = simulator.add(made("made"))
    client = clients(bmc)
    path = "/redfish/v1/Chassis/Box"
    first = client.get(path, keep=True)
    assert first == client.get(path, keep=True)
    assert [200, 304] == [status for _, target, status in bmc.requests if target == path]
    bmc.change(path, Model="another")
    assert "another" == (client.get(path, keep=True) or {})["Model"]


def test_a_busy_bmc_says_for_how_long(simulator: Simulator, clients: Clients) -> None:
    bmc = simulator.add(made("made"))
    bmc.faults.add(Status(503, retry_after="7"), path=SYSTEMS)
    with pytest.raises(BmcOccupiedError) as caught:
        clients(bmc).get(SYSTEMS)
    assert 7.0 == caught.value.retry_after


def test_where_no_session_is_left_name_and_password_serve(simulator: Simulator, clients: Clients) -> None:
    bmc = simulator.add(made("made"), Options(session_limit=0))
    client = clients(bmc)
    assert client.get(SYSTEMS) is not None
    assert client.faults.counts["no_session"]


def test_a_session_of_another_user_or_address_is_not_used(
    simulator: Simulator, clients: Clients, tmp_path: Path
) -> None:
    bmc, keeping = simulator.add(made("made")), Keeping(tmp_path)
    clients(bmc, keeping=keeping).get(SYSTEMS)
    assert 0o600 == next((tmp_path / "bmcs").glob("*.json")).stat().st_mode & 0o777
    clients(bmc, keeping=keeping).get(SYSTEMS)
    assert 1 == bmc.sessions.made
    with pytest.raises(BmcDeniedError):
        clients(bmc, keeping=keeping, who={"user": "other"}).get(SYSTEMS)


def test_without_a_user_only_the_root_is_read(simulator: Simulator, clients: Clients) -> None:
    client = clients(simulator.add(made("made")), who={"user": "", "password": ""})
    assert client.read_root()["RedfishVersion"]
    with pytest.raises(BmcDeniedError, match="set `user`"):
        client.get(SYSTEMS)


def test_redirections_are_followed_within_the_bmc_alone(simulator: Simulator, clients: Clients) -> None:
    bmc, other = simulator.add(made("made")), simulator.add(made("made"))
    client = clients(bmc)
    client.get(SYSTEMS)
    bmc.faults.add(Redirect("/redfish/v1/Managers"), path=SYSTEMS, times=1)
    assert "/redfish/v1/Managers" == (client.get(SYSTEMS) or {})["@odata.id"]
    bmc.faults.add(Redirect(f"{other.url}/redfish/v1/Managers"), path=SYSTEMS, times=1)
    assert client.get(SYSTEMS) is None
    assert [] == other.requests
    assert 1 == client.faults.counts["redirect"]


def test_something_else_that_answers_is_no_bmc(simulator: Simulator, clients: Clients) -> None:
    bmc = simulator.add(made("made"))
    bmc.faults.add(Status(404), path="*")
    with pytest.raises(BmcUnreachableError, match="no service root"):
        clients(bmc).read_root()


class TestCertificates:
    def secured(self, simulator: Simulator, folder: Path) -> tuple[Bmc, Authority, str]:
        authority = Authority(folder)
        certificate, key = authority.certificate()
        der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
        return simulator.add(made("made"), certificate=(certificate, key)), authority, hashlib.sha256(der).hexdigest()

    def test_of_an_authority(self, simulator: Simulator, clients: Clients, tmp_path: Path) -> None:
        bmc, authority, _ = self.secured(simulator, tmp_path)
        assert clients(bmc, ca_file=str(authority.ca_file)).get(SYSTEMS) is not None
        with pytest.raises(BmcUntrustedError, match="fingerprint"):
            clients(bmc).get(SYSTEMS)

    def test_by_fingerprint(self, simulator: Simulator, clients: Clients, tmp_path: Path) -> None:
        bmc, _, fingerprint = self.secured(simulator, tmp_path)
        spelled = "SHA256:" + ":".join(fingerprint[at : at + 2] for at in range(0, 64, 2)).upper()
        assert clients(bmc, who={"fingerprint": spelled}).get(SYSTEMS) is not None
        seen = len(bmc.requests)
        with pytest.raises(BmcUntrustedError, match=fingerprint):
            clients(bmc, who={"fingerprint": "0" * 64}).get(SYSTEMS)
        assert seen == len(bmc.requests)  # neither name nor password was told

    def test_the_first_is_believed_from_then_on(self, simulator: Simulator, clients: Clients, tmp_path: Path) -> None:
        bmc, _, _ = self.secured(simulator, tmp_path / "one")
        keeping = Keeping(tmp_path)
        assert clients(bmc, tls="first", keeping=keeping).get(SYSTEMS) is not None
        assert clients(bmc, tls="first", keeping=keeping).get(SYSTEMS) is not None
        other, _, _ = self.secured(simulator, tmp_path / "two")
        kept = keeping.load(Address(address=bmc.url, name="b", user=bmc.user))
        keeping.save(Address(address=other.url, name="b", user=bmc.user), kept)  # another has taken its address
        with pytest.raises(BmcUntrustedError):
            clients(other, tls="first", keeping=keeping).get(SYSTEMS)

    def test_a_first_one_that_could_not_be_written_is_told_and_written_later(
        self, simulator: Simulator, clients: Clients, tmp_path: Path
    ) -> None:
        bmc, _, fingerprint = self.secured(simulator, tmp_path / "one")
        keeping, now = Keeping(tmp_path), [100.0]
        (tmp_path / "bmcs").write_bytes(b"")  # no folder can be made there
        client = clients(bmc, tls="first", keeping=keeping, clock=lambda: now[0])
        assert client.get(SYSTEMS) is not None
        assert (True, True) == ("bmcs" in client.unkept, client.faults.counts["unkept"] >= 1)
        (tmp_path / "bmcs").unlink()
        now[0] += 60.0
        assert client.get(SYSTEMS) is not None
        assert ("", fingerprint) == (client.unkept, keeping.load(client.bmc).fingerprint)

    @pytest.mark.parametrize("damage", [b"", b"{]", b'{"url": 7}'])
    def test_where_the_first_one_cannot_be_read_any_more_no_other_is_believed(
        self, simulator: Simulator, clients: Clients, tmp_path: Path, damage: bytes
    ) -> None:
        bmc, _, fingerprint = self.secured(simulator, tmp_path / "one")
        keeping = Keeping(tmp_path)
        assert clients(bmc, tls="first", keeping=keeping).get(SYSTEMS) is not None
        [file] = (tmp_path / "bmcs").glob("*.json")
        before = file.read_bytes()
        file.write_bytes(damage)
        seen, client = len(bmc.requests), clients(bmc, tls="first", keeping=keeping)
        for _ in range(2):
            with pytest.raises(BmcUntrustedError, match=file.name):
                client.get(SYSTEMS)
        assert (seen, damage) == (len(bmc.requests), file.read_bytes())  # nothing was sent, and nothing written over
        file.write_bytes(before)
        assert client.get(SYSTEMS) is not None
        assert fingerprint == keeping.load(client.bmc).fingerprint

    def test_where_it_may_be_removed_the_next_one_is_believed(
        self, simulator: Simulator, clients: Clients, tmp_path: Path
    ) -> None:
        bmc, _, fingerprint = self.secured(simulator, tmp_path / "one")
        keeping = Keeping(tmp_path)
        client = clients(bmc, tls="first", keeping=keeping)
        client.get(SYSTEMS)
        [file] = (tmp_path / "bmcs").glob("*.json")
        file.write_bytes(b"{]")
        late = clients(bmc, tls="first", keeping=keeping)
        file.unlink()
        assert late.get(SYSTEMS) is not None
        assert fingerprint == keeping.load(client.bmc).fingerprint

    def test_what_else_was_kept_and_cannot_be_read_is_counted(
        self, simulator: Simulator, clients: Clients, tmp_path: Path
    ) -> None:
        bmc, keeping = simulator.add(made("made")), Keeping(tmp_path)
        clients(bmc, keeping=keeping).get(SYSTEMS)
        [file] = (tmp_path / "bmcs").glob("*.json")
        file.write_bytes(b"{]")
        client = clients(bmc, keeping=keeping)
        assert client.get(SYSTEMS) is not None
        assert {"unread": 1} == client.faults.counts

    def test_any_where_the_operator_says_so(self, simulator: Simulator, clients: Clients, tmp_path: Path) -> None:
        bmc, _, _ = self.secured(simulator, tmp_path)
        assert clients(bmc, tls="insecure").get(SYSTEMS) is not None

    def test_plain_http_to_a_port_of_tls_is_unreachable_and_no_crash(
        self, simulator: Simulator, clients: Clients, tmp_path: Path
    ) -> None:
        bmc, _, _ = self.secured(simulator, tmp_path)
        with pytest.raises(BmcError):
            clients(bmc, who={"address": bmc.url.replace("https", "http")}).get(SYSTEMS)
