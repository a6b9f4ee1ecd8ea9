"""What drivers tell of a card as a whole over devlink: firmware, its switch, its ports, its health, its parameters.

A card goes by bus and address (`pci`, `0000:3b:00.0`); what belongs to which is told by that address and by the number
of the virtual function, never by order. Any user may ask, but for the switch, which only the administrator is told of.
Source: linux/devlink.h; net/devlink; Documentation/networking/devlink of Linux.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import msgspec

from collectors.sriov.genetlink import Fields, parse_messages
from collectors.sriov.kernel import Kernel
from collectors.sriov.netlink import NetlinkError
from schemas.rows import FieldValue

FAMILY: Final = "devlink"
DEVICES, PORTS, SWITCH, PARAMS, INFO, HEALTH = 1, 5, 29, 38, 51, 52
"""Commands: DEVLINK_CMD_GET, PORT_GET, ESWITCH_GET, PARAM_GET, INFO_GET, HEALTH_REPORTER_GET."""
PCI: Final = "pci"
_BUS, _DEVICE = 1, 2
_FLAVOURS: Final = ("physical", "cpu", "dsa", "pcipf", "pcivf", "virtual", "unused", "pcisf")
_MODES: Final = ("legacy", "switchdev")
_INLINE: Final = ("none", "link", "network", "transport")
_ENCAP: Final = ("none", "basic")
_CONFIGURED: Final = ("runtime", "driverinit", "permanent")
_U8, _U16, _U32, _U64, _STRING, _FLAG = 1, 2, 3, 4, 5, 6
"""Types of parameters, by the numbers that netlink gives types."""
_SIZES: Final = {_U8: "=B", _U16: "=H", _U32: "=I", _U64: "=Q"}

Handle = tuple[str, str]
"""Bus and address."""
Found = TypeVar("Found")


class Info(msgspec.Struct, frozen=True):
    """What the driver says of the card; "" and {} for what it does not."""

    driver: str = ""
    serial: str = ""
    board_serial: str = ""
    fixed: dict[str, str] = {}
    """What cannot be changed: `board.id`, `asic.rev`."""
    running: dict[str, str] = {}
    """Firmware that runs, by part: `fw`, `fw.mgmt`."""
    stored: dict[str, str] = {}
    """Firmware that runs after the next reset."""


class Switch(msgspec.Struct, frozen=True):
    """The switch in the card; "" for what the driver does not tell."""

    mode: str = ""
    """`legacy`, or `switchdev`: each virtual function has a representor."""
    inline_mode: str = ""
    encapsulation: str = ""


class CardPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port of that switch; None for what the kernel does not tell."""

    index: int
    flavour: str = ""
    """`physical`, `pcipf`, `pcivf`, `pcisf`, `virtual` ...; "" when the driver does not tell, or none that is known."""
    number: int | None = None
    """Which one on the outside of the card."""
    external: bool = False
    """Whether its function is another host's: that of the machine in which this DPU sits."""
    physical: int | None = None
    """Number of the physical function whose it is."""
    virtual: int | None = None
    """Number of the virtual function that it stands for."""
    interface: str = ""
    interface_index: int | None = None
    rdma: str = ""
    """Its RDMA device."""
    function_mac: str = ""
    """What its function was given; "" for none."""
    function_active: bool | None = None
    function_attached: bool | None = None
    """Whether a driver has the function, here or in a virtual machine."""


class Reporter(msgspec.Struct, frozen=True):
    """One watcher of the card's health: `fw`, `fw_fatal`, `tx`, `rx`; None for what the kernel does not tell."""

    name: str
    port: int | None = None
    """Index of the port that it is about; None for the whole card."""
    healthy: bool | None = None
    errors: int | None = None
    recoveries: int | None = None

    @property
    def words(self) -> str:
        """Give its name: `fw`, of a port `tx/65535`."""
        return self.name if self.port is None else f"{self.name}/{self.port}"


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """One devlink device."""

    info: Info = Info()
    switch: Switch = Switch()
    ports: tuple[CardPort, ...] = ()
    params: dict[str, dict[str, FieldValue]] = {}
    """By name and by when they take effect (`runtime`, `driverinit`, `permanent`)."""

    def port_of(self, virtual: int, physical: int) -> CardPort | None:
        """Give what stands for a virtual function of this machine; `physical`: its port's number on the card.

        None when nothing does. The number matters only where the card has ports of several physical functions.
        """
        own = [one for one in self.ports if one.flavour == "pcivf" and one.virtual == virtual and not one.external]
        several = len(own) > 1
        return next((one for one in own if not several or one.physical == physical), None)

    @property
    def uplink(self) -> CardPort | None:
        """Its way to the wire; None when it has none, or several."""
        found = [one for one in self.ports if one.flavour == "physical"]
        return found[0] if len(found) == 1 else None


