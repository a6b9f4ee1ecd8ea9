"""Scenario 000: 2 physical and 256 virtual functions with VLANs, two drives, and what a restart makes of them.

Requirements: R000-1 to R000-5.
"""

import http.client
from typing import Any, Final

import msgspec

from aggregator.demo.narration import Narration
from aggregator.demo.needs import LOOPBACK
from aggregator.demo.stage import Stage
from collectors.vnics import HEADERS, HOST, PATH, Vnic, parse_vnics

PORTS: Final = 2
FUNCTIONS: Final = 256
FIRST_VLAN: Final = 100
SECTORS: Final = 937_684_566
SECTOR_BYTES: Final = 4096
OTHER_BYTES: Final = 512
WRONG: Final = {"vf_missing": 200, "vf_wrong_vlan": 17, "vf_wrong_mac": 141}
"""Faults, and to which function they happen, counted over both ports."""
WRONG_VLAN: Final = 4000

_Device = dict[str, Any]


def play(stage: Stage, say: Narration) -> None:
    """Play it."""
    ports, functions = _network(stage, say)
    _metadata(stage, say, ports, functions)
    spaces = _drives(stage, say)
    wrong = _restarted(stage, say, functions)
    _functions_drift(stage, say, wrong)
    _drive_drifts(stage, say, spaces)
    _mended(stage, say, functions)


def _network(stage: Stage, say: Narration) -> tuple[list[_Device], list[_Device]]:
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
    return ports, functions


def _metadata(stage: Stage, say: Narration, ports: list[_Device], functions: list[_Device]) -> None:
    say.chapter("What the cloud's metadata says")
    node = functions[0]["node_name"]
    say.tell(f"Nodes of the cloud ask http://{HOST}{PATH}; the simulated one has this service on loopback.")
    say.asked("Which VNICs does the node have? First without the service's header.")
    status = _without_header(stage.metadata_port(node))
    say.came(f"{status} {http.client.responses.get(status, '')}.")
    say.expect(status == http.client.FORBIDDEN, "without its header the service refuses")
    say.asked(f"Again, with {', '.join(f'{name}: {value}' for name, value in HEADERS.items())}.")
    vnics = parse_vnics(stage.vnics(node))
    for one in (vnics[0], vnics[PORTS], vnics[-1]):
        say.lines([f"NIC {one.nic_index}  VLAN {one.vlan_tag:<3}  {one.mac_addr}  {one.private_ip}"])
    say.lines(["and so on"])
    say.expect(len(vnics) == PORTS + FUNCTIONS, "258 VNICs: one for each function, physical and virtual")
    say.asked("And which function is which VNIC?")
    by_id = {one.vnic_id: one for one in vnics}
    matched = [one for one in (*ports, *functions) if _is(one["capabilities"], by_id)]
    say.expect(len(matched) == PORTS + FUNCTIONS, "each VNIC is matched with its function, by MAC and VLAN")
    say.expect(not _drifting(stage), "nothing differs from what the metadata says")


def _without_header(port: int) -> int:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5.0)
    try:
        connection.request("GET", PATH)
        return connection.getresponse().status
    finally:
        connection.close()


def _is(told: dict[str, Any], vnics: dict[str, Vnic]) -> bool:
    """Tell whether a function is the VNIC that the inventory says it is; a port has no VLAN."""
    vnic = vnics.get(told.get("vnic", ""))
    return vnic is not None and (vnic.mac_addr, vnic.vlan_tag) == (told["mac"], told.get("vlan", 0))


def _drifting(stage: Stage) -> list[_Device]:
    """Give the devices that are there and differ from what they should be, by kind and address."""
    found = [one for one in stage.devices() if one["capabilities"].get("drift") and one["reach"] == "live"]
    return sorted(found, key=lambda one: (str(one["kind"]), str(one["slot"].get("address", "")), str(one["id"])))


def _drives(stage: Stage, say: Narration) -> list[_Device]:
    say.chapter("Two drives")
    say.asked("How are the drives formatted?")
    spaces = stage.known("two name spaces", 2, kind="nvme-namespace")
    for told in (one["capabilities"] for one in spaces):
        size = f"{told['sectors']:,} sectors of {told['sector_bytes']:,} bytes"
        say.lines([f"{told['block_device']}  {size}",
                   f"  LBA format {told['lba_format']} of {', '.join(told['lba_formats'])}"])  # fmt: skip
    sizes = [(one["capabilities"]["sectors"], one["capabilities"]["sector_bytes"]) for one in spaces]
    say.expect(sizes == [(SECTORS, SECTOR_BYTES)] * 2, "both have 937,684,566 sectors of 4,096 bytes")
    known = all(one["capabilities"]["lba_format"] in one["capabilities"]["lba_formats"] for one in spaces)
    say.expect(known, "and their LBA format is one they know")
    return spaces


