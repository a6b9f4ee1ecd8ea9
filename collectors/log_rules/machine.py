"""Rules for processor, memory and the kernel itself: machine checks, EDAC, heat, memory that ran out, hangs, resets.

Source: Linux `arch/x86/kernel/cpu/mce/core.c`, `drivers/edac/edac_mc.c`, `mm/oom_kill.c`, `kernel/hung_task.c`,
`kernel/watchdog.c`, `kernel/rcu/tree_stall.h`, `drivers/acpi/apei/ghes.c` and `bert.c`, `arch/x86/kernel/cpu/amd.c`.
"""

from typing import Final

from collectors.log_rules.rule import Facts, Rule, Shaped
from schemas.events import EventSpec
from schemas.rows import Severity

_UNCORRECTED: Final = 1 << 61
_CONTEXT_CORRUPT: Final = 1 << 57


def _machine_check(facts: Facts) -> Shaped:
    """The bits of a bank's status: Intel SDM volume 3B, 17.3.2.2; AMD64 APM volume 2, 9.3.2."""
    status = int(str(facts["status"]), 16)
    corrected = not status & _UNCORRECTED
    facts["corrected"] = corrected
    facts["code"] = status & 0xFFFF
    severity = Severity.WARNING if corrected else Severity.ERROR
    if status & _CONTEXT_CORRUPT:
        severity = Severity.CRITICAL
    word = "Corrected" if corrected else "Uncorrected"
    return Shaped(f"{word} machine check of CPU {facts['cpu']}, bank {facts['bank']}: {facts['status']}", severity)


def _edac(facts: Facts) -> Shaped:
    corrected = facts.pop("kind") == "CE"
    facts["corrected"] = corrected
    word = "corrected" if corrected else "uncorrected"
    where = facts.get("label", f"memory controller {facts['controller']}")
    return Shaped(f"{facts.get('count', 1)} {word} memory errors of {where}",
                  Severity.WARNING if corrected else Severity.CRITICAL)  # fmt: skip


def _firmware(facts: Facts) -> Shaped:
    """Errors that the firmware saw first (APEI)."""
    severity = {"fatal": Severity.CRITICAL, "recoverable": Severity.ERROR}.get(str(facts["kind"]), Severity.WARNING)
    return Shaped(f"The firmware reported a {facts['kind']} hardware error", severity)


def _oom(facts: Facts) -> Shaped:
    for name in ("total", "anonymous", "file", "shared"):
        kilobytes = facts.pop(f"{name}_kb", None)
        if kilobytes is not None:
            facts[f"{name}_bytes"] = int(kilobytes) * 1024
    if "user" in facts:  # older kernels
        facts["user_id"] = facts.pop("user")
    group = facts.get("scope") == "Memory cgroup out of memory"
    facts["scope"] = "cgroup" if group else "machine"
    where = f" in {facts['cgroup']}" if group and "cgroup" in facts else ""
    return Shaped(f"Out of memory{where}: {facts.get('process', 'a process')} ({facts['process_id']}) was killed",
                  Severity.ERROR)  # fmt: skip


def _reset(facts: Facts) -> Shaped:
    reason = str(facts["reason"])
    bad = any(word in reason for word in ("error", "watchdog", "thermal", "flood", "failed", "timer expired"))
    return Shaped(f"The machine was reset before this boot: {reason}", Severity.ERROR if bad else Severity.NOTICE)


