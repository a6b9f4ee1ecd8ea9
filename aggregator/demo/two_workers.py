"""Scenario 003: one machine, one GPU, two SR-IOV NICs, two workers. Requirements: R003-1 to R003-3."""

from typing import Any, Final

from aggregator.demo.narration import DemoError, Narration
from aggregator.demo.stage import Stage

TENANT: Final = "demo"
WORKERS: Final = ("worker-1", "worker-2")
PORTS: Final = 2
FUNCTIONS: Final = 8

_Devices = list[dict[str, Any]]


def play(stage: Stage, say: Narration) -> None:
    """Play it."""
    gpu, families = _machine(stage, say)
    claims = _created(stage, say, gpu, families)
    _used(stage, say, gpu, claims)
    _handed_over(stage, say, gpu, families, claims)


def _machine(stage: Stage, say: Narration) -> tuple[dict[str, Any], list[_Devices]]:
    say.chapter("The machine")
    say.asked("Which GPUs, ports and virtual functions are there?")
    (gpu,) = stage.known("the GPU", 1, kind="gpu")
    ports = stage.known("two SR-IOV ports", PORTS, kind="nic")
    functions = stage.known("their functions", FUNCTIONS, kind="vf")
    families = [[vf for vf in functions if vf["parent"] == port["id"]] for port in ports]
    say.lines([f"{gpu['id']}  GPU at {gpu['slot']['address']}, driver {gpu['capabilities']['driver']}"])
    for port, family in zip(ports, families, strict=True):
        say.lines([f"{port['id']}  port at {port['slot']['address']}, {len(family)} functions"])
    say.expect([len(family) for family in families] == [FUNCTIONS // PORTS] * PORTS,
               "one GPU, and two NICs of four virtual functions each")  # fmt: skip
    say.asked("The operator vouches for the GPU and the functions: nobody had them before.")
    say.expect(len(stage.vouch("new, from the factory", "gpu", "vf")) == 1 + FUNCTIONS, "nine devices are free")
    return gpu, families


def _claim(stage: Stage, worker: str, devices: _Devices) -> tuple[int, Any]:
    names = [{"device": one["id"]} for one in devices]
    return stage.try_post("/v1/claims", {"tenant": TENANT, "consumer": worker, "devices": names})


def _granted(stage: Stage, worker: str, devices: _Devices) -> str:
    status, told = _claim(stage, worker, devices)
    if status != 201:
        raise DemoError(f"{worker} was refused: {told.get('detail')}")
    name: str = told["id"]
    return name


def _created(stage: Stage, say: Narration, gpu: dict[str, Any], families: list[_Devices]) -> list[str]:
    say.chapter("Create: two workers")
    say.asked("Worker-1 asks for the GPU and the functions of the first NIC.")
    first = _granted(stage, WORKERS[0], [gpu, *families[0]])
    say.came(f"{first}: {1 + len(families[0])} devices.")
    say.asked("Worker-2 asks for the GPU and the functions of the second NIC.")
    status, told = _claim(stage, WORKERS[1], [gpu, *families[1]])
    say.came(str(told.get("detail", "granted")))
    objections = [(one["device"], one["reason"]) for one in told.get("objections", ())]
    say.expect((status, objections) == (409, [(gpu["id"], "lifecycle.reserved")]),
               "only one worker may use the GPU: refused, for the GPU alone")  # fmt: skip
    free = all(stage.device(one["id"])["lifecycle"] == "free" for one in families[1])
    say.expect(free, "all or nothing: the second NIC's functions are still free")
    say.asked("Worker-2 asks for the functions of the second NIC alone.")
    second = _granted(stage, WORKERS[1], families[1])
    say.came(f"{second}: {len(families[1])} devices.")
    stage.provision([first, second])
    held = [one for name in (first, second) for one in stage.claim(name)["devices"]]
    say.expect(all(one["confirmed"] for one in held), "the node made both ready, and confirmed every device")
    return [first, second]


def _used(stage: Stage, say: Narration, gpu: dict[str, Any], claims: list[str]) -> None:
    say.chapter("Run: who has what")
    for name in claims:
        claim = stage.claim(name)
        say.lines(f"{claim['consumer']}  {held['address']}  {held['lifecycle']}" for held in claim["devices"])
    users = [held["device"] for name in claims for held in stage.claim(name)["devices"]]
    say.expect(len(users) == len(set(users)) == 1 + FUNCTIONS, "nine devices, and none with both")
    mode = stage.device(gpu["id"])["mode"]
    say.expect(mode == "passthrough", "the GPU is passed through to worker-1, not shared by the host's driver")


def _handed_over(
    stage: Stage, say: Narration, gpu: dict[str, Any], families: list[_Devices], claims: list[str]
) -> None:
    say.chapter("Delete: the GPU changes hands")
    say.asked("Worker-1 is deleted.")
    stage.release(claims[0])
    stage.until("what it had to be clean", lambda: all(
        stage.device(one["id"])["lifecycle"] == "free" for one in [gpu, *families[0]]))  # fmt: skip
    say.came(" -> ".join(stage.lifecycles(gpu["id"])[-4:]))
    say.asked("Now worker-2 asks for the GPU.")
    stage.provision([_granted(stage, WORKERS[1], [gpu])])
    say.expect(stage.device(gpu["id"])["lifecycle"] == "assigned", "it gets it, cleaned of what worker-1 left there")
