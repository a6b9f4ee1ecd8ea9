"""Issue 5, checkpoint 4: network ports and virtual functions: read, compared with what should be, in store and ledger.

A port with functions is QEMU's igb (`tests/vm/test_sriov.py`); here it is this machine's own, whatever it is.
Requirements: R000-1 to 3, R000-5, R001-2.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from collectors.sriov.drivers import Trust
from collectors.sriov.netlink import parse_links
from collectors.sriov.sysfs import Port, read_ports
from collectors.vnics import HEADERS, PATH
from tests.acceptance.stage import Muster, check, main, say, stage, until

CASES: Final = Path(__file__).parents[1] / "cases/sriov"
CONFIG: Final = """
[agent]
only = ["pci", "sriov"]
describe_every_seconds = 2
[collectors.sriov]
interval_seconds = 0.5
metadata = "on"
metadata_address = "{address}"
metadata_every_seconds = 1
expectations = "{expectations}"
"""
EXPECTED: Final = """
[[expect]]
kind = "nic"
match = {{interface = "{interface}"}}
count = 1
must = {{mtu_bytes = {mtu}}}
"""


class Service:
    """A metadata service on this machine."""

    def __init__(self) -> None:
        self.vnics: list[dict[str, object]] = []

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve; gives the address."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                right = self.path == PATH and self.headers["Authorization"] == HEADERS["Authorization"]
                body = json.dumps(service.vnics).encode()
                self.send_response(200 if right else 403)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def script(folder: Path) -> None:
    """First a port with functions as it was recorded, then this machine's own."""
    recorded()
    real(folder)


def recorded() -> None:
    """The kernel's answer for QEMU's igb with three functions, set from outside."""
    (link,) = parse_links(bytes.fromhex((CASES / "igb/answer.hex").read_text()))
    vfs = link.vfs
    check([301, 302, 0] == [vf.vlan for vf in vfs], "recorded: three functions, with VLAN 301, 302 and none")
    check(vfs[0].mac == "02:00:00:00:0a:00" and vfs[0].vlan_qos == 3, "the first with its MAC address and priority")
    check(vfs[1].max_rate_mbps == 100 and vfs[1].spoof_check is False, "the second with its rate, without spoof check")
    check(vfs[2].trust is True, "the third is trusted")
    told = [vf.counters for vf in vfs]
    check(all(one is not None and one.zero for one in told), "the kernel answers zeros, for igb does not count")
    trust = Trust()
    check([None] * 3 == [trust.believed("igb", (str(vf.index), 1), vf.counters) for vf in vfs], "they are not believed")


def real(folder: Path) -> None:
    """Read this machine's ports, and let the metadata and the operator say otherwise for a while."""
    ports = [port for port in read_ports(Path("/")) if port.interface is not None]
    if not ports:
        say("this machine has no network port on a PCI bus: nothing to show on it")
        return
    port = ports[0]
    assert port.interface is not None
    sysfs = Path("/sys/class/net") / port.interface.name
    mac, mtu = (sysfs / "address").read_text().strip(), int((sysfs / "mtu").read_text())
    service, expectations = Service(), folder / "expected.toml"
    service.vnics = [{"vnicId": "vnic-one", "macAddr": mac.upper(), "vlanTag": 0}]
    expectations.write_text(EXPECTED.format(interface=port.interface.name, mtu=mtu))
    with service.serving() as address:
        config = CONFIG.format(address=address, expectations=expectations)
        with stage(folder / "up", config) as muster:
            muster.start("up", "--quiet")
            muster.ready()
            rows(muster, port, sysfs)
            device = described(muster, port, mac, mtu)
            drift(muster, service, expectations, device, port.interface.name, mtu)
            check(muster.balance(wait=20)["closed"], "the balance closes")


