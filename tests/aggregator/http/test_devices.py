"""Devices over HTTP: those of a node that there is, and when a part came into its slot."""

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from aggregator.control_sqlite import SqliteControl
from aggregator.ledger import uses
from aggregator.ledger.entries import VariantSet
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.model import Evidence, Variant
from aggregator.ledger.outside import Use
from aggregator.migrate import LEDGER
from aggregator.views import EvidenceView, device_history
from schemas.device import DeviceKind
from schemas.evidence import GpuReadback, encode_readback
from tests.aggregator.http.test_place import Api
from tests.aggregator.ledger.rig import settle
from tests.aggregator.ledger.worlds import Book, begin, document


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    control = SqliteControl(tmp_path / "ledger.db", schema=LEDGER)
    control.open()
    ledger = Ledger(control, "test", clock=lambda: 1_700_000_000 * 10**9)
    await ledger.open()
    await settle(ledger)
    yield Api(ledger)
    await ledger.close()
    await control.close()


@pytest.mark.parametrize("name", ["n1", "host-n1"])
async def test_node_is_known_by_id_and_by_host_name(api: Api, name: str) -> None:
    status, told = await api.ask("GET", f"/v1/devices?node={name}")
    assert (200, ["n1"] * 3) == (status, [one["node"] for one in told["devices"]])


async def test_unknown_node_is_no_empty_list_and_near_names_are_told(api: Api) -> None:
    status, told = await api.ask("GET", "/v1/devices?node=host-n2")
    assert 404 == status
    assert "there is no node 'host-n2'" in told["detail"]
    assert "'host-n1'" in told["detail"]


async def test_stays_of_a_device_have_times(api: Api) -> None:
    device = (await api.ask("GET", "/v1/devices?node=n0&limit=1"))[1]["devices"][0]["id"]
    _, told = await api.ask("GET", f"/v1/devices/{device}")
    (stay,) = told["history"]["slot"]
    assert (device, None) == (stay["device"], stay["until"])
    assert {str(stay["since"]): 1_700_000_000 * 10**9} == told["times_ns"]


async def test_word_about_a_device_as_it_was_is_not_taken_for_what_it_is_now(api: Api) -> None:
    """If-Match: the ETag, or any sequence since the last use; a word of before that use frees nothing."""
    device = (await api.ask("GET", "/v1/devices?node=n0&limit=1"))[1]["devices"][0]["id"]
    before = (await api.ask("GET", f"/v1/devices/{device}"))[1]["sequence"]
    node, address = (api.ledger.peek().devices[device].node, api.ledger.peek().devices[device].slot.address)
    for some in ([Use(node, address, "web")], []):
        await api.ledger.decide(partial(uses.take, source="nova", kind="nova", uses=some, as_of_ns=1, who="op"))
    path, word = f"/v1/devices/{device}/attest", {"statement": "new from the factory"}
    for given, expected in ((f'"{before}"', 409), ("x", 400), (str(1 << 40), 400)):
        assert expected == (await api.ask("POST", path, word, match=given))[0]
    now = (await api.ask("GET", f"/v1/devices/{device}"))[1]["device"]["changed"]
    assert 200 == (await api.ask("POST", path, word, match=f'"{now}"'))[0]


async def test_evidence_is_an_object_with_an_operators_words(api: Api) -> None:
    device = (await api.ask("GET", "/v1/devices?node=n0&limit=1"))[1]["devices"][0]
    assert "evidence" in device
    status, told = await api.ask("POST", f"/v1/devices/{device['id']}/attest", {"statement": "new from the factory"})
    assert 200 == status, told
    _, told = await api.ask("GET", f"/v1/devices/{device['id']}")
    proof = told["device"]["evidence"]
    assert ("attestation", "new from the factory", None) == (proof["ground"], proof["statement"], proof["readback"])
    assert told["sequence"] == proof["sequence"]


@pytest.mark.parametrize("document", ['{"kind":"psu"}', "not JSON", '["statement"]'])
@pytest.mark.parametrize("ground", ["evidence", "attestation"])
def test_evidence_that_this_version_cannot_read_is_shown_as_it_is(ground: str, document: str) -> None:
    shown = EvidenceView.of(Evidence(7, ground, "n1", "p", document))
    assert (document, None) == (shown.statement, shown.readback)


def test_readback_is_an_object_of_its_kind() -> None:
    read = GpuReadback(
        device="gpu-1", part="p", clean=5, read_ns=1, in_use=False, reset_seen=True, processes=0, memory_check="passed"
    )
    shown = EvidenceView.of(Evidence(7, "evidence", "n1", "p", encode_readback(read)))
    assert "gpu" == msgspec.to_builtins(shown)["readback"]["kind"]
    assert ("", read) == (shown.statement, shown.readback)


@pytest.mark.parametrize("path", ["/v1/devices", "/v1/devices/{device}"])
def test_description_names_what_a_proof_is_made_of(api: Api, path: str) -> None:
    described = json.dumps(api.app.openapi()["paths"][path]["get"]["responses"])
    for word in ("readback", "statement", "memory_check", "sanitize_status", "lifecycle"):
        assert f'"{word}"' in described


