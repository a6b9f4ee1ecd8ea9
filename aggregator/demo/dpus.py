"""Scenario 001: DPUs whose capabilities come and go, and what of them is consumed.

Requirements: R001-1 to R001-5, R001-16 and R001-17.
"""

from typing import Any, Final

from aggregator.demo.narration import DemoError, Narration
from aggregator.demo.stage import Stage

GIB: Final = 1 << 30
DPUS: Final = 3
TENANT: Final = "storage"
SERVICE: Final = "encrypting-gateway"
SHARES: Final = {"vcpus": 2, "memory_bytes": 4 * GIB, "disk_bytes": 16 * GIB}
"""What one of the service takes."""
FITS: Final = 4
"""How many a DPU of 8 cores and 16 GiB has room for."""
IN_HARDWARE: Final = 'device.kind == "dpu" && "encryption=hardware" in device.capabilities.offloads'
PARTS: Final = ["atf", "bmc", "bsp", "nic", "uefi"]
CAUSES: Final = {
    "dpu_crash": "crash",
    "dpu_firmware_reset": "firmware",
    "dpu_pcie_error": "pcie-uncorrectable",
}
"""Faults that reset a DPU, and what it says of the cause afterwards."""

_Device = dict[str, Any]


def play(stage: Stage, say: Narration) -> None:
    """Play it."""
    dpus = _identity(stage, say)
    nodes = _linked(stage, say, dpus)
    _capabilities(say, dpus)
    chosen = next(one for one in dpus if one["part"]["model"].endswith("BlueField-3"))
    _come_and_go(stage, say, chosen)
    _service(stage, say, chosen, nodes[chosen["id"]])
    _resources(stage, say, chosen)
    _resets(stage, say, chosen)


def _identity(stage: Stage, say: Narration) -> list[_Device]:
    say.chapter("The DPUs")
    say.asked("Which DPUs are there, and what runs on them?")
    dpus = sorted(stage.known("three DPUs", DPUS, kind="dpu"), key=lambda one: str(one["node_name"]))
    for one in dpus:
        part = one["part"]
        say.lines([
            f"{one['node_name']}  {one['slot']['address']}  {part['model']}",
            f"  part {part['part_number']}, serial {part['serial']}",
            f"  {', '.join(one['capabilities']['firmware_versions'])}",
        ])  # fmt: skip
    told = all(one["part"][word] for one in dpus for word in ("vendor", "serial", "part_number", "firmware"))
    say.expect(told, "each tells vendor, serial number, part number and version")
    parts = [[version.partition("=")[0] for version in one["capabilities"]["firmware_versions"]] for one in dpus]
    say.expect(parts == [PARTS] * DPUS, "and the versions of its parts")
    return dpus


def _linked(stage: Stage, say: Narration, dpus: list[_Device]) -> dict[str, str]:
    """Give for each DPU the id of the node that it is."""
    say.chapter("A device of its host, and a node of its own")
    say.asked("Which nodes are DPUs, and where do they sit?")
    found = stage.until("the nodes that they are", lambda: _nodes_of(stage, dpus))
    for one in dpus:
        node = found[one["capabilities"]["dpu_node"]]
        say.lines([f"{node['node']['host_name']} is {one['id']} in {one['node_name']}"])
        say.lines([f"  managed at {one['capabilities']['management_endpoint']}"])
    back = [found[one["capabilities"]["dpu_node"]]["life"]["labels"] for one in dpus]
    say.expect([labels["host_node"] for labels in back] == [one["node"] for one in dpus],
               "each DPU names its node, and that node its host")  # fmt: skip
    numbers = [labels["part_number"] for labels in back]
    say.expect(numbers == [one["part"]["part_number"] for one in dpus], "and the node has the DPU's part number")
    return {one["id"]: one["capabilities"]["dpu_node"] for one in dpus}


def _nodes_of(stage: Stage, dpus: list[_Device]) -> dict[str, Any] | None:
    """Give the nodes that the DPUs are, by id, once all have told what they have."""
    nodes = {one["node"]["id"]: one for one in stage.get("/v1/nodes") if one["life"] and one["life"]["amounts"]}
    return nodes if {one["capabilities"]["dpu_node"] for one in dpus} <= nodes.keys() else None


def _capabilities(say: Narration, dpus: list[_Device]) -> None:
    say.chapter("What they can do")
    for one in (dpus[0], dpus[-1]):
        told = one["capabilities"]
        size = f"{told['cores']} cores, {told['memory_bytes'] // GIB} GiB, {told['storage_bytes'] / 1e9:.0f} GB"
        hardware = [one.partition("=")[0] for one in told["offloads"] if one.endswith("=hardware")]
        say.lines([
            f"{one['part']['model']}: {size}, {_rate(told['link_rate_bytes_per_second'])}",
            f"  in hardware:  {', '.join(hardware)}",
            f"  encrypts:     {', '.join(told['encryption_algorithms'])}",
            f"  compresses:   {', '.join(told.get('compression_algorithms', ['-']))}",
            f"  decompresses: {', '.join(told['decompression_algorithms'])}",
            f"  protocols:    {', '.join(told['protocols'])}",
        ])  # fmt: skip
    say.expect(all("encryption=hardware" in one["capabilities"]["offloads"] for one in dpus),
               "all three encrypt in hardware")  # fmt: skip
    compress = ["compression=hardware" in one["capabilities"]["offloads"] for one in dpus]
    say.expect(compress == [False, False, True], "one of them compresses, too: the models differ")


