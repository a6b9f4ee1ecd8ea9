"""nova's own parser takes what the feed makes, and means by a device_spec what the checker takes it to mean.

Requirement R002-3.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aggregator.feeds import nova, nova_conf
from aggregator.feeds.isolation import Policy
from aggregator.feeds.nova_conf import NovaConfError
from tests.aggregator.feeds.worlds import PORT, Server

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("nova")]
SPECS = (
    '{"vendor_id": "10de", "product_id": "1db4"}',
    '{"vendor_id": "10DE"}',
    '{"vendor_id": "10de", "address": "*:27:*.*"}',
    '{"address": "0000:c3:00.0"}',
    '{"address": ":c3:00."}',
    '{"address": "c3:00.0"}',
    '{"address": "*:*:*.*"}',
    '{"address": "*:*:00.*", "product_id": "*"}',
    '{"address": {"bus": "c[34]", "slot": "00", "function": "0"}}',
    '{"address": {"bus": "a"}}',
    '{"address": {"domain": ".*", "bus": "2[7-8]", "function": "[0-3]"}}',
    '[{"address": "0000:c3:00.0"}, {"address": "0000:c4:00.0"}]',
    f'{{"address": "{PORT}"}}',
    f'{{"address": "{PORT}", "product_id": "10ca"}}',
    '{"address": "*:61:*.*"}',
    '{"address": {"domain": "0000", "bus": "61", "slot": "00", "function": "0"}}',
)
"""Every way to write one, and what comes close to the edges."""
WRONG = (
    "tesla",
    '"27:00.0"',
    "[1]",
    '{"address": "27:00.0", "devname": "eth0"}',
    '{"address": "0:0:0:0.0"}',
    '{"address": "27:20.0"}',
    '{"address": "10000:27:00.0"}',
    '{"vendor_id": "nvidia"}',
    '{"vendor_id": "10000"}',
    '{"address": {"bus": "("}}',
)


Answer = dict[str, Any]


def made_server() -> Server:
    made = Server()
    made.port()
    return made


def question(server: Server, specs: list[str], alias: list[str]) -> dict[str, Any]:
    """Give what nova is to be asked of the server's devices."""
    devices = [
        {
            "vendor_id": device.get("pci_vendor_id"),
            "product_id": device.get("pci_device_id"),
            "address": device.slot.address,
            "parent_addr": server.state.devices[device.parent].slot.address if device.parent else None,
        }
        for device in server.state.devices_of("n1")
    ]
    return {"device_spec": specs, "alias": alias, "devices": devices, "physical_functions": [PORT]}


def values(feed: nova.NovaFeed) -> dict[str, list[str]]:
    """Give the options that the text of a feed sets."""
    found: dict[str, list[str]] = {"device_spec": [], "alias": []}
    for line in nova.nova_conf(feed).splitlines():
        name, sign, value = line.partition(" = ")
        if sign and name in found:
            found[name].append(value)
    return found


@pytest.fixture(scope="module")
def answers(nova_python: Path) -> dict[str, Answer]:
    """What nova says, by spec or policy: all asked at once, for it takes seconds to start."""
    server = made_server()
    asked = {spec: question(server, [spec], []) for spec in (*SPECS, *WRONG)}
    for policy in Policy:
        text = values(nova.feed(server.state, server.state.nodes.values(), policy))
        asked[policy.value] = question(server, text["device_spec"], text["alias"])
    done = subprocess.run(
        [nova_python, Path(__file__).with_name("nova_pci.py")],
        input=json.dumps(list(asked.values())),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == done.returncode, done.stderr[-2000:]
    return dict(zip(asked, json.loads(done.stdout), strict=True))


@pytest.fixture
def server() -> Server:
    """The server that nova is asked about."""
    return made_server()


def ours(server: Server, specs: list[str]) -> list[str]:
    """Give what the checker takes a configuration to mean."""
    read = nova_conf.read("[pci]\n" + "\n".join(f"device_spec = {spec}" for spec in specs))
    devices = server.state.devices_of("n1")
    return [one.slot.address for one in devices if any(spec.matches(server.state, one) for spec in read)]


@pytest.mark.parametrize("policy", list(Policy))
def test_nova_gives_away_what_the_feed_names_and_nothing_else(
    answers: dict[str, Answer], server: Server, policy: Policy
) -> None:
    made, answer = nova.feed(server.state, server.state.nodes.values(), policy), answers[policy.value]
    assert "" == answer["refused"]
    assert [spec.address for spec in made.nodes[0].device_spec] == sorted(answer["assigned"])
    by_name = {alias.name: alias for alias in made.alias}
    assert by_name.keys() == answer["aliases"].keys()
    for name, (_, (spec,)) in answer["aliases"].items():
        assert by_name[name].device_type == spec["dev_type"]
        assert by_name[name].vendor_id == spec.get("vendor_id", "")


@pytest.mark.parametrize("spec", SPECS)
def test_the_checker_means_what_nova_means(answers: dict[str, Answer], server: Server, spec: str) -> None:
    assert "" == answers[spec]["refused"]
    assert sorted(answers[spec]["assigned"]) == sorted(ours(server, [spec]))


@pytest.mark.parametrize("spec", WRONG)
def test_what_nova_refuses_the_checker_refuses(answers: dict[str, Answer], server: Server, spec: str) -> None:
    assert answers[spec]["refused"]
    with pytest.raises(NovaConfError):
        ours(server, [spec])
