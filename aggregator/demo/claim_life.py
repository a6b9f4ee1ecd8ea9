"""Scenario 004: GPU passthrough of a cloud, and the whole life of a claim. Requirements: R004-1 to R004-8, R004-10."""

from collections import Counter
from typing import Any, Final

from aggregator.demo.narration import DemoError, Narration
from aggregator.demo.stage import Stage

VARIANT: Final = "NVIDIA_V100"
PACKAGE: Final = "g1-gpu-16G"
SERVERS: Final = 16
GPUS: Final = 64
ASKED: Final = 80
"""More than there are GPUs."""
TENANT: Final = "cloud"
LOCATIONS: Final = {"CPU1 SLOT1", "CPU1 SLOT2", "CPU2 SLOT1", "CPU2 SLOT2"}
LIFE: Final = ["free", "reserved", "provisioning", "assigned", "dirty", "cleaning", "free"]
UNDONE: Final = ["free", "reserved", "provisioning", "dirty", "cleaning", "free"]
_GIB: Final = 1 << 30
_ANSWERS: Final = {201: "granted", 409: "refused"}


def play(stage: Stage, say: Narration) -> None:
    """Play it."""
    _servers(stage, say)
    _names(stage, say)
    claims = _sixty_four(stage, say)
    device = _destroyed(stage, say, claims[0])
    _undone(stage, say, device)


def _servers(stage: Stage, say: Narration) -> None:
    say.chapter("The servers")
    say.tell("Sixteen servers of four V100 each, bound to vfio-pci so that the host does not take them.")
    say.asked("Which GPUs are there, and where?")
    gpus = stage.known("64 GPUs", GPUS, kind="gpu")
    nodes = Counter(one["node_name"] for one in gpus)
    say.came(f"Those of {min(nodes)}, and so on:")
    for one in [gpu for gpu in gpus if gpu["node_name"] == min(nodes)]:
        told = one["capabilities"]
        place = f"{one['slot']['location']}  {one['slot']['address']}  {one['slot']['path']}"
        identity = f"{told['pci_vendor_id']}:{told['pci_device_id']} rev {one['part']['revision']}"
        say.lines([f"{place}  {identity}  {told['driver']}"])
    say.expect(len(nodes) == SERVERS and set(nodes.values()) == {4}, "64 GPUs, four in each of sixteen servers")
    places = {(one["node"], one["slot"]["location"]) for one in gpus}
    say.expect({place for _, place in places} == LOCATIONS and len(places) == GPUS,
               "each has its location, such as CPU2 SLOT2, and a path that survives reboots")  # fmt: skip


def _names(stage: Stage, say: Narration) -> None:
    say.chapter("Variants and packages")
    say.asked(f"Call 10de:1db4 rev a1 {VARIANT}, and make {PACKAGE} a package with one of them.")
    stage.put(f"/v1/variants/{VARIANT}", {"kind": "gpu", "vendor": "10de", "device": "1db4", "revision": "a1"})
    amounts = {"vcpus": 8, "memory_bytes": 16 * _GIB}
    stage.put(f"/v1/packages/{PACKAGE}", {"amounts": amounts, "devices": [{"variant": VARIANT, "count": 1}]})
    named = stage.devices(kind="gpu", variant=VARIANT)
    say.expect(len(named) == GPUS, f"all 64 go by {VARIANT}")
    say.asked("The operator vouches for them: new, from the factory.")
    say.expect(len(stage.vouch("new, from the factory", "gpu")) == GPUS, "64 GPUs are free")
    say.asked("A machine is asked for with a package and with a list of devices.")
    both = {"tenant": TENANT, "consumer": "vm-both", "package": PACKAGE, "needs": [{"variant": VARIANT}]}
    status, told = stage.try_post("/v1/place", both)
    say.came(str(told.get("detail", "granted")))
    say.expect(status == 400, "it is one or the other, never both")