def read_cards(kernel: Kernel) -> dict[Handle, Card]:
    """Ask for everything of every card but its health. Raises nothing: what cannot be had is left out."""
    handles = list(_asked(kernel, DEVICES, None, _handles))
    ports: dict[Handle, list[CardPort]] = {}
    params: dict[Handle, dict[str, dict[str, FieldValue]]] = {}
    if handles:
        for handle, port in _asked(kernel, PORTS, None, _ports):
            ports.setdefault(handle, []).append(port)
        for handle, name, values in _asked(kernel, PARAMS, None, _params):
            params.setdefault(handle, {})[name] = values
    return {
        handle: Card(
            info=next(iter(_asked(kernel, INFO, handle, _info)), Info()),
            switch=next(iter(_asked(kernel, SWITCH, handle, _switch)), Switch()),
            ports=tuple(ports.get(handle, ())),
            params=params.get(handle, {}),
        )
        for handle in handles
    }


def read_health(kernel: Kernel) -> dict[Handle, tuple[Reporter, ...]]:
    """Ask for the health of every card, which no driver has to be asked for. Raises nothing."""
    found: dict[Handle, list[Reporter]] = {}
    for handle, reporter in _asked(kernel, HEALTH, None, _reporters):
        found.setdefault(handle, []).append(reporter)
    return {handle: tuple(several) for handle, several in found.items()}


def _asked(
    kernel: Kernel, command: int, handle: Handle | None, read: Callable[[Fields], Iterator[Found]]
) -> list[Found]:
    try:
        answer = kernel.devlink(command, handle)
        return [one for _, fields in parse_messages(answer) for one in read(fields)]
    except (OSError, NetlinkError):
        return []


def _handle(fields: Fields) -> Handle:
    return fields.text(_BUS), fields.text(_DEVICE)


def _handles(fields: Fields) -> Iterator[Handle]:
    yield _handle(fields)


def _info(fields: Fields) -> Iterator[Info]:
    versions = [
        {one.text(103): one.text(104) for one in fields.nested(kind) if one.text(103)} for kind in (100, 101, 102)
    ]
    yield Info(fields.text(98), fields.text(99), fields.text(146), *versions)


def _switch(fields: Fields) -> Iterator[Switch]:
    words = ((25, _MODES), (26, _INLINE), (62, _ENCAP))
    yield Switch(*(_word(fields.number(kind), table) for kind, table in words))


def _ports(fields: Fields) -> Iterator[tuple[Handle, CardPort]]:
    index = fields.number(3)
    if index is None:
        return
    function = next(fields.nested(145), Fields(memoryview(b"")))
    active, attached = function.number(2), function.number(3)
    mac = bytes(function.content(1) or b"")
    yield (
        _handle(fields),
        CardPort(
            index=index,
            flavour=_word(fields.number(77), _FLAVOURS),
            number=fields.number(78),
            external=bool(fields.number(149)),
            physical=fields.number(127),
            virtual=fields.number(128),
            interface=fields.text(7),
            interface_index=fields.number(6),
            rdma=fields.text(8),
            function_mac=mac.hex(":") if any(mac) else "",
            function_active=None if active is None else bool(active),
            function_attached=None if attached is None else bool(attached),
        ),
    )


def _params(fields: Fields) -> Iterator[tuple[Handle, str, dict[str, FieldValue]]]:
    for param in fields.nested(80):
        kind = param.number(83)
        values = {}
        for every in param.nested(84):
            for one in every.nested(85):
                when = _word(one.number(87), _CONFIGURED)
                if when:
                    values[when] = _value(kind, one)
        if param.text(81):
            yield _handle(fields), param.text(81), values


def _value(kind: int | None, one: Fields) -> FieldValue:
    """Give a parameter's value; None for a type that is not known. A flag is true where it stands."""
    if kind == _FLAG:
        return 86 in one
    if kind == _STRING:
        return one.text(86)
    data, code = one.content(86), _SIZES.get(kind or 0)
    if data is None or code is None or len(data) != struct.calcsize(code):
        return None
    return int(struct.unpack(code, data)[0])


def _reporters(fields: Fields) -> Iterator[tuple[Handle, Reporter]]:
    for one in fields.nested(114):
        state = one.number(116)
        healthy = None if state is None else state == 0
        if one.text(115):
            yield _handle(fields), Reporter(one.text(115), fields.number(3), healthy, one.number(117), one.number(118))


def _word(number: int | None, table: tuple[str, ...]) -> str:
    return table[number] if number is not None and number < len(table) else ""
