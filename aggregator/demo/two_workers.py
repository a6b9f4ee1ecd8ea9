"""Scenario 003: one machine, one GPU, two SR-IOV NICs, two workers. Requirements: R003-1 to R003-3."""

from typing import Any, Final

from aggregator.demo.narration import DemoError, Narration
from aggregator.demo.stage import Stage

TENANT: Final = "demo"
WORKERS: Final = ("worker-1", "worker-2")
PORTS: Final = 2
FUNCTIONS: Final = 8

_Device = dict[str, Any]


def play(stage: Stage, say: Narration) -> None:
    """Play it."""
    gpu, ports, families = _machine(stage, say)
    claims = _created(stage, say, gpu, ports, families)
    _used(stage, say, gpu, claims)
    _handed_over(stage, say, gpu, ports[0], claims)


def _machine(stage: Stage, say: Narration) -> tuple[_Device, list[_Device], list[list[_Device]]]:
    say.chapter("The machine")
    say.asked("Which GPUs, NICs and virtual functions are there?")
    (gpu,) = stage.known("the GPU", 1, kind="gpu")
    ports = stage.known("two SR-IOV NICs", PORTS, kind="nic")
    functions = stage.known("their functions", FUNCTIONS, kind="vf")
    families = [[vf for vf in functions if vf["parent"] == port["id"]] for port in ports]
    say.lines([f"{gpu['id']}  GPU at {gpu['slot']['address']}, driver {gpu['capabilities']['driver']}"])
    for port, family in zip(ports, families, strict=True):
        say.lines([f"{port['id']}  NIC at {port['slot']['address']}, {len(family)} virtual functions"])
    say.expect([len(family) for family in families] == [FUNCTIONS // PORTS] * PORTS,
               "one GPU, and two NICs of four virtual functions each")  # fmt: skip
    say.asked("The operator vouches for all of them: nobody had them before.")
    names = stage.vouch("new, from the factory", "gpu", "nic", "vf")
    say.expect(len(names) == 1 + PORTS + FUNCTIONS, "eleven devices are free")
    return gpu, ports, families


def _claim(stage: Stage, worker: str, devices: list[_Device]) -> tuple[int, Any]:
    """Claim devices: the GPU and virtual functions are passed through, a whole NIC stays with the host's driver."""
    picks = [{"device": one["id"], "mode": "driver" if one["kind"] == "nic" else "passthrough"} for one in devices]
    return stage.try_post("/v1/claims", {"tenant": TENANT, "consumer": worker, "devices": picks})


def _granted(stage: Stage, worker: str, devices: list[_Device]) -> str:
    status, told = _claim(stage, worker, devices)
    if status != 201:
        raise DemoError(f"{worker} was refused: {told.get('detail')}")
    name: str = told["id"]
    return name


def _refused(stage: Stage, say: Narration, worker: str, devices: list[_Device]) -> tuple[int, list[tuple[str, str]]]:
    """Claim what cannot be had; give the status, and who is in the way for which reason."""
    status, told = _claim(stage, worker, devices)
    say.came(str(told.get("detail", "granted")))
    return status, [(one["device"], one["reason"]) for one in told.get("objections", ())]


def _created(
    stage: Stage, say: Narration, gpu: _Device, ports: list[_Device], families: list[list[_Device]]
) -> list[str]:
    say.chapter("Create: two workers")
    say.asked("Worker-1 asks for the GPU and the first NIC, whole.")
    first = _granted(stage, WORKERS[0], [gpu, ports[0]])
    say.came(f"{first}: 2 devices.")
    say.asked("Worker-2 asks for the GPU and the four functions of the second NIC.")
    told = _refused(stage, say, WORKERS[1], [gpu, *families[1]])
    say.expect(told == (409, [(gpu["id"], "lifecycle.reserved")]),
               "only one worker may use the GPU: refused, for the GPU alone")  # fmt: skip
    free = all(stage.device(one["id"])["lifecycle"] == "free" for one in families[1])
    say.expect(free, "all or nothing: the second NIC's functions are still free")
    say.asked("Worker-2 asks for the functions of the second NIC alone.")
    second = _granted(stage, WORKERS[1], families[1])
    say.came(f"{second}: {len(families[1])} devices.")
    say.asked("Could worker-2 have a function of the first NIC as well?")
    told = _refused(stage, say, WORKERS[1], families[0][:1])
    say.expect(told == (409, [(ports[0]["id"], "relation.excludes")]), "no: worker-1 has that NIC, with all in it")
    say.asked("Could worker-1 have the second NIC, whole?")
    status, objections = _refused(stage, say, WORKERS[0], ports[1:])
    in_the_way = {device for device, _ in objections}
    said = {reason for _, reason in objections}
    say.expect(status == 409 and said == {"relation.excludes"} and in_the_way <= {one["id"] for one in families[1]},
               "no: worker-2 has functions of it")  # fmt: skip
    stage.provision([first, second])
    held = [one for name in (first, second) for one in stage.claim(name)["devices"]]
    say.expect(all(one["confirmed"] for one in held), "the node made both ready, and confirmed every device")
    return [first, second]


def _used(stage: Stage, say: Narration, gpu: _Device, claims: list[str]) -> None:
    say.chapter("Run: who has what")
    for name in claims:
        claim = stage.claim(name)
        say.lines(f"{claim['consumer']}  {held['address']}  {held['mode']:<11}  {held['lifecycle']}"
                  for held in claim["devices"])  # fmt: skip
    users = [held["device"] for name in claims for held in stage.claim(name)["devices"]]
    say.expect(len(users) == len(set(users)) == 2 + FUNCTIONS // PORTS, "six devices, and none with both")
    now = stage.until("the GPU's driver", lambda: _driven_by(stage, gpu, "vfio-pci"))
    say.came(f"The GPU's driver is {now['capabilities']['driver']}, no longer {gpu['capabilities']['driver']}.")
    say.expect(now["mode"] == "passthrough", "the host's driver was taken off the GPU before worker-1 got it")


def _driven_by(stage: Stage, device: _Device, driver: str) -> _Device | None:
    found = stage.device(device["id"])
    return found if found["capabilities"]["driver"] == driver else None


def _handed_over(stage: Stage, say: Narration, gpu: _Device, port: _Device, claims: list[str]) -> None:
    say.chapter("Delete: what worker-1 had goes to worker-2")
    say.asked("Worker-1 is deleted.")
    stage.release(claims[0])
    stage.until("what it had to be clean", lambda: all(
        stage.device(one["id"])["lifecycle"] == "free" for one in (gpu, port)))  # fmt: skip
    say.came(" -> ".join(stage.lifecycles(gpu["id"])[-4:]))
    driver = gpu["capabilities"]["driver"]
    say.expect(stage.until("the host's driver", lambda: _driven_by(stage, gpu, driver)),
               f"the GPU is clean, and {driver} has it again")  # fmt: skip
    say.asked("Now worker-2 asks for the GPU and the first NIC.")
    stage.provision([_granted(stage, WORKERS[1], [gpu, port])])
    states = {stage.device(one["id"])["lifecycle"] for one in (gpu, port)}
    say.expect(states == {"assigned"}, "it gets both, cleaned of what worker-1 left there")