def _sixty_four(stage: Stage, say: Narration) -> list[str]:
    say.chapter("64 parallel provisions")
    say.asked(f"{ASKED} machines are asked for, all at once; there are {GPUS} GPUs.")
    wanted = [("/v1/place", {"tenant": TENANT, "consumer": f"vm-{number:02}", "package": PACKAGE})
              for number in range(ASKED)]  # fmt: skip
    told = stage.at_once("POST", wanted)
    granted = [answer for status, answer in told if status == 201]
    statuses = Counter(status for status, _ in told)
    say.came(", ".join(f"{number} {_ANSWERS.get(status, status)}" for status, number in sorted(statuses.items())) + ".")
    say.expect(statuses == {201: GPUS, 409: ASKED - GPUS}, "64 are granted, 16 are refused")
    held = Counter(device["device"] for claim in granted for device in claim["devices"])
    say.expect(len(held) == GPUS and set(held.values()) == {1}, "no GPU went to two")
    claims = [claim["id"] for claim in granted]
    say.asked("All 64 are provisioned, at once.")
    stage.provision(claims)
    feed = stage.get("/v1/export/triton")
    states = Counter(device["state"] for server in feed["servers"] for device in server["assignable_devices"])
    say.came(", ".join(f"{number} {state}" for state, number in states.items()) + ".")
    say.expect(states == {"used": GPUS}, "all 64 are used, as assignable_devices of their servers say")
    each = {len(devices) for devices in feed["vms"].values()}
    say.expect(len(feed["vms"]) == GPUS and each == {1}, "and each of 64 machines has one in its assigned_devices")
    return claims


def _destroyed(stage: Stage, say: Narration, name: str) -> dict[str, Any]:
    say.chapter("A machine is destroyed")
    (held,) = stage.claim(name)["devices"]
    device = stage.device(held["device"])
    say.asked(f"The claim of {device['id']}, in {device['slot']['location']} of {device['node_name']}, is released.")
    stage.release(name)
    device = _free_again(stage, device["id"])
    life = stage.lifecycles(device["id"])
    say.came(" -> ".join(life))
    say.expect(life[-len(LIFE) :] == LIFE, "dirty first, then cleaned, and only then free")
    ground, proof = device["evidence"]["ground"], device["evidence"]["readback"]
    say.lines([
        f"reset seen: {'yes' if proof['reset_seen'] else 'no'}, processes on it: {proof['processes']}",
        f"memory check: {proof['memory_check']}, memory in use: {proof['memory_used_bytes']} bytes",
    ])  # fmt: skip
    whole = ground == "evidence" and proof["reset_seen"] and proof["memory_check"] == "passed"
    say.expect(whole, "with evidence: its reset was seen, its memory was checked")
    state, user = _assignable(stage, device)
    say.expect((state, user) == ("unassigned", None), "it is unassigned, and used by nobody")
    return device


def _undone(stage: Stage, say: Narration, device: dict[str, Any]) -> None:
    say.chapter("A provision that fails is undone")
    node = device["node_name"]
    say.tell(f"From now on the hook of {node} that makes devices ready fails.")
    stage.fault("prepare_fails", node)
    say.asked(f"{device['id']} is claimed by name, and provisioned.")
    claim = stage.post("/v1/claims", {"tenant": TENANT, "consumer": "vm-99", "devices": [{"device": device["id"]}]})
    before = len(stage.lifecycles(device["id"]))
    stage.post(f"/v1/claims/{claim['id']}/provision")
    over = stage.until("the claim to fail", lambda: _ended(stage, claim["id"]))
    say.came(f"The claim is {over['state']}: {over['reason']}.")
    say.expect(over["state"] == "failed", "the claim failed")
    words = [entry["kind"] for entry in stage.get(f"/v1/devices/{device['id']}/history")["entries"]]
    say.expect("undone" in words, "its node undid what it had begun, and said so")
    device = _free_again(stage, device["id"])
    life = stage.lifecycles(device["id"])
    say.came(" -> ".join(life[before - 2 :]))
    say.expect(life[-len(UNDONE) :] == UNDONE, "the GPU was never assigned, was cleaned, and is free")
    stage.clear_fault("prepare_fails", node)
    say.tell(f"The hook of {node} is mended.")
    claim = stage.post("/v1/claims", {"tenant": TENANT, "consumer": "vm-99", "devices": [{"device": device["id"]}]})
    stage.provision([claim["id"]])
    say.expect(_assignable(stage, device) == ("used", "vm-99"), "the next one gets it")


def _ended(stage: Stage, name: str) -> dict[str, Any] | None:
    claim = stage.claim(name)
    return claim if claim["state"] in ("failed", "released", "active") else None


def _free_again(stage: Stage, name: str) -> dict[str, Any]:
    def free() -> dict[str, Any] | None:
        device = stage.device(name)
        return device if device["lifecycle"] == "free" else None

    return stage.until(f"{name} to be free", free)


def _assignable(stage: Stage, device: dict[str, Any]) -> tuple[str, str | None]:
    """Give state and user of a device, in Triton's words."""
    feed = stage.get("/v1/export/triton", node=device["node"])
    for one in (one for server in feed["servers"] for one in server["assignable_devices"]):
        if one["muster_id"] == device["id"]:
            return one["state"], one["used_by"]
    raise DemoError(f"{device['id']} is not among the assignable devices")
