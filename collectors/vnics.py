"""VNICs as a cloud's metadata service tells them, and how the functions of a node differ from them (R000-2, R000-3).

Source: docs.oracle.com, "Instance Metadata Service v2", `/opc/v2/vnics/`. Bare metal tells `nicIndex`, and each VNIC
but the first of a NIC has a VLAN of its own; a virtual machine tells no `nicIndex`, and its `vlanTag` is a number of
the cloud's own that no function shows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from schemas.errors import MusterError

PATH: Final = "/opc/v2/vnics/"
HOST: Final = "169.254.169.254"
"""The link-local address at which a node finds its metadata service."""
HEADERS: Final = {"Authorization": "Bearer Oracle"}
"""Without it the service refuses."""
TIMEOUT_SECONDS: Final = 1.0
MAX_BYTES: Final = 4 << 20


class VnicsError(MusterError):
    """The metadata service does not answer, or with what is no list of VNICs."""

    code = "vnics.failed"


class Vnic(msgspec.Struct, frozen=True, rename="camel"):
    """A VNIC, as far as its functions show it. Unknown fields of the service are skipped."""

    vnic_id: str
    mac_addr: str
    vlan_tag: Annotated[int, Meta(ge=0)]
    """The VLAN; 0 for none. Only with a `nic_index`."""
    nic_index: Annotated[int, Meta(ge=0)] | None = None
    """Which physical NIC it is on; absent in a virtual machine."""
    private_ip: str = ""


class Function(msgspec.Struct, frozen=True):
    """A function of the node, physical or virtual."""

    device: str
    """Its name in the documents."""
    nic: int
    """Which physical NIC it is, or is a part of."""
    mac: str
    vlan: int
    """0 for none."""
    virtual: bool = True


class Difference(Enum):
    """How functions can differ from what the metadata says."""

    MISSING = "missing"
    """A VNIC has no function."""
    WRONG_VLAN = "wrong-vlan"
    WRONG_MAC = "wrong-mac"
    WRONG_COUNT = "wrong-count"
    """A NIC has more or fewer virtual functions than VNICs with a VLAN."""
    UNEXPECTED = "unexpected"
    """A function has no VNIC."""


class Drift(msgspec.Struct, frozen=True):
    """One difference."""

    kind: Difference
    nic: int | None
    """The physical NIC that is concerned; None where the metadata tells none."""
    device: str
    """The function; "" when it is missing, or a whole NIC is meant."""
    vnic: str
    """Id of the VNIC; "" when there is none."""
    message: str
    """What is wrong, in words that do not repeat the function's name."""


class Match(msgspec.Struct, frozen=True):
    """What is so, and what should not be so."""

    vnic_of: dict[str, str]
    """By function, the id of its VNIC: of those that are right, and of those that are wrong but known."""
    drifts: list[Drift]


_decoder: Final = msgspec.json.Decoder(list[Vnic])


