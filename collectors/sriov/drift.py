"""How network functions differ from what they should be: by the cloud's metadata, and by their operator."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from collectors.sriov.netlink import VirtualFunction
from collectors.sriov.standing import METADATA, Drift, Standing
from collectors.sriov.survey import Survey
from collectors.sriov.sysfs import VirtualPort
from collectors.vnics import Function, Match, Vnic, VnicsError, compare, parse_vnics
from schemas.device import Document
from schemas.rows import Event, Severity


class Metadata:
    """The metadata service's last answer. It stands when the service is silent."""

    def __init__(self, fetch: Callable[[], bytes]) -> None:
        """Prepare. `fetch` asks the service; raises VnicsError."""
        self._fetch = fetch
        self.vnics: list[Vnic] | None = None
        self._lost = False

    def ask(self) -> Iterator[Event]:
        """Ask, and give the event when it stopped or began to answer."""
        try:
            self.vnics = parse_vnics(self._fetch())
        except VnicsError as error:
            if not self._lost:
                self._lost = True
                yield Event("sriov.metadata.lost", str(error), Severity.WARNING, "", {"reason": str(error)})
            return
        if self._lost:
            self._lost = False
            yield Event("sriov.metadata.back", "the metadata service answers again", Severity.NOTICE)


MacOf = Callable[[VirtualPort, VirtualFunction | None], str]
"""Gives the MAC address that a virtual function has; "" when nobody knows it."""


def match(vnics: list[Vnic], found: Survey, mac_of: MacOf) -> tuple[Match, dict[int, str]]:
    """Match VNICs with functions; gives the ports' names by the metadata's number of their NIC too.

    The number says nothing of the bus: a port is the NIC whose VNIC without VLAN has its MAC address, or else the NIC
    of a VNIC that has the address of one of its functions.
    """
    namer = found.namer()
    numbers = {vnic.mac_addr: vnic.nic_index for vnic in vnics if vnic.nic_index is not None}
    functions: list[Function] = []
    ports: dict[int, str] = {}
    for at, port in enumerate(found.ports):
        told = found.told(port)
        macs = {vf.address: mac_of(vf, told.get(vf.index)) for vf in port.vfs}
        own = found.mac(port)
        number = next((numbers[mac] for mac in (own, *macs.values()) if mac in numbers), -1 - at)
        ports.setdefault(number, namer.port(port))
        functions.append(Function(namer.port(port), number, own, 0, virtual=False))
        for vf in port.vfs:
            one = told.get(vf.index)
            vlan = (one.vlan or 0) if one else 0
            functions.append(Function(namer.vf(port, vf), number, macs[vf.address], vlan))
    return compare(vnics, functions), ports


def standing(matched: Match, ports: dict[int, str]) -> Iterator[Standing]:
    """Give what differs from the metadata. What is missing is told of its port, if that is known."""
    for one in matched.drifts:
        device = one.device or (ports.get(one.nic, "") if one.nic is not None else "")
        yield Standing(device, one.kind.value, one.vnic, one.message, METADATA)


def with_drift(documents: Iterable[Document], drift: Drift) -> Iterator[Document]:
    """Give documents with the words of their drift."""
    for document in documents:
        words = {name: value for name, value in drift.words(document.device).items() if value is not None}
        yield msgspec.structs.replace(document, capabilities=document.capabilities | words) if words else document
