"""The names of Muster's own expressions, the same wherever one is written.

`<measurement>.<field>` for rows, `device.`, `node.`, `claim.` for what the ledger keeps. `event` is a measurement like
any other, with its facts as a map.

The tables read what they are given by attribute: any object of the shape of the ledger's will do.
"""

from collections.abc import Mapping
from typing import Any, Final

from aggregator.expression.environment import Environment
from aggregator.expression.types import (
    BOOL,
    DOUBLE,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Field,
    Held,
    ListOf,
    MapOf,
    Record,
    Scalar,
)
from schemas.device import Part, Slot
from schemas.metrics import Catalogue, Unit, ValueType
from schemas.rows import EVENT

_TYPES: Final[dict[ValueType, Scalar]] = {
    ValueType.FLOAT: DOUBLE,
    ValueType.INT: INT,
    ValueType.BOOL: BOOL,
    ValueType.STR: STRING,
}


def _text(meaning: str, **more: Any) -> Field:
    return Field(STRING, meaning, blank_is_absent=True, **more)


def _word(name: str, meaning: str) -> Field:
    """Give the field of an enumeration: its word."""
    return Field(STRING, meaning, read=lambda held: getattr(held, name).value)


TAINT: Final = Record(
    "taint",
    {
        "rule": Field(STRING, "The rule that it is of."),
        "effect": _word("effect", "`NoSchedule` or `Drain`."),
        "evidence": _text("What was seen, for people."),
        "who": Field(STRING, "Who put it there."),
        "since": Field(TIMESTAMP, "Since when.", read=lambda held: held.since_ns),
        "expires": Field(TIMESTAMP, "When it ends by itself; absent: never.", read=lambda held: held.expires_ns),
    },
)
"""One taint."""
PART: Final = Record("part", {name: _text("As the device says it.") for name in Part.__struct_fields__})
"""What a device is, wherever it sits."""
SLOT: Final = Record(
    "slot",
    {
        "path": _text("Root port and bridges down to the device; it outlives a boot."),
        "location": _text("What is printed on the machine."),
        "address": _text("The PCI address of this boot, in normal form."),
    },
)
"""Where a device sits."""
assert {*SLOT.fields} == {*Slot.__struct_fields__}

DEVICE_FIELDS: Final[Mapping[str, Field]] = {
    "id": Field(STRING, "The device's id."),
    "node": Field(STRING, "The id of its node."),
    "kind": _word("kind", "`gpu`, `gpu-partition`, `nic`, `vf`, `nvme` ..."),
    "parent": _text("The id of the device that it is a part of; absent: it is no part."),
    "part": Field(PART),
    "slot": Field(SLOT),
    "capabilities": Field(MapOf(DYN), "What it can do, by name; a number's name ends in its base unit."),
    "lifecycle": _word("lifecycle", "`free`, `reserved`, `assigned`, `dirty`, `foreign` ..."),
    "reach": _word("reach", "`live`, `stale`, `absent` or `unverified`."),
    "taints": Field(
        ListOf(TAINT), "Why it should not be given away, or be left.", read=lambda held: [*held.taints.values()]
    ),
    "tenant": Field(STRING, "Who has it; absent: nobody.", read=lambda held: held.hold and held.hold.tenant),
    "claim": Field(STRING, "The claim that has it; absent: none.", read=lambda held: held.hold and held.hold.claim),
}
"""What can be asked of a device of the ledger."""
NODE_FIELDS: Final[Mapping[str, Field]] = {
    "id": Field(STRING, "The node's id."),
    "name": _text("The host name."),
    "boot": _text("The id of its boot."),
    "live": Field(BOOL, "Whether it speaks."),
    "cordoned": _text("Why nothing new goes there; absent: it may."),
    "draining": _text("Why what is there should leave; absent: it need not."),
    "taints": Field(ListOf(TAINT), "Of the whole node.", read=lambda held: [*held.taints.values()]),
    "labels": Field(
        MapOf(STRING), "What it says of itself: `vendor`, `model`, `part_number`; of a DPU: `host_node`, `host_device`."
    ),
    "totals": Field(MapOf(INT), "What there is of `vcpus`, `memory_bytes`, `disk_bytes`."),
    "used": Field(MapOf(INT), "What live claims hold of them."),
}
"""What can be asked of a node."""
CLAIM_FIELDS: Final[Mapping[str, Field]] = {
    "id": Field(STRING, "The claim's id."),
    "tenant": Field(STRING, "Whose it is."),
    "consumer": Field(STRING, "What it is for, in the tenant's own words."),
    "state": _word("state", "`reserved`, `provisioning`, `active`, `released` ..."),
    "package": _text("The package that it was made from."),
    "devices": Field(ListOf(STRING), "Ids of its devices.", read=lambda held: [one.device for one in held.devices]),
    "nodes": Field(ListOf(STRING), "Ids of its nodes.", read=lambda held: sorted({one.node for one in held.devices})),
    "created": Field(TIMESTAMP, "When it was granted.", read=lambda held: held.created_ns),
    "until": Field(TIMESTAMP, "When its lease runs out, by the wall clock.", read=lambda held: held.until_ns),
    "reason": _text("Why it is in this state, for people."),
}
"""What can be asked of a claim."""


def inventory_environment(more: Mapping[str, Mapping[str, Field]] | None = None) -> Environment:
    """Give `device`, `node` and `claim`. `more` adds fields, by root, or puts others in their place."""
    tables = {"device": DEVICE_FIELDS, "node": NODE_FIELDS, "claim": CLAIM_FIELDS}
    added = more or {}
    return Environment({root: Record(root, {**fields, **added.get(root, {})}) for root, fields in tables.items()})


def rows_environment(catalogue: Catalogue) -> Environment:
    """Give every measurement with its fields, its attributes and `time`; and of each row `device.id` and `node.id`.

    Source: the collectors' declarations. `event.detail` is a map.
    """
    roots = {name: _measurement(catalogue, name) for name in catalogue.measurements()}
    about = {
        "device": Record("device", {"id": _text("The device that the row speaks about.")}, Held.ITEMS),
        "node": Record("node", {"id": Field(STRING, "The node that the row speaks about.")}, Held.ITEMS),
    }
    return Environment(roots) | Environment(about)


def _measurement(catalogue: Catalogue, name: str) -> Record:
    fields = {
        field: Field(_TYPES[spec.type], spec.meaning, Unit.NONE if spec.unit is Unit.COUNT else spec.unit)
        for field, spec in catalogue.fields(name).items()
    }
    fields |= {attribute: _text("Tells rows of one device apart.") for attribute in catalogue.attributes(name)}
    fields["time"] = Field(TIMESTAMP, "When the row was read.")
    if name == EVENT:
        fields["detail"] = Field(MapOf(DYN), "The facts of the event, by name.")
    return Record(name, fields, Held.ITEMS)