def test_slot_remembers_a_part_that_sits_elsewhere_by_now() -> None:
    book = Book()
    begin(book)
    first = book.see(document(DeviceKind.GPU, "0000:01:00.0", serial="G1"))
    second = book.see(document(DeviceKind.GPU, "0000:01:00.0", serial="G2"))
    moved = book.see(document(DeviceKind.GPU, "0000:09:00.0", serial="G1"))
    assert first is not None
    assert second is not None
    assert moved is first
    stays = [(stay.device, stay.until is None) for stay in device_history(book.state, second).slot]
    assert [(first.id, False), (second.id, True)] == stays
    assert [first.id] == [stay.device for stay in device_history(book.state, first).slot]
    assert 2 == len(device_history(book.state, first).sights)


async def test_list_is_filtered_by_an_expression_and_what_cannot_be_told_is_counted(api: Api) -> None:
    every = (await api.ask("GET", "/v1/devices"))[1]["devices"]
    where = quote("node.id == 'n1' && device.kind == 'gpu'")
    _, told = await api.ask("GET", f"/v1/devices?where={where}")
    wanted = [one["id"] for one in every if one["node"] == "n1" and one["kind"] == "gpu"]
    assert (wanted, 0) == ([one["id"] for one in told["devices"]], told["untold"])
    _, told = await api.ask("GET", f"/v1/devices?where={quote('device.capabilities.nothing > 5')}")
    assert ([], len(every)) == (told["devices"], told["untold"])


async def test_filtered_pages_add_up_to_the_list(api: Api) -> None:
    where = quote("node.id != 'n0'")
    whole = (await api.ask("GET", f"/v1/devices?where={where}"))[1]["devices"]
    found, after = [], ""
    while True:
        _, page = await api.ask("GET", f"/v1/devices?where={where}&limit=2&after={after}")
        found += page["devices"]
        after = page["next"]
        if not after:
            break
    assert whole == found
    assert len(whole) > 2


@pytest.mark.parametrize("path", ["/v1/devices", "/v1/adoption"])
async def test_filter_that_is_wrong_is_refused_with_its_column(api: Api, path: str) -> None:
    status, told = await api.ask("GET", f"{path}?where={quote('device.knd == 5')}")
    assert (400, "expression.name") == (status, told["code"])
    assert told["detail"].startswith("column 8: device has no field 'knd'. Did you mean 'kind'?")


async def test_what_waits_is_filtered_too(api: Api) -> None:
    every = (await api.ask("GET", "/v1/adoption"))[1]["devices"]
    where = quote("node.id == 'n1'")
    _, told = await api.ask("GET", f"/v1/adoption?where={where}")
    assert [one["device"] for one in every if one["node"] == "n1"] == [one["device"] for one in told["devices"]]
    assert 0 < len(told["devices"]) < len(every)


# --- the past ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["0", "20000d", "1970-01-01T00:00:01Z"])
async def test_moment_before_the_ledger_is_no_empty_list(api: Api, when: str) -> None:
    status, told = await api.ask("GET", f"/v1/devices?as_of={when}")
    assert (410, "ledger.gone") == (status, told["code"])
    assert "the ledger begins at 2023-11-14T22:13:20Z" in told["detail"]


@pytest.mark.parametrize("when", ["2116-01-01T00:00:00Z", "2116-01-01"])
async def test_moment_to_come_is_refused(api: Api, when: str) -> None:
    status, told = await api.ask("GET", f"/v1/devices?as_of={when}")
    assert (400, True) == (status, "yet to come" in told["detail"])


async def test_what_was_not_there_yet_is_told_as_of_then(api: Api) -> None:
    status, told = await api.ask("GET", "/v1/devices?as_of=1&node=n1")
    assert (404, True) == (status, told["detail"].startswith("as of 1: there is no node 'n1'"))
    assert 200 == (await api.ask("GET", "/v1/devices?as_of=now&node=n1"))[0]


async def test_variant_that_there_is_not_is_no_empty_list(api: Api) -> None:
    await api.ledger.decide(lambda _: ([VariantSet(Variant("H100", DeviceKind.GPU, "10de", "2330"))], None))
    status, told = await api.ask("GET", "/v1/devices?variant=H10")
    assert (404, True) == (status, "Did you mean 'H100'?" in told["detail"])
    assert 200 == (await api.ask("GET", "/v1/devices?variant=H100"))[0]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/devices/{}"),
        ("GET", "/v1/devices/{}/history"),
        ("POST", "/v1/devices/{}/clean"),
        ("POST", "/v1/devices/{}/attest"),
        ("POST", "/v1/devices/{}/retire"),
    ],
)
async def test_mistyped_device_gets_the_one_that_may_have_been_meant(api: Api, method: str, path: str) -> None:
    device = next(iter(api.ledger.peek().devices))
    body = {"clean": None, "attest": {"statement": "new"}, "retire": {"why": ""}}
    status, told = await api.ask(method, path.format(device[:-1]), body.get(path.rpartition("/")[2]))
    assert (404, f"there is no device {device[:-1]}. Did you mean '{device}'?") == (status, told["detail"])


@pytest.mark.parametrize("what", ["device", "node"])
async def test_who_begins_to_watch_what_there_is_not_is_told(api: Api, what: str) -> None:
    state = api.ledger.peek()
    name = next(iter(state.devices)) if what == "device" else next(iter(state.nodes.values())).name
    status, told = await api.ask("GET", f"/v1/watch?{what}={name}x")
    assert (404, True) == (status, f"Did you mean '{name}'" in told["detail"])


async def test_what_waits_on_a_node_that_there_is_not_is_refused_with_near_names(api: Api) -> None:
    name = next(iter(api.ledger.peek().nodes.values())).name
    status, told = await api.ask("GET", f"/v1/adoption?node={name}x")
    assert (404, True) == (status, f"Did you mean '{name}'" in told["detail"])