def rows(muster: Muster, port: Port, sysfs: Path) -> None:
    """The port's counters lie between two looks at what the kernel shows."""
    until("rows of the port", lambda: muster.rows("nic", "--limit", "5"))
    names = {"receive_bytes_total": "rx_bytes", "transmit_packets_total": "tx_packets"}
    before = {name: int((sysfs / "statistics" / file).read_text()) for name, file in names.items()}
    known = len(muster.rows("nic", "--limit", "5000"))
    told = until(
        "newer rows", lambda: found if len(found := muster.rows("nic", "--limit", "5000")) > known + 3 else None
    )
    after = {name: int((sysfs / "statistics" / file).read_text()) for name, file in names.items()}
    mine = [row for row in told if row["transmit_packets_total"] is not None]
    for name in names:
        newest = max(row[name] for row in mine)
        check(
            newest <= after[name],
            f"nic.{name} of {port.address} is not ahead of the kernel ({newest} <= {after[name]})",
        )
        check(newest >= before[name] or len(mine) > 1, f"nor behind ({before[name]} a moment before)")
    up = (sysfs / "carrier").read_text().strip() == "1"
    check({row["link_up"] for row in mine} == {up}, f"the carrier is {'there' if up else 'not there'}, as sysfs says")


def described(muster: Muster, port: Port, mac: str, mtu: int) -> str:
    """The port is one device in the ledger, of what the bus and the network say of it."""

    def find() -> dict[str, Any] | None:
        found = [one for one in muster.ask("devices", "--all") if one["slot"].get("address") == port.address]
        return found[0] if len(found) == 1 and {"mac", "pci_vendor_id"} <= found[0]["capabilities"].keys() else None

    device = until("the port in the ledger, once, of two sources", find, 60)
    words = device["capabilities"]
    check(
        (mac, mtu) == (words["mac"], words["mtu_bytes"]), f"{device['id']} has MAC address and size of packets of sysfs"
    )
    check("virtio-net" in words["usable_as"], f"a virtual machine can have it as {', '.join(words['usable_as'])}")
    check(bool(words.get("network_offloads")), f"and it does: {', '.join(words['network_offloads'])}")
    return str(device["id"])


def drift(muster: Muster, service: Service, expectations: Path, device: str, interface: str, mtu: int) -> None:
    """What differs is state of the device and an event; when it is over, it is gone, and told again."""

    def words() -> dict[str, Any]:
        (found,) = [one["capabilities"] for one in muster.ask("devices", "--all") if one["id"] == device]
        told: dict[str, Any] = found
        return told

    until("its VNIC", lambda: words().get("vnic") == "vnic-one", 60)
    check("drift" not in words(), "it is the VNIC of its MAC address, and nothing differs")
    expectations.write_text(EXPECTED.format(interface=interface, mtu=mtu + 1))
    said = until("drift from the operator's file", lambda: words().get("drift"), 60)
    check(said == [f"mtu_bytes {mtu} instead of {mtu + 1}"], f"the operator expects otherwise: {said[0]}")
    service.vnics.append({"vnicId": "vnic-two", "macAddr": "02:00:00:00:00:99", "vlanTag": 0})
    until("drift from the metadata", lambda: "missing" in kinds(muster, "sriov.drift"), 60)
    check(True, "a VNIC that has no function is told as missing")
    service.vnics.pop()
    expectations.write_text(EXPECTED.format(interface=interface, mtu=mtu))
    until("the end of both", lambda: {"missing", "wrong-mtu_bytes"} <= kinds(muster, "sriov.drift_over"), 60)
    until("its document", lambda: "drift" not in words(), 60)
    check(True, "when it is over that is told, and the device says nothing of it any more")


def kinds(muster: Muster, kind: str) -> set[str]:
    """Give what kinds of drift were told."""
    found = [row for row in muster.rows("event", "--limit", "1000") if row["type"] == kind]
    return {json.loads(row["detail"])["kind"] for row in found}


if __name__ == "__main__":
    sys.exit(main(script))
