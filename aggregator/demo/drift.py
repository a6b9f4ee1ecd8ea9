"""Scenario 000: 2 physical and 256 virtual functions with VLANs, two drives, a function that goes missing.

Requirements: R000-1, R000-4, R000-5; of R000-3 the missing function.
"""

from typing import Any, Final

from aggregator.demo.narration import Narration
from aggregator.demo.stage import Stage

PORTS: Final = 2
FUNCTIONS: Final = 256
FIRST_VLAN: Final = 100
SECTORS: Final = 937_684_566
SECTOR_BYTES: Final = 4096
LOST: Final = 200
"""Which function goes away, counted over both ports."""


def play(stage: Stage, say: Narration) -> None:
    """Play it."""
    functions = _network(stage, say)
    _drives(stage, say)
    _drift(stage, say, functions)


def _network(stage: Stage, say: Narration) -> list[dict[str, Any]]:
    say.chapter("2 physical and 256 virtual functions")
    say.asked("Which network functions are there?")
    ports = stage.known("two ports", PORTS, kind="nic")
    functions = stage.known("256 functions", FUNCTIONS, kind="vf")
    for port in ports:
        family = [one for one in functions if one["parent"] == port["id"]]
        vlans = sorted(one["capabilities"]["vlan"] for one in family)
        macs = {one["capabilities"]["mac"] for one in family}
        name = f"{port['slot']['address']}  {port['capabilities']['interface']}"
        say.lines([f"{name}  {len(family)} functions, VLANs {vlans[0]} to {vlans[-1]}, {len(macs)} MACs"])
        wanted = list(range(FIRST_VLAN, FIRST_VLAN + FUNCTIONS // PORTS))
        say.expect(
            vlans == wanted and len(macs) == len(wanted), "128 functions with a VLAN and a MAC of their own each"
        )
    parents = {one["parent"] for one in functions}
    say.expect(parents == {port["id"] for port in ports}, "each has its parent: 2 + 256 in all")
    one = functions[0]["capabilities"]
    say.came(f"One may be used as {', '.join(one['usable_as'])}; what drives it now is {one['driver']}.")
    told = all(set(vf["capabilities"]["usable_as"]) == {"vfio", "vhost-user", "virtio-net"} and
               vf["capabilities"]["driver"] for vf in functions)  # fmt: skip
    say.expect(told, "of each it is told what it can be used as, and what drives it")
    return functions


def _drives(stage: Stage, say: Narration) -> None:
    say.chapter("Two drives")
    say.asked("How are the drives formatted?")
    spaces = [one["capabilities"] for one in stage.known("two name spaces", 2, kind="nvme-namespace")]
    for one in spaces:
        size = f"{one['sectors']:,} sectors of {one['sector_bytes']:,} bytes"
        say.lines([f"{one['block_device']}  {size}, LBA format {one['lba_format']} of {', '.join(one['lba_formats'])}"])
    say.expect([(one["sectors"], one["sector_bytes"]) for one in spaces] == [(SECTORS, SECTOR_BYTES)] * 2,
               "both have 937,684,566 sectors of 4,096 bytes")  # fmt: skip
    say.expect(all(one["lba_format"] in one["lba_formats"] for one in spaces), "and their LBA format is one they know")


def _drift(stage: Stage, say: Narration, functions: list[dict[str, Any]]) -> None:
    say.chapter("Drift")
    node = functions[0]["node_name"]
    say.tell("A virtual function goes away.")
    stage.fault("vf_missing", node, target=LOST)
    gone = stage.until("it to be missed", lambda: [one for one in stage.devices(kind="vf") if one["reach"] == "absent"])
    say.came(", ".join(f"{one['id']} at {one['slot']['address']}, VLAN {one['capabilities']['vlan']}, is {one['reach']}"
                       for one in gone) + ".")  # fmt: skip
    say.expect(len(gone) == 1, "255 of 256 are there, and the inventory names the one that is not")
    left = [FUNCTIONS // PORTS - 1, FUNCTIONS // PORTS]
    counts = stage.until("its port's word", lambda: _counts(stage) if _counts(stage) != [left[1]] * PORTS else None)
    say.expect(counts == left, "its port says so, too: it has 127 of 128")
    told = stage.until("an event of it", lambda: _events(stage, "sriov.vf.gone"))
    say.expect(len(told) == 1, "and it is one event: sriov.vf.gone")
    say.tell("It comes back.")
    stage.clear_fault("vf_missing", node)
    back = stage.known("all 256", FUNCTIONS, kind="vf")
    say.expect({one["id"] for one in back} == {one["id"] for one in functions}, "256 again, the same ones as before")


def _counts(stage: Stage) -> list[int]:
    """Give how many functions the ports say that they have, fewest first."""
    return sorted(one["capabilities"]["sriov_vfs"] for one in stage.devices(kind="nic"))


def _events(stage: Stage, kind: str) -> list[Any]:
    """Give the events of a type that are stored."""
    told = stage.get("/v1/query", measurement="event", fields="type")
    return [value for column in told["data"] for value in column if value == kind]