def _rate(amount: int) -> str:
    return f"{amount * 8 / 1e9:g} Gb/s"


def _come_and_go(stage: Stage, say: Narration, dpu: _Device) -> None:
    say.chapter("Capabilities come and go")
    say.asked("The operator vouches for the DPUs. Who encrypts in hardware?")
    stage.vouch("new, from the factory", "dpu")
    say.expect(_fit(stage, DPUS), "three can be had by who asks for it")
    before = dpu["capabilities"]
    known = dpu["changed"]
    say.tell(f"The encryption hardware of {dpu['id']} is switched off.")
    stage.fault("dpu_encryption_lost", dpu["node_name"])
    now = stage.until("the change", lambda: _with(stage, dpu, "encryption=software"))["capabilities"]
    rates = [told["encryption_rate_bytes_per_second"] for told in (before, now)]
    say.came(f"encryption=software: {_rate(rates[1])} instead of {_rate(rates[0])}.")
    say.expect(rates[1] < rates[0], "it still encrypts: in software, at a fraction of the rate")
    say.expect(_events(stage, "dpu.capability.", 2) == ["dpu.capability.added", "dpu.capability.removed"],
               "two events say so: one capability went, another came")  # fmt: skip
    say.expect(_fit(stage, DPUS - 1) and not _fit(stage, DPUS), "two are left for who asks for hardware")
    then = stage.get(f"/v1/devices/{dpu['id']}", as_of=known)["device"]["capabilities"]
    say.expect("encryption=hardware" in then["offloads"], "and the ledger still knows what it could do before")
    say.tell("A service that compresses is started on it.")
    stage.fault("dpu_service", dpu["node_name"])
    now = stage.until("the new one", lambda: _with(stage, dpu, "compression=software"))["capabilities"]
    say.came(f"{', '.join(now['offloads'])}.")
    say.expect(now["compression_algorithms"] == ["deflate"], "compression in software came, with its algorithm")
    say.tell("The service ends, and the hardware is switched on again.")
    stage.clear_fault("dpu_service", dpu["node_name"])
    stage.clear_fault("dpu_encryption_lost", dpu["node_name"])
    after = stage.until("what it was", lambda: _with(stage, dpu, "encryption=hardware"))["capabilities"]
    say.expect(after == before, "it can do what it could at first, and no more")


def _fit(stage: Stage, count: int) -> bool:
    """Tell whether so many servers' DPUs that encrypt in hardware could be given now; nothing is claimed."""
    need = {"where": IN_HARDWARE, "count": 1}
    told = stage.post("/v1/place", {"tenant": TENANT, "consumer": "asking", "needs": [need], "instances": count,
                                    "dry_run": True})  # fmt: skip
    return bool(told["placed"])


def _with(stage: Stage, dpu: _Device, offload: str) -> _Device | None:
    found = stage.device(dpu["id"])
    return found if offload in found["capabilities"]["offloads"] else None


def _events(stage: Stage, prefix: str, count: int) -> list[str]:
    """Wait for events of some types, and give their types, sorted."""

    def there() -> list[str]:
        told = stage.get("/v1/query", measurement="event", fields="type")
        found = [value for column in told["data"] for value in column if str(value).startswith(prefix)]
        return sorted(found) if len(found) >= count else []

    return stage.until(f"{count} events {prefix}*", there)


def _service(stage: Stage, say: Narration, dpu: _Device, node: str) -> None:
    say.chapter("Consumed and remaining: services on a DPU")
    number = dpu["part"]["part_number"]
    stage.put(f"/v1/packages/{SERVICE}", {"amounts": SHARES, "devices": []})
    say.asked(f"{SERVICE} takes 2 cores, 4 GiB and 16 GiB of storage, and runs on {number} alone. One, please, on any.")
    compatible = f'node.labels["part_number"] == "{number}"'
    claim = _place(stage, "gateway-1", compatible)
    (where,) = claim["amounts"]
    names = {one["node"]["id"]: one for one in stage.get("/v1/nodes")}
    say.came(f"{claim['id']} on {names[where]['node']['host_name']}.")
    say.expect(names[where]["life"]["labels"]["part_number"] == number, "it went to a DPU of that part number")
    say.asked("And as many as there is room for, on one that is chosen.")
    chosen = f'node.id == "{node}"'
    already = int(where == node)
    for turn in range(already, FITS):
        _place(stage, f"gateway-{turn + 2}", chosen)
    status, told = stage.place(tenant=TENANT, consumer="too-much", package=SERVICE, where=chosen)
    say.came(str(told.get("detail", "granted")))
    amounts = _amounts(stage, node)
    for name, one in amounts.items():
        used, limit, left = (f"{_size(name, one[word]):>7}" for word in ("used", "limit", "left"))
        say.lines([f"{name:<13} {used} of {limit} consumed, {left} remain"])
    sums = all(one["used"] + one["left"] == one["limit"] for one in amounts.values())
    held = {name: one["used"] for name, one in amounts.items()}
    wanted = {name: FITS * share for name, share in SHARES.items()}
    say.expect(sums and held == wanted, "consumed and remaining add up to what there is, for each resource")
    say.expect(status == 409 and amounts["vcpus"]["left"] == 0, f"the {FITS + 1}th is refused: no core remains")


