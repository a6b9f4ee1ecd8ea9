"""This machine's own ports, beside what `ip` says of them in the same moment."""

import json
import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors.contract import Context
from collectors.sriov import SriovCollector
from collectors.sriov.sysfs import read_ports
from tests.collectors.sriov.help import described, rows
from tests.needs import unmet


@pytest.fixture
def collector() -> Iterator[SriovCollector]:
    """Give a started collector of this machine."""
    if not any(port.interface for port in read_ports(Path("/"))):
        pytest.skip("no network port on a PCI bus here")
    made = SriovCollector(SriovCollector.Config(), Context(subject="n", log=logging.getLogger("sriov")))
    made.start()
    yield made
    made.stop()


def _links() -> dict[str, Any]:
    ip = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if ip is None:
        unmet("needs ip, of iproute2")
    said = subprocess.run(
        [ip, "-j", "-s", "-d", "link", "show"], check=True, capture_output=True, text=True, timeout=30
    )
    return {one["ifname"]: one for one in json.loads(said.stdout)}


def test_ports_are_what_ip_says(collector: SriovCollector) -> None:
    before, counted, after = _links(), rows(collector), _links()
    for document in described(collector).values():
        words = document.capabilities
        if document.kind.value != "nic" or "interface" not in words:
            continue
        name = str(words["interface"])
        assert (after[name]["address"], after[name]["mtu"]) == (words["mac"], words["mtu_bytes"])
        row = counted["nic", document.device]
        assert len(after[name].get("vfinfo_list", [])) == row.get("vfs", 0)
        if "symbol_errors_total" in row:  # its driver counts at the wire, where all of its functions meet
            continue
        for ours, way in (("receive", "rx"), ("transmit", "tx")):
            for what in ("bytes", "packets"):
                count = row[f"{ours}_{what}_total"]
                assert isinstance(count, int)
                assert before[name]["stats64"][way][what] <= count <= after[name]["stats64"][way][what]