def fetch(host: str = HOST, port: int = 80, timeout: float = TIMEOUT_SECONDS) -> bytes:
    """Ask the metadata service, past any proxy, and give its answer. Raises VnicsError."""
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", PATH, headers=HEADERS)
        answer = connection.getresponse()
        data = answer.read(MAX_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise VnicsError(f"the metadata service at {host}:{port} does not answer: {error}") from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise VnicsError(f"the metadata service at {host}:{port} answers {answer.status} {answer.reason}")
    if len(data) > MAX_BYTES:
        raise VnicsError(f"the metadata service at {host}:{port} sends more than {MAX_BYTES} bytes")
    return data


def parse_vnics(data: bytes) -> list[Vnic]:
    """Read an answer; MAC addresses come out in lower case. Raises VnicsError."""
    try:
        found = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise VnicsError(f"the metadata service does not send a list of VNICs: {error}") from None
    return [msgspec.structs.replace(one, mac_addr=one.mac_addr.lower()) for one in found]


def compare(vnics: Iterable[Vnic], functions: Iterable[Function]) -> Match:
    """Match each VNIC with its function by NIC, MAC and VLAN, and tell what differs.

    What agrees in MAC alone, or in VLAN alone, is the same function gone wrong. In a virtual machine, where no VNIC
    tells its NIC, the MAC alone is compared.
    """
    left, free = list(vnics), {one.device: one for one in functions}
    told = any(vnic.nic_index is not None for vnic in left)
    drifts = list(_counts(left, free.values()))
    vnic_of: dict[str, str] = {}
    for kind, key_of_vnic, key_of_function in _RULES:
        index = {key: one for one in free.values() if (key := key_of_function(one)) is not None}
        rest = []
        for vnic in left:
            key = key_of_vnic(vnic)
            one = index.pop(key, None) if key is not None else None
            if one is None:
                rest.append(vnic)
                continue
            del free[one.device]
            vnic_of[one.device] = vnic.vnic_id
            if kind is not None:
                drifts.append(_wrong(kind, vnic, one))
        left = rest
    drifts += [_missing(vnic) for vnic in left]
    drifts += [_unexpected(one) for one in free.values() if told and one.virtual]
    return Match(vnic_of, sorted(drifts, key=lambda one: (one.nic is None, one.nic or 0, one.kind.value, one.message)))


_Key = tuple[object, ...] | None
_RULES: Final[tuple[tuple[Difference | None, Callable[[Vnic], _Key], Callable[[Function], _Key]], ...]] = (
    (None, lambda vnic: _placed(vnic, vnic.mac_addr, vnic.vlan_tag), lambda one: (one.nic, one.mac, one.vlan)),
    (None, lambda vnic: (vnic.mac_addr,) if vnic.nic_index is None else None, lambda one: (one.mac,)),
    (Difference.WRONG_VLAN, lambda vnic: _placed(vnic, vnic.mac_addr), lambda one: (one.nic, one.mac)),
    (
        Difference.WRONG_MAC,
        lambda vnic: _placed(vnic, vnic.vlan_tag) if vnic.vlan_tag else None,
        lambda one: (one.nic, one.vlan) if one.vlan else None,
    ),
)
"""In this order: what is wrong with those that agree, and in what they have to. None: nothing is wrong."""


def _placed(vnic: Vnic, *more: object) -> _Key:
    return None if vnic.nic_index is None else (vnic.nic_index, *more)


def _counts(vnics: Iterable[Vnic], functions: Iterable[Function]) -> Iterator[Drift]:
    """Yield the NICs that have more or fewer virtual functions than VNICs with a VLAN."""
    wanted = Counter(vnic.nic_index for vnic in vnics if vnic.vlan_tag and vnic.nic_index is not None)
    there = Counter(one.nic for one in functions if one.virtual)
    for nic in sorted(wanted):
        if wanted[nic] != there[nic]:
            message = f"{there[nic]} functions instead of {wanted[nic]}"
            yield Drift(Difference.WRONG_COUNT, nic, "", "", message)


def _wrong(kind: Difference, vnic: Vnic, one: Function) -> Drift:
    what = f"VLAN {one.vlan} instead of {vnic.vlan_tag}"
    if kind is Difference.WRONG_MAC:
        what = f"MAC {one.mac} instead of {vnic.mac_addr}"
    return Drift(kind, one.nic, one.device, vnic.vnic_id, what)


def _missing(vnic: Vnic) -> Drift:
    message = f"no function with MAC {vnic.mac_addr}" + (
        f" and VLAN {vnic.vlan_tag}" if vnic.nic_index is not None else ""
    )
    return Drift(Difference.MISSING, vnic.nic_index, "", vnic.vnic_id, message)


def _unexpected(one: Function) -> Drift:
    message = f"MAC {one.mac} with VLAN {one.vlan} is none of the VNICs"
    return Drift(Difference.UNEXPECTED, one.nic, one.device, "", message)