RULES: Final = (
    Rule(
        type="kernel.machine_check",
        begins=("mce: [Hardware Error]: CPU ", "[Hardware Error]: CPU "),
        pattern=(
            r"(?:mce: )?\[Hardware Error\]: CPU (?P<cpu>\d+): Machine Check(?: Exception)?: \w+ Bank (?P<bank>\d+): "
            r"(?P<status>[0-9a-f]{16})"
        ),
        numbers=frozenset(("cpu", "bank")),
        same=("cpu", "bank", "code"),
        shape=_machine_check,
    ),
    Rule(
        type="kernel.memory.error",
        begins=("EDAC ",),
        pattern=(r"EDAC \w*?(?P<controller>\d+): (?P<count>\d+) (?P<kind>CE|UE) (?P<text>.*?) on (?P<label>\S+)"),
        numbers=frozenset(("controller", "count")),
        same=("label", "corrected"),
        shape=_edac,
    ),
    Rule(
        type="kernel.memory.page_failed",
        severity=Severity.ERROR,
        begins=("Memory failure: ",),
        pattern=(r"Memory failure: (?P<page>0x[0-9a-f]+): recovery action for (?P<what>[^:]+): (?P<outcome>\w+)"),
        text="A page of memory is bad ({what}): {outcome}",
        same=("what", "outcome"),
    ),
    Rule(
        type="kernel.hardware_error",
        holds="[Hardware Error]: event severity: ",
        pattern=(r"\{\d+\}\[Hardware Error\]: event severity: (?P<kind>\w+)"),
        same=("kind",),
        shape=_firmware,
    ),
    Rule(
        type="kernel.throttled",
        severity=Severity.WARNING,
        begins=("CPU", "mce: CPU"),
        pattern=(r"(?:mce: )?CPU(?P<cpu>\d+): (?P<what>Core|Package) temperature (?:is )?above threshold"),
        numbers=frozenset(("cpu",)),
        text="CPU {cpu} is too hot and slowed down ({what})",
        same=("cpu", "what"),
    ),
    Rule(
        type="kernel.overheated",
        severity=Severity.CRITICAL,
        begins=("thermal thermal_zone",),
        pattern=(r"thermal (?P<zone>thermal_zone\d+): (?P<what>[^:]+): critical temperature reached"),
        text="{what} reached its critical temperature: the machine shuts down",
        same=("zone",),
    ),
    Rule(
        type="",
        holds=" invoked oom-killer: ",
        pattern=(r"(?P<invoked_by>.{1,64}?) invoked oom-killer: gfp_mask=0x[0-9a-f]+\S*, order=(?P<order>-?\d+)"),
        numbers=frozenset(("order",)),
        group="oom",
        by_device=False,
    ),
    Rule(
        type="",
        begins=("oom-kill:",),
        pattern=(
            r"oom-kill:constraint=(?P<constraint>\w+)(?:.*?,task_memcg=(?P<cgroup>[^,]*))?(?:.*?,task=(?P<task>.*?),pid=\d+)?"
        ),
        group="oom",
        by_device=False,
    ),
    Rule(
        type="kernel.oom_kill",
        begins=("Out of memory: Killed", "Memory cgroup out of memory: Killed", "Killed process "),
        pattern=(
            r"(?:(?P<scope>[\w ]+?): )?Killed process (?P<process_id>\d+),? "
            r"(?:UID (?P<user>\d+), )?\((?P<process>[^)]*)\),?"
            r"(?: total-vm:(?P<total_kb>\d+)kB)?(?:, anon-rss:(?P<anonymous_kb>\d+)kB)?"
            r"(?:, file-rss:(?P<file_kb>\d+)kB)?"
            r"(?:, shmem-rss:(?P<shared_kb>\d+)kB)?(?:, UID:(?P<user_id>\d+))?"
        ),
        numbers=frozenset(("process_id", "user", "user_id", "total_kb", "anonymous_kb", "file_kb", "shared_kb")),
        same=("process", "cgroup"),
        group="oom",
        by_device=False,
        shape=_oom,
    ),
    Rule(
        type="kernel.hung_task",
        begins=("INFO: task ",),
        pattern=(
            r"INFO: task (?P<process>.+?):(?P<process_id>\d+) .*?blocked .*?for more than (?P<seconds>\d+) seconds"
        ),
        numbers=frozenset(("process_id", "seconds")),
        text="{process} ({process_id}) has waited in the kernel for more than {seconds} s",
        same=("process_id",),
    ),
    Rule(
        type="kernel.lockup",
        severity=Severity.CRITICAL,
        begins=("watchdog: BUG: soft lockup", "BUG: soft lockup", "NMI watchdog: BUG: soft"),
        pattern=(
            r"(?:NMI )?(?:watchdog: )?BUG: (?P<kind>soft) lockup - CPU#(?P<cpu>\d+) stuck for (?P<seconds>\d+)s!"
            r"(?: \[(?P<process>.+):(?P<process_id>\d+)\])?"
        ),
        numbers=frozenset(("cpu", "seconds", "process_id")),
        text="CPU {cpu} has been stuck in the kernel for {seconds} s",
        same=("cpu", "kind"),
    ),
    Rule(
        type="kernel.lockup",
        severity=Severity.CRITICAL,
        begins=("NMI watchdog: ", "watchdog: "),
        pattern=(r"(?:NMI )?watchdog: (?:CPU\d+: )?Watchdog detected (?P<kind>hard) LOCKUP on cpu (?P<cpu>\d+)"),
        numbers=frozenset(("cpu",)),
        text="CPU {cpu} is stuck and takes no interrupts",
        same=("cpu", "kind"),
    ),
    Rule(
        type="kernel.lockup",
        severity=Severity.CRITICAL,
        begins=("rcu: INFO: rcu", "INFO: rcu"),
        pattern=(r"(?:rcu: )?INFO: (?P<flavour>rcu_\w+) (?:self-)?detected (?P<kind>stall)"),
        text="A CPU has been stuck in the kernel ({flavour})",
        same=("kind",),
    ),
    Rule(
        type="kernel.crash",
        severity=Severity.CRITICAL,
        begins=("BUG: ", "Oops: ", "general protection fault", "Kernel panic - not syncing", "kernel BUG at "),
        pattern=(r"(?P<reason>.{1,200})"),
        text="The kernel crashed: {reason}",
        same=("reason",),
    ),
    Rule(
        type="kernel.reset_cause",
        severity=Severity.NOTICE,
        begins=("x86/amd: Previous system reset reason",),
        pattern=(r"x86/amd: Previous system reset reason(?: \[(?P<register>0x[0-9a-f]+)\])?: (?P<reason>.{1,160})"),
        numbers=frozenset(("register",)),
        same=("reason",),
        shape=_reset,
    ),
    Rule(
        type="kernel.reset_cause",
        severity=Severity.ERROR,
        begins=("BERT: Error records from previous boot",),
        pattern=(r"BERT: (?P<reason>Error records from previous boot)"),
        text="The firmware kept a hardware error of the boot before",
        same=("reason",),
    ),
)


