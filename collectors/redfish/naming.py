"""What the parts that a BMC tells of are called: in rows, events and documents the same, as long as they are there.

A name is made of the BMC's and of where the part stands in its tree, which outlives restarts of either side. Which part
it is (serial number, UUID, MAC) stands in its document.
"""

from typing import Final

from collectors.redfish.resource import Resource, canonical
from schemas.device import DeviceKind

_SINGLE: Final = frozenset({"PowerSubsystem", "ThermalSubsystem", "Power", "Thermal"})
"""What stands on a path without an id of its own behind it."""
_PREFIX: Final = 3
"""Of `/redfish/v1/`: empty, `redfish`, `v1`."""
_MOST: Final = 160


def bmc_id(label: str) -> str:
    """Give the id of a BMC by the name that it goes by."""
    return f"bmc:{label}"


def part_id(kind: DeviceKind, label: str, path: str, member: str = "") -> str:
    """Give the id of a part of a machine: `psu:<BMC>/<chassis>/<PSU.Slot.1>`.

    `path`: of its resource. `member`: its `MemberId` where it is one of a list within that resource (Power, Thermal).
    """
    steps = [step for step in canonical(path).split("/")[_PREFIX:] if step not in _SINGLE]
    ids = [*steps[1::2], *([member] if member else [])]
    return f"{kind.value}:{label}/{'/'.join(ids)}"[:_MOST]


def entry_id(entry: Resource, at: int) -> str:
    """Give what a member of a list is called there: its `MemberId`, else where it stands, from 0."""
    said = entry.get("MemberId")
    return (said.strip()[:32] if isinstance(said, str) else "") or str(at)


def owner(path: str, folder: str) -> str:
    """Give the path of the resource in whose folder a path leads: `owner(".../Chassis/1/Sensors/a", "Sensors")`."""
    return f"{canonical(path)}/".partition(f"/{folder}/")[0]


def own_id(resource: Resource) -> str:
    """Give the last step of where a resource is; "" when it does not say."""
    return canonical(resource.get("@odata.id")).rpartition("/")[2]
