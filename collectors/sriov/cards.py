"""Words of documents that drivers tell over devlink, and that RDMA links have."""

from collections.abc import Iterable

from collectors.sriov.devlink import Card, CardPort
from collectors.sriov.rdma import RdmaLink
from schemas.device import Value
from schemas.rows import FieldValue


def card_words(card: Card) -> dict[str, Value | None]:
    """Give what a function's driver says of its card; None for what it does not."""
    info, switch, uplink = card.info, card.switch, card.uplink
    return {
        "card_controller_serial": info.serial or None,
        "card_board_serial": info.board_serial or None,
        "card_versions": _pairs(info.fixed),
        "firmware_running": _pairs(info.running),
        "firmware_stored": _pairs(info.stored),
        "eswitch_mode": switch.mode or None,
        "eswitch_inline_mode": switch.inline_mode or None,
        "eswitch_encapsulation": switch.encapsulation or None,
        "port_flavour": (uplink.flavour or None) if uplink else None,
        "port_number": uplink.number if uplink else None,
        "driver_parameters": sorted(
            f"{name}.{when}={_word(value)}"
            for name, values in card.params.items()
            for when, value in values.items()
            if value is not None
        ),
    }


def function_words(port: CardPort | None) -> dict[str, Value | None]:
    """Give what the port that stands for a virtual function says of it; {} for none."""
    if port is None:
        return {}
    found: dict[str, Value | None] = {
        "port_flavour": port.flavour or None,
        "port_index": port.index,
        "function_mac": port.function_mac or None,
        "function_active": port.function_active,
        "function_attached": port.function_attached,
    }
    return found | ({"representor": port.interface} if port.interface else {})


def rdma_words(links: Iterable[RdmaLink]) -> dict[str, Value | None]:
    """Give what a function's RDMA links are."""
    found = list(links)
    return {
        "rdma_links": [f"{one.name}={one.layer}" if one.layer else one.name for one in found],
        "rdma_firmware_version": next((one.firmware for one in found if one.firmware.strip("0.")), None),
        "rdma_node_guid": next((one.node_guid for one in found if one.node_guid), None),
    }


def _pairs(versions: dict[str, str]) -> list[str]:
    return sorted(f"{name}={value}" for name, value in versions.items())


def _word(value: FieldValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
