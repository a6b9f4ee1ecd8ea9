"""Rules for network devices: links that come and go, and the health of NVIDIA's adapters and DPUs.

Source: Linux `drivers/net/ethernet/mellanox/mlx5/core/health.c`, `events.c`; drivers under `drivers/net/ethernet`.
"""

from typing import Final

from collectors.log_rules.rule import PCI, Facts, Rule, Shaped
from schemas.events import EventSpec
from schemas.rows import Severity

_MLX5: Final = rf"mlx5_core {PCI}: (?:\w+:\d+:\(pid \d+\): )?"
_LINK: Final = (
    rf"(?P<driver>\S+) {PCI}(?: (?P<interface>[\w.@-]+))?(?:: | )(?:\S+: )?(?:(?P<named>\S+) )?(?:NIC )?"
    r"[Ll]ink (?:is )?(?P<state>[Uu]p|[Dd]own)\b(?:[ ,-]*(?P<rate>\d+) ?(?P<unit>[MG])b(?:ps|it))?"
)


def _down(facts: Facts) -> Shaped | None:
    return _link(facts, up=False)


def _up(facts: Facts) -> Shaped | None:
    return _link(facts, up=True)


def _link(facts: Facts, *, up: bool) -> Shaped | None:
    named = facts.pop("named", None)
    if "interface" not in facts and named is not None:
        facts["interface"] = named
    unit, rate = facts.pop("unit", ""), facts.pop("rate", None)
    if rate is not None and up:
        facts["rate_bytes_per_second"] = int(rate) * (125_000_000 if unit == "G" else 125_000)
    if (str(facts.pop("state")).lower() == "up") != up:
        return None
    name = facts.get("interface", facts["address"])
    return Shaped(f"The link of {name} is up", Severity.NOTICE) if up else Shaped(
        f"The link of {name} is down", Severity.ERROR)  # fmt: skip


def _port_module(facts: Facts) -> Shaped:
    hot = "emperature" in str(facts["reason"])
    return Shaped(f"The module in port {facts['module']} of {facts['address']}: {facts['reason']}",
                  Severity.CRITICAL if hot else Severity.ERROR)  # fmt: skip


RULES: Final = (
    Rule(
        type="kernel.mlx5.health",
        severity=Severity.CRITICAL,
        begins=("mlx5_core ",),
        pattern=(
            _MLX5 + r"(?P<reason>device's health compromised - reached miss count|Fatal error (?P<error>\d+) detected"
            r"|FW is unable to respond|handling bad device here|PCI slot is unavailable|health recovery failed"
            r"|health recovery flow aborted[^\n]*|nic interface disabled|device is in invalid state)"
        ),
        numbers=frozenset(("error",)),
        text="The firmware of {address} is not well: {reason}",
        same=("reason",),
    ),
    Rule(
        type="kernel.mlx5.health",
        severity=Severity.CRITICAL,
        begins=("mlx5_core ",),
        pattern=(_MLX5 + r"(?:print_health_info.*?)?synd 0x(?P<syndrome>[0-9a-f]+): (?P<reason>.{1,120})"),
        text="The firmware of {address} is not well: {reason}",
        same=("reason",),
    ),
    Rule(
        type="kernel.mlx5.recovered",
        severity=Severity.NOTICE,
        begins=("mlx5_core ",),
        pattern=(_MLX5 + r"health recovery (?:succeeded|was successful)"),
        text="{address} was recovered",
    ),
    Rule(
        type="kernel.mlx5.power",
        severity=Severity.WARNING,
        begins=("mlx5_core ",),
        pattern=(_MLX5 + r"Detected insufficient power on the PCIe slot \((?P<watts>\d+)W\)"),
        numbers=frozenset(("watts",)),
        text="The slot of {address} offers {watts} W, less than it may need",
    ),
    Rule(
        type="kernel.mlx5.port_module",
        begins=("mlx5_core ",),
        pattern=(_MLX5 + r"Port module event(?:\[error\])?: module (?P<module>\d+), (?P<reason>Cable error[^\n]*)"),
        numbers=frozenset(("module",)),
        same=("module", "reason"),
        shape=_port_module,
    ),
    Rule(
        type="kernel.mlx5.command_failed",
        severity=Severity.WARNING,
        begins=("mlx5_core ",),
        pattern=(_MLX5 + r"(?P<command>[A-Z_]+)\(0x[0-9a-f]+\) (?:op_mod\(0x[0-9a-f]+\) )?(?P<reason>failed|timeout)"),
        text="The command {command} of {address}: {reason}",
        same=("command", "reason"),
    ),
    *(
        Rule(type=type_, holds=holds, pattern=_LINK, shape=shape, same=("interface",))
        for holds in ("ink is ", ": Link ")
        for type_, shape in (("kernel.link.down", _down), ("kernel.link.up", _up))
    ),
)

_LINK_FACTS: Final = ("address", "interface", "driver")
EVENTS: Final = (
    EventSpec(
        "kernel.mlx5.health",
        "The firmware of an adapter or DPU stopped, or reports an error of its own: it will be reset.",
        (Severity.CRITICAL,),
        ("address", "reason", "error", "syndrome"),
    ),
    EventSpec("kernel.mlx5.recovered", "An adapter or DPU was recovered.", (Severity.NOTICE,), ("address",)),
    EventSpec(
        "kernel.mlx5.power",
        "A slot does not offer the power that an adapter may need.",
        (Severity.WARNING,),
        ("address", "watts"),
    ),
    EventSpec(
        "kernel.mlx5.port_module",
        "Cable or transceiver of a port: broken, not supported, or too hot.",
        (Severity.CRITICAL, Severity.ERROR),
        ("address", "module", "reason"),
    ),
    EventSpec(
        "kernel.mlx5.command_failed",
        "An adapter's firmware refused a command of its driver, or did not answer it.",
        (Severity.WARNING,),
        ("address", "command", "reason"),
    ),
    EventSpec("kernel.link.down", "A network link went down.", (Severity.ERROR,), _LINK_FACTS),
    EventSpec("kernel.link.up", "A network link is up.", (Severity.NOTICE,), (*_LINK_FACTS, "rate_bytes_per_second")),
)
