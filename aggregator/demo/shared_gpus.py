"""Scenario 002: a GPU server that a CI service shares out. Requirements: R002-1 to R002-5."""

from typing import Any, Final

from aggregator.demo.narration import DemoError, Narration
from aggregator.demo.stage import Stage

GIB: Final = 1 << 30
VARIANT: Final = "tesla-v100"
GROUPS: Final = {
    19: ["27:00.0", "28:00.0"],
    32: ["44:00.0"],
    75: ["a3:00.0"],
    87: ["c3:00.0", "c4:00.0"],
}
FLAVORS: Final = {
    "gpu_tiny": (4, 2, 20, 1),
    "gpu_medium": (4, 8, 50, 1),
    "gpu_large": (4, 12, 60, 1),
    "gpu_xlarge": (8, 16, 60, 1),
    "gpu_2xlarge": (8, 32, 60, 1),
    "gpu_4xlarge": (8, 64, 60, 1),
    "ci_medium": (4, 8, 60, 0),
    "ci_large": (4, 12, 60, 0),
}
"""vCPUs, memory and disk in GiB, V100s."""
TENANTS: Final = {"amber": "gpu_tiny", "blue": "gpu_large", "coral": "gpu_xlarge", "denim": "gpu_4xlarge"}
LATE: Final = "ebony"
QUOTA: Final = 15
DRIVER_TELLS: Final = ("memory_bytes", "driver_version", "power_limit_watts")
"""What only NVIDIA's driver knows of a GPU."""
BY_HAND: Final = '[pci]\ndevice_spec = {"vendor_id": "10de", "product_id": "1db4"}\n'


def play(stage: Stage, say: Narration) -> None:
    """Play it."""
    _machine(stage, say)
    _catalog(stage, say)
    _nova(stage, say)
    _tenants(stage, say)
    _quota(stage, say)


def short(address: str) -> str:
    """Give an address without its domain, as people say it."""
    return address.removeprefix("0000:")


def _machine(stage: Stage, say: Narration) -> None:
    say.chapter("The machine")
    say.tell("One server with 48 cores, and six V100 that are bound to vfio-pci: NVIDIA's driver does not see them.")
    say.asked("Which GPUs are there?")
    gpus = stage.known("six GPUs", 6, kind="gpu")
    groups: dict[int, list[str]] = {}
    for one in sorted(gpus, key=lambda gpu: str(gpu["slot"]["address"])):
        told = one["capabilities"]
        groups.setdefault(told["iommu_group"], []).append(short(one["slot"]["address"]))
        identity = f"{told['pci_vendor_id']}:{told['pci_device_id']} rev {one['part']['revision']}"
        place = f"IOMMU group {told['iommu_group']}  {told['driver']}  {one['slot']['location']}"
        say.lines([f"{short(one['slot']['address'])}  {identity}  {place}  {one['lifecycle']}"])
    say.expect(groups == GROUPS, "six GPUs in four IOMMU groups: 19, 32, 75 and 87")
    ids = {(one["capabilities"]["pci_vendor_id"], one["capabilities"]["pci_device_id"], one["part"]["revision"])
           for one in gpus}  # fmt: skip
    say.expect(ids == {("10de", "1db4", "a1")}, "all are 10de:1db4 rev a1, told from PCI alone")
    blind = all(name not in one["capabilities"] for one in gpus for name in DRIVER_TELLS)
    say.expect(blind, "what only NVIDIA's driver could tell of them is absent, not zero")
    rows = stage.until("the node's telemetry", lambda: _rows(stage))
    say.expect(not rows.get("gpu"), f"and so is their telemetry: of {sum(rows.values())} rows none is of a GPU")


def _rows(stage: Stage) -> dict[str, int]:
    """Give how many rows there are of each measurement, once the node's drives are among them."""
    rows = {one["name"]: one["rows"] for one in stage.get("/v1/measurements")}
    return rows if rows.get("nvme") else {}


def _catalog(stage: Stage, say: Narration) -> None:
    say.chapter("What can be asked for")
    say.asked(f"Call 10de:1db4 {VARIANT}, and make the eight flavors packages of vCPUs, memory, disk and devices.")
    stage.put(f"/v1/variants/{VARIANT}", {"kind": "gpu", "vendor": "10de", "device": "1db4", "revision": "a1"})
    for name, (vcpus, memory, disk, gpus) in FLAVORS.items():
        amounts = {"vcpus": vcpus, "memory_bytes": memory * GIB, "disk_bytes": disk * GIB}
        devices = [{"variant": VARIANT, "count": gpus}] if gpus else []
        stage.put(f"/v1/packages/{name}", {"amounts": amounts, "devices": devices})
    packages = stage.get("/v1/packages")
    say.lines(f"{one['name']:<12} {_package(one)}" for one in packages)
    say.expect({one["name"] for one in packages} == set(FLAVORS), "the inventory lists eight flavors")
    say.asked(f"{LATE.capitalize()} asks for a gpu_tiny now.")
    status, told = stage.place(tenant=LATE, consumer="too-early", package="gpu_tiny")
    say.came(told.get("detail", "granted"))
    say.expect(status == 409, "nobody gets a device of which nobody knows whether it is clean")
    say.asked("The operator vouches for the GPUs: new, from the factory.")
    names = stage.vouch("new, from the factory", "gpu")
    say.expect(len(names) == 6, "six GPUs are free, each with the operator's word in the ledger")