def _restarted(stage: Stage, say: Narration, functions: list[_Device]) -> dict[str, _Device]:
    """Boot the node; give the functions that something is wrong with, by fault."""
    say.chapter("After a restart")
    say.tell(
        "The node is restarted, and its functions are made anew. One is forgotten, one gets another VLAN, one"
        " another MAC; and a drive comes back with sectors of 512 bytes."
    )
    node = functions[0]["node_name"]
    wrong = {"nvme_reformatted": 1, **WRONG}
    stage.reboot(*(f'[[faults]]\nfault = "{fault}"\nnode = "{node}"\ntarget = {at}' for fault, at in wrong.items()))
    live = {one["id"]: one for one in stage.known("255 functions", FUNCTIONS - 1, kind="vf")}
    say.came(f"{len(live)} of {FUNCTIONS} functions are there.")
    missing = [one for one in functions if one["id"] not in live]
    gone = stage.device(missing[0]["id"])
    say.lines([f"{gone['id']} at {gone['slot']['address']}, VLAN {gone['capabilities']['vlan']}, is {gone['reach']}"])
    say.expect(
        len(missing) == 1 and gone["reach"] in ("absent", "unverified"), "the inventory names the one that is not"
    )
    return {"vf_missing": gone, **_changed(functions, live)}


def _changed(before: list[_Device], live: dict[str, _Device]) -> dict[str, _Device]:
    """Give the functions with another VLAN and with another MAC than before."""
    found = {}
    for one in before:
        now = live.get(one["id"])
        for word, fault in (("vlan", "vf_wrong_vlan"), ("mac", "vf_wrong_mac")):
            if now is not None and now["capabilities"][word] != one["capabilities"][word]:
                found[fault] = now
    return found


def _functions_drift(stage: Stage, say: Narration, wrong: dict[str, _Device]) -> None:
    say.chapter("Drift: the functions and the metadata")
    say.asked("What is not as it should be?")
    drifting = stage.until("the differences", lambda: _enough(stage))
    by_id = {one["id"]: one["capabilities"]["drift"] for one in drifting}
    for one in drifting:
        say.lines([f"{one['id']} ({one['kind']})", *(f"  {text}" for text in one["capabilities"]["drift"])])
    lost, vlan, mac = (wrong.get(fault) for fault in WRONG)
    said = by_id.get(vlan["id"], []) if vlan else []
    say.expect(len(said) == 1 and f"VLAN {WRONG_VLAN} instead of" in said[0], "the wrong VLAN is told of its function")
    said = by_id.get(mac["id"], []) if mac else []
    say.expect(len(said) == 1 and "MAC" in said[0], "and so is the wrong MAC")
    said = by_id.get(lost["parent"], []) if lost else []
    say.expect(len(said) == 2, "the port tells what is missing, and its wrong count: 127 instead of 128")
    kinds = stage.until("their events", lambda: _kinds(stage, "sriov.drift", 4))
    say.expect(kinds == ["missing", "wrong-count", "wrong-mac", "wrong-vlan"],
               "four events say the same: missing, wrong-count, wrong-mac, wrong-vlan")  # fmt: skip


def _enough(stage: Stage) -> list[_Device] | None:
    """Give the devices that drift, once they are all there: two functions, a port and a name space."""
    found = _drifting(stage)
    return found if len(found) == 4 else None


def _kinds(stage: Stage, event: str, count: int) -> list[str]:
    """Give the kinds of drift that events of a type tell, sorted, once there are so many; else []."""
    told = stage.get("/v1/query", measurement="event", fields="type,detail")
    names = [column["name"] for column in told["columns"]]
    types, details = (told["data"][names.index(name)] for name in ("type", "detail"))
    found = [_kind(detail) for name, detail in zip(types, details, strict=True) if name == event]
    return sorted(found) if len(found) >= count else []


def _kind(detail: object) -> str:
    words = msgspec.json.decode(detail) if isinstance(detail, str) else detail
    return str(words["kind"]) if isinstance(words, dict) else ""


def _drive_drifts(stage: Stage, say: Narration, before: list[_Device]) -> None:
    say.chapter("Drift: a drive that is formatted otherwise")
    spaces = [stage.device(one["id"]) for one in before]
    (other,) = [one for one in spaces if one["capabilities"]["sector_bytes"] != SECTOR_BYTES]
    told = other["capabilities"]
    say.came(f"{told['block_device']}: {told['sectors']:,} sectors of {told['sector_bytes']} bytes.")
    say.expect(told["sector_bytes"] == OTHER_BYTES and told["sectors"] * OTHER_BYTES == SECTORS * SECTOR_BYTES,
               "the same bytes, in sectors of another size and number")  # fmt: skip
    say.expect(told.get("drift") == ["LBA format 512+0 instead of 4096+0"], "the inventory says that this is drift")
    kinds = stage.until("its event", lambda: _kinds(stage, "nvme.drift", 1))
    say.expect(kinds == ["wrong-format"], "and an event: nvme.drift")


def _mended(stage: Stage, say: Narration, functions: list[_Device]) -> None:
    say.chapter("Mended")
    say.tell("The functions are made as the metadata says, and the drive is formatted anew.")
    node = functions[0]["node_name"]
    for fault in ("nvme_reformatted", *WRONG):
        stage.clear_fault(fault, node)
    back = stage.known("all 256", FUNCTIONS, kind="vf")
    say.expect({one["id"] for one in back} == {one["id"] for one in functions}, "256 again, the same ones as before")
    clean = stage.until("nothing to differ", lambda: not _drifting(stage))
    say.expect(clean, "nothing differs any more")