EVENTS: Final = (
    EventSpec(
        "kernel.machine_check",
        "A processor reported a hardware error (MCE).",
        (Severity.CRITICAL, Severity.ERROR, Severity.WARNING),
        ("cpu", "bank", "status", "code", "corrected"),
    ),
    EventSpec(
        "kernel.memory.error",
        "A memory controller reported errors of a module (EDAC).",
        (Severity.CRITICAL, Severity.WARNING),
        ("controller", "label", "count", "corrected", "text"),
    ),
    EventSpec(
        "kernel.memory.page_failed",
        "The kernel gave up a page of memory, or could not.",
        (Severity.ERROR,),
        ("page", "what", "outcome"),
    ),
    EventSpec(
        "kernel.hardware_error",
        "The firmware reported a hardware error (APEI).",
        (Severity.CRITICAL, Severity.ERROR, Severity.WARNING),
        ("kind",),
    ),
    EventSpec("kernel.throttled", "A processor is too hot and slowed down.", (Severity.WARNING,), ("cpu", "what")),
    EventSpec("kernel.overheated", "A part reached its critical temperature.", (Severity.CRITICAL,), ("zone", "what")),
    EventSpec(
        "kernel.oom_kill",
        "The kernel ran out of memory, or a control group did, and killed a process.",
        (Severity.ERROR,),
        ("process", "process_id", "user_id", "scope", "constraint", "cgroup", "task", "invoked_by", "order",
         "total_bytes", "anonymous_bytes", "file_bytes", "shared_bytes"),
    ),
    EventSpec(
        "kernel.hung_task",
        "A process waits in the kernel and does not come back.",
        (Severity.ERROR,),
        ("process", "process_id", "seconds"),
    ),
    EventSpec(
        "kernel.lockup",
        "A CPU is stuck in the kernel: `soft`, `hard`, or an RCU `stall`.",
        (Severity.CRITICAL,),
        ("kind", "cpu", "seconds", "process", "process_id", "flavour"),
    ),
    EventSpec("kernel.crash", "The kernel made a mistake, and may go on or not.", (Severity.CRITICAL,), ("reason",)),
    EventSpec(
        "kernel.reset_cause",
        "Why the machine was reset before this boot, as its hardware remembers.",
        (Severity.ERROR, Severity.NOTICE),
        ("reason", "register"),
    ),
)  # fmt: skip