def _package(package: dict[str, Any]) -> str:
    amounts = package["amounts"]
    sizes = f"{amounts['memory_bytes'] // GIB} GiB memory, {amounts['disk_bytes'] // GIB} GiB disk"
    gpus = "".join(f", {need['count']} {need['variant']}" for need in package["devices"])
    return f"{amounts['vcpus']} vCPU, {sizes}{gpus}"


def _nova(stage: Stage, say: Narration) -> None:
    say.chapter("OpenStack's configuration comes out of the inventory")
    say.asked("Give nova its device_spec and alias.")
    text = stage.text("/v1/export/nova?text=true")
    say.lines(text.splitlines())
    (node,) = stage.get("/v1/export/nova")["nodes"]
    listed = {short(one["address"]) for one in node["device_spec"]}
    say.expect(listed == {"a3:00.0", "c3:00.0", "27:00.0", "44:00.0"},
               "device_spec lists a3:00.0, c3:00.0, 27:00.0 and 44:00.0: one of each group")  # fmt: skip
    say.expect(f'"name": "{VARIANT}"' in text, f"the alias is {VARIANT}")
    say.asked("And what of a nova.conf that somebody wrote by hand, by vendor and product alone?")
    found = stage.post("/v1/export/nova/check", {"text": BY_HAND})["findings"]
    broken = [one for one in found if one["severity"] == "broken"]
    for one in broken:
        say.came(one["message"])
    say.expect(
        {one["group"] for one in broken} == {19, 87}, "it would break isolation in groups 19 and 87, and is found"
    )


def _tenants(stage: Stage, say: Narration) -> None:
    say.chapter("Exactly four tenants")
    held: dict[int, str] = {}
    claims = []
    for tenant, package in TENANTS.items():
        say.asked(f"{tenant.capitalize()} asks for a {package}.")
        status, told = stage.place(tenant=tenant, consumer=f"{tenant}-runner", package=package)
        if status != 201:
            raise DemoError(f"{tenant} was refused: {told.get('detail')}")
        claims.append(told["id"])
        (device,) = told["devices"]
        group = stage.device(device["device"])["capabilities"]["iommu_group"]
        say.came(f"{short(device['address'])}, of IOMMU group {group}.")
        say.expect(group not in held, f"group {group} is {tenant}'s alone")
        held[group] = tenant
    say.expect(set(held) == set(GROUPS), "four tenants have a GPU each, one of every group")
    say.asked(f"{LATE.capitalize()} asks for a gpu_tiny. Two GPUs are with nobody.")
    status, told = stage.place(tenant=LATE, consumer="ebony-runner", package="gpu_tiny")
    say.came(str(told.get("detail", "granted")))
    removed = {one["condition"]: one["removed"] for one in told.get("conditions", ())}
    say.expect(status == 409, "the fifth is refused")
    say.expect(removed.get("lifecycle.reserved") == 4 and removed.get("relation") == 2,
               "and told why: four are taken, two share a group with another tenant's")  # fmt: skip
    say.asked("The node makes the four ready.")
    stage.provision(claims)
    states = [one["lifecycle"] for one in stage.devices(kind="gpu")]
    say.came(", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) + ".")
    say.expect(
        states.count("assigned") == 4, "four GPUs are in their tenants' hands; the node confirmed part and group"
    )


def _quota(stage: Stage, say: Narration) -> None:
    say.chapter(f"A quota of {QUOTA} instances")
    say.asked(f"Nobody may have more than {QUOTA} instances, and vCPUs may be given four times.")
    stage.put("/v1/quotas/*", {"limits": {"claims": QUOTA}})
    stage.put("/v1/ratios/vcpus", {"ratio": 4.0})
    say.asked(f"{LATE.capitalize()} starts ci_medium instances, without GPUs, until it may not.")
    granted = 0
    told: dict[str, Any] = {}
    while granted <= QUOTA:
        status, told = stage.place(tenant=LATE, consumer=f"job-{granted + 1}", package="ci_medium")
        if status != 201:
            break
        granted += 1
    say.came(str(told.get("detail")))
    say.expect(granted == QUOTA, f"it has {granted} instances; the next is refused")
    words = {one["condition"] for one in told.get("conditions", ()) if one["condition"] != "matching"}
    say.expect(words == {"quota.claims"}, "by the quota, and by nothing else that would be short")
