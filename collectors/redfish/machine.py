"""Which of a BMC's systems is the machine, and which of its managers the BMC: a service may have several of each.

A baseboard of GPUs that has a BMC of its own shows itself as a system beside the host (HGX), with the UUID of one of
its GPUs as its own.
"""

from collections.abc import Mapping

import msgspec

from collectors._dmi import usable, usable_uuid
from collectors.redfish.resource import Resource, links, member, text, uri


class Machine(msgspec.Struct, frozen=True):
    """The machine that a BMC manages, and the BMC."""

    system: Resource = {}
    """{} when the BMC shows none."""
    manager: Resource = {}

    @property
    def uuid(self) -> str:
        """Its system UUID, lower case; "" when the BMC does not know, or shows a placeholder."""
        return usable_uuid(text(self.system, "UUID"))


def machine_of(found: Mapping[str, list[Resource]]) -> Machine:
    """Choose among resources that are sorted by schema."""
    parts = {usable_uuid(text(one, "UUID")) for one in found.get("Processor", ())} - {""}
    systems = [one for one in found.get("ComputerSystem", ()) if usable_uuid(text(one, "UUID")) not in parts]
    system = max(systems, key=_likely, default={})
    managers = found.get("Manager", ())
    return Machine(system, max(managers, key=lambda one: _manages(one, system), default={}))


def _likely(system: Resource) -> int:
    """Say how much a system looks like a whole machine: it has firmware, a number, and it boots."""
    return (
        8 * bool(usable(text(system, "BiosVersion")))
        + 4 * (text(system, "SystemType").lower() in ("", "physical"))
        + 2 * bool(usable(text(system, "SerialNumber")))
        + bool(member(system, "Boot"))
    )


def _manages(manager: Resource, system: Resource) -> int:
    inside = member(manager, "Links")
    path = uri(system)
    named = uri(manager) in links(member(system, "Links"), "ManagedBy")
    return (
        8 * (bool(path) and path in links(inside, "ManagerForServers"))
        + 4 * named
        + 2 * (text(manager, "ManagerType").lower() in ("bmc", "managementcontroller"))
        + bool(usable_uuid(text(manager, "UUID")))
    )
