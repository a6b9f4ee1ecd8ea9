"""The events of the collector `nvml`, and how they are made."""

from typing import Final

from collectors.nvml.gpus import Gpu, Identity
from collectors.xids import GPU_EVENTS, xid
from schemas.events import EventSpec
from schemas.rows import Event, FieldValue, Severity

_CRITICAL, _ERROR, _WARNING, _NOTICE = Severity.CRITICAL, Severity.ERROR, Severity.WARNING, Severity.NOTICE
_WHO: Final = ("address", "uuid")
_WHOLE: Final = 0xFFFFFFFF
"""The instance's number when an event is about the whole GPU."""

EVENTS: Final = (
    *GPU_EVENTS,
    EventSpec("nvml.gpu.back", "A GPU that was lost, or needed a reset, answers again.", (_NOTICE,), _WHO),
    EventSpec("nvml.gpu.hung", "Asking a GPU hung; it is left alone for a while.", (_CRITICAL,),
              (*_WHO, "times", "seconds")),
    EventSpec("nvml.gpu.new", "The driver has a GPU that it had not before.", (_NOTICE,), _WHO),
    EventSpec("nvml.gpu.gone", "The driver has a GPU no more: taken out, or bound to another driver.", (_WARNING,),
              _WHO),
    EventSpec("nvml.gpu.recovery_action", "What the driver says that a GPU needs has changed.", (_CRITICAL, _NOTICE),
              (*_WHO, "action", "action_before")),
    EventSpec("nvml.gpu.unavailable", "The driver says that a GPU cannot be used.", (_CRITICAL,), _WHO),
    EventSpec("nvml.gpu.taken", "A program began to use a GPU that nobody used.", (_NOTICE,), (*_WHO, "processes")),
    EventSpec("nvml.gpu.left", "Nobody uses a GPU any more.", (_NOTICE,), _WHO),
    EventSpec("nvml.ecc.uncorrected", "Memory errors that ECC could not correct.", (_ERROR,), (*_WHO, "count")),
    EventSpec("nvml.ecc.storm", "Corrected memory errors come faster than the driver tells them.", (_WARNING,), _WHO),
    EventSpec("nvml.memory.retired", "The driver gave up a part of the memory.", (_WARNING,), _WHO),
    EventSpec("nvml.memory.retirement_failed", "The driver could not give up a bad part of the memory.", (_CRITICAL,),
              _WHO),
    EventSpec("nvml.memory.poisoned", "Bad memory was read; what read it may be stopped.", (_CRITICAL, _ERROR),
              (*_WHO, "fatal")),
    EventSpec("nvml.row_remap.pending", "A memory row waits for a reset to be replaced.", (_WARNING,), _WHO),
    EventSpec("nvml.row_remap.done", "A memory row was replaced by a spare.", (_NOTICE,), _WHO),
    EventSpec("nvml.row_remap.failed", "A memory row could not be replaced: the GPU must be exchanged.", (_CRITICAL,),
              _WHO),
    EventSpec("nvml.nvlink.down", "An NVLink went down.", (_ERROR,), (*_WHO, "link")),
    EventSpec("nvml.nvlink.up", "An NVLink is up again.", (_NOTICE,), (*_WHO, "link")),
    EventSpec("nvml.fabric.changed", "A GPU's registration with the NVLink fabric changed.", (_WARNING, _NOTICE),
              (*_WHO, "state", "state_before", "health_mask")),
    EventSpec("nvml.power_limit.changed", "Somebody set another power limit.", (_NOTICE,),
              (*_WHO, "watts", "watts_before")),
    EventSpec("nvml.mig.changed", "A GPU's partitions changed.", (_NOTICE,), (*_WHO, "partitions")),
    EventSpec("nvml.driver.gone", "The driver was unloaded, or reloaded, under the collector.", (_WARNING,),
              ("reason",)),
    EventSpec("nvml.driver.loaded", "The driver is there again, or another one; counters start from 0.", (_NOTICE,),
              ("version", "version_before")),
)  # fmt: skip


def event(
    type_: str, about: Gpu | Identity, text: str, severity: Severity, detail: dict[str, FieldValue] | None = None
) -> Event:
    """Make an event of a GPU: `text` goes on after its name."""
    identity = about.identity if isinstance(about, Gpu) else about
    facts: dict[str, FieldValue] = {"address": identity.address, "uuid": identity.uuid, **(detail or {})}
    message = f"{identity.uuid} at {identity.address or 'an unknown place'} {text}"
    return Event(type_, message, severity, identity.device, facts)


def xid_event(gpu: Gpu, code: int, gpu_instance: int, compute_instance: int) -> Event:
    """Make the event of an Xid."""
    known = xid(code)
    detail: dict[str, FieldValue] = {"xid": code, "cause": known.cause.value, "address": gpu.identity.address}
    detail["uuid"] = gpu.identity.uuid
    where = ""
    if gpu_instance != _WHOLE:
        detail["gpu_instance"] = gpu_instance
        where = f", GPU instance {gpu_instance}"
    if compute_instance != _WHOLE:
        detail["compute_instance"] = compute_instance
    return Event("nvml.xid", f"Xid {code} on {gpu.words}{where}: {known.text}", known.severity, gpu.device, detail)