def _place(stage: Stage, consumer: str, where: str) -> dict[str, Any]:
    status, told = stage.place(tenant=TENANT, consumer=consumer, package=SERVICE, where=where)
    if status != 201:
        raise DemoError(f"{consumer} was refused: {told.get('detail')}")
    found: dict[str, Any] = told
    return found


def _amounts(stage: Stage, node: str) -> dict[str, dict[str, int]]:
    (found,) = (one for one in stage.get("/v1/nodes") if one["node"]["id"] == node)
    amounts: dict[str, dict[str, int]] = found["life"]["amounts"]
    return amounts


def _size(name: str, amount: int) -> str:
    return f"{amount / GIB:.0f} GiB" if name.endswith("bytes") else str(amount)


def _resources(stage: Stage, say: Narration, dpu: _Device) -> None:
    say.chapter("Consumed and remaining: the card itself")
    say.asked("How many functions, flows and security associations are in use?")
    rows = {str(row[0]): (int(row[1]), int(row[2])) for row in _last(stage, dpu)}
    for name, (used, limit) in sorted(rows.items()):
        say.lines([f"{name:<22} {used:>9,} of {limit:>9,} consumed, {limit - used:>9,} remain"])
    say.expect(rows.keys() == {"vfs", "subfunctions", "flows", "security_associations"} and
               all(0 <= used <= limit for used, limit in rows.values()),
               "it tells of each how much is consumed and how much there is")  # fmt: skip
    told = dpu["capabilities"]
    say.expect((rows["flows"][1], rows["vfs"][1]) == (told["flows"], told["sriov_total_vfs"]),
               "and the inventory says the same of how much there is")  # fmt: skip


def _last(stage: Stage, dpu: _Device) -> list[list[Any]]:
    """Give resource, use and limit of each resource of a DPU, as told last."""

    def there() -> list[list[Any]]:
        told = stage.get("/v1/query", measurement="dpu_resource", fields="used,limit", last=True,
                         group="device,resource")  # fmt: skip
        names = [column["name"] for column in told["columns"]]
        at = [names.index(name) for name in ("device", "resource", "used", "limit")]
        rows = [[column[row] for column in (told["data"][index] for index in at)] for row in range(told["rows"])]
        serial = dpu["part"]["serial"]
        return [row[1:] for row in rows if serial in str(row[0])]

    return stage.until("what is consumed of it", there)


def _resets(stage: Stage, say: Narration, dpu: _Device) -> None:
    say.chapter("Resets, told apart")
    for fault, cause in CAUSES.items():
        stage.fault(fault, dpu["node_name"], duration_seconds=2.0)
        down = stage.until("it to be down", lambda: _booted(stage, dpu, up=False))
        up = stage.until("it to run again", lambda: _booted(stage, dpu, up=True))
        stages = f"{down['boot_progress']}, then {up['boot_progress']}"
        say.expect(up.get("reset_cause") == cause, f"{fault}: {stages}; the cause is {cause}")
    told = _events(stage, "dpu.down", len(CAUSES))
    say.expect(len(told) == len(CAUSES), "each was one event: dpu.down, with its cause")
    say.tell("Now it is reset, and does not boot.")
    stage.fault("dpu_boot_fails", dpu["node_name"])
    stuck = stage.until("it to be stuck", lambda: _booted(stage, dpu, up=False))
    say.came(f"It stands at {stuck['boot_progress']}: {stuck.get('boot_error')}.")
    say.expect(stuck.get("boot_error") and stuck["boot_progress"] != "OSRunning", "state and reason are known")
    stage.clear_fault("dpu_boot_fails", dpu["node_name"])
    up = stage.until("it to run again", lambda: _booted(stage, dpu, up=True))
    say.expect("boot_error" not in up, "it boots again, and nothing is wrong with it")


def _booted(stage: Stage, dpu: _Device, *, up: bool) -> dict[str, Any] | None:
    told: dict[str, Any] = stage.device(dpu["id"])["capabilities"]
    return told if (told["boot_progress"] == "OSRunning") is up else None
