"""Reads what libvirt and nova say of devices in use: domain XML, rows of `pci_devices`, servers.

What a file is shows in its content. Nothing of a file goes further than who has which PCI address where.

Source: libvirt.org/formatdomain.html, "Host device assignment", "Network interfaces", "Hard drives"; of nova
nova/db/main/models.py, `PciDevice` and `ComputeNode`.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import msgspec

from aggregator.cli.words import WordError
from schemas.device import pci_address

MAX_BYTES: Final = 64 << 20
_IN_USE: Final = frozenset({"claimed", "allocated", "unclaimable"})
"""States of nova's PCI devices in which an instance has them, or a neighbour that shares their fate."""
_PROLOGUE: Final = re.compile(r"<\?xml[^>]*\?>|<!--.*?-->", re.DOTALL)


class Record(msgspec.Struct):
    """What some files say together."""

    kind: str
    uses: list[dict[str, str]] = []
    """Each with `node`, `address` and `user`."""
    as_of_ns: int | None = None
    """When the oldest of the files was made."""


def read(paths: Iterable[Path], node: str = "") -> Record:
    """Give what files say, all of one scheduler. `node`: whose they are, where they do not say. Raises WordError."""
    domains: list[dict[str, str]] = []
    rows: list[Mapping[str, Any]] = []
    nodes: dict[str, str] = {}
    servers: dict[str, str] = {}
    oldest: int | None = None
    kinds: set[str] = set()
    for path in paths:
        status = path.stat()
        oldest = status.st_mtime_ns if oldest is None else min(oldest, status.st_mtime_ns)
        if status.st_size > MAX_BYTES:
            raise WordError(f"{path}: more than {MAX_BYTES >> 20} MiB")
        text = path.read_text(encoding="utf-8-sig", errors="replace").strip()
        if text.startswith("<"):
            kinds.add("libvirt")
            domains += libvirt(text, node, str(path))
            continue
        kinds.add("nova")
        for one in _rows(text, str(path)):
            if "address" in one and ("status" in one or "instance_uuid" in one):
                rows.append(one)
            elif "hypervisor_hostname" in one and ("id" in one):
                nodes[str(one["id"])] = str(one["hypervisor_hostname"])
            else:
                servers |= _server(one, str(path))
    if len(kinds) != 1:
        raise WordError("hand in files of libvirt or of nova, each by itself: they are records of their own")
    found = Record(kinds.pop(), domains, oldest)
    if found.kind == "nova":
        if not rows:
            raise WordError(
                "no rows of nova's table pci_devices: servers alone do not say which PCI addresses they have"
            )
        found.uses = list(_nova(rows, nodes, servers, node))
    return found


# --- libvirt ----------------------------------------------------------------------------------------------------------


def libvirt(text: str, node: str, place: str) -> list[dict[str, str]]:
    """Give the PCI devices of one domain, or of several after one another. Raises WordError."""
    if not node:
        raise WordError(f"{place}: a domain does not say on which node it is: add --node")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # nothing of libvirt's has one, and they can be bombs
        raise WordError(f"{place}: a document type has no place in a domain")
    try:
        root = ET.fromstring(f"<all>{_PROLOGUE.sub('', text)}</all>")  # noqa: S314  # no document type, see above
    except ET.ParseError as error:
        raise WordError(f"{place}: not the XML of a domain: {error}") from None
    domains = list(root.iter("domain"))
    if not domains:
        raise WordError(f"{place}: no <domain> in it: 'virsh dumpxml NAME' prints one")
    return [use for domain in domains for use in _domain(domain, node, place)]


def _domain(domain: ET.Element, node: str, place: str) -> Iterator[dict[str, str]]:
    name = domain.findtext("name") or domain.findtext("uuid") or "?"
    user = f"libvirt:{name}" if domain.get("id") else f"libvirt:{name} (not running)"
    for device in (*domain.iter("hostdev"), *domain.iter("interface"), *domain.iter("disk")):
        if device.tag == "hostdev" and device.get("type") != "pci":
            continue
        if device.tag == "interface" and device.get("type") != "hostdev":
            continue
        if device.tag == "disk" and device.get("type") != "nvme":
            continue
        address = device.find("source/address")
        if address is not None:
            yield {"node": node, "address": _address(address, place), "user": user}


def _address(told: ET.Element, place: str) -> str:
    try:
        fields = [int(told.get(name, "0"), 0) for name in ("domain", "bus", "slot", "function")]
        return pci_address(f"{fields[0]:04x}:{fields[1]:02x}:{fields[2]:02x}.{fields[3]:x}")
    except ValueError:
        raise WordError(f"{place}: {dict(told.attrib)} is no PCI address") from None


# --- nova -------------------------------------------------------------------------------------------------------------


def _rows(text: str, place: str) -> list[dict[str, Any]]:
    """Give the rows of JSON (a list, one object, or an object a line) or of CSV with a head."""
    if text[:1] in ("[", "{"):
        try:
            told = msgspec.json.decode(text)
        except msgspec.DecodeError:
            try:
                told = [msgspec.json.decode(line) for line in text.splitlines() if line.strip()]
            except msgspec.DecodeError as error:
                raise WordError(f"{place}: not JSON: {error}") from None
        found = told if isinstance(told, list) else [told]
    else:
        found = list(csv.DictReader(io.StringIO(text)))
    if not all(isinstance(one, dict) for one in found):
        raise WordError(f"{place}: rows are objects")
    return [{str(name).strip().lower(): value for name, value in one.items()} for one in found]


def _nova(
    rows: list[Mapping[str, Any]], nodes: dict[str, str], servers: dict[str, str], node: str
) -> Iterator[dict[str, str]]:
    hosts = {str(row.get("compute_node_id", "")) for row in rows}
    for row in rows:
        if str(row.get("deleted") or "0") not in ("0", "False", "false"):
            continue
        instance = _text(row, "instance_uuid")
        status = _text(row, "status").lower() or ("allocated" if instance else "")
        if status not in _IN_USE:
            continue
        where = _text(row, "hypervisor_hostname", "host", "node") or nodes.get(str(row.get("compute_node_id", "")), "")
        if not where and node and len(hosts) == 1:
            where = node
        if not where:
            raise WordError(
                f"{row['address']}: no row says on which node compute node {row.get('compute_node_id')} is: hand in the"
                " table compute_nodes too, join its hypervisor_hostname, or for one node add --node"
            )
        if node and where != node:
            continue
        name = servers.get(instance)
        user = f"nova:{name} ({instance})" if name else f"nova:{instance or status}"
        try:
            yield {"node": where, "address": pci_address(str(row["address"])), "user": user}
        except ValueError as error:
            raise WordError(str(error)) from None


def _text(row: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = row.get(name)
        if value not in (None, "", "NULL", r"\N", "None"):
            return str(value)
    return ""


def _server(told: Mapping[str, Any], place: str) -> dict[str, str]:
    """Give the name of an instance by its uuid, from `openstack server show|list -f json`."""
    id_, name = _text(told, "id"), _text(told, "name")
    if not id_ or not name:
        raise WordError(f"{place}: rows of neither pci_devices, nor compute_nodes, nor servers: {sorted(told)[:6]}")
    return {id_: name}
