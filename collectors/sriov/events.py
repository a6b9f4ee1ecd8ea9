"""The events of the collector `sriov`."""

from typing import Final

from schemas.events import EventSpec
from schemas.rows import Severity

_CHANGE: Final = ("address", "what", "before", "after", "functions")

EVENTS: Final = (
    EventSpec("sriov.port.new", "A network port appeared.", (Severity.NOTICE,), ("address", "interface")),
    EventSpec("sriov.port.gone", "A network port is gone.", (Severity.WARNING,), ("address", "interface")),
    EventSpec(
        "sriov.functions",
        "Virtual functions of a port were made, taken away, or made anew.",
        (Severity.NOTICE,),
        ("address", "before", "after"),
    ),
    EventSpec(
        "sriov.changed",
        "A port or virtual function has another MAC address, VLAN, rate, trust, spoof check, link state or interface;"
        " told of the port, with how many, when the same changed of many functions.",
        (Severity.NOTICE,),
        _CHANGE,
    ),
    EventSpec(
        "sriov.health",
        "What watches the health of a card (a devlink health reporter) found errors, is in error, or is healthy again.",
        (Severity.ERROR, Severity.WARNING, Severity.NOTICE),
        ("address", "reporter", "healthy", "errors", "recoveries"),
    ),
    EventSpec(
        "sriov.drift",
        "A function is not as the cloud's metadata or the operator's expectations say.",
        (Severity.WARNING,),
        ("kind", "vnic"),
    ),
    EventSpec(
        "sriov.drift_over",
        "What differed from the cloud's metadata or the operator's expectations does so no longer.",
        (Severity.NOTICE,),
        ("kind", "vnic"),
    ),
    EventSpec(
        "sriov.metadata.lost",
        "The cloud's metadata service does not answer any more; its last answer stands.",
        (Severity.WARNING,),
        ("reason",),
    ),
    EventSpec("sriov.metadata.back", "The cloud's metadata service answers again.", (Severity.NOTICE,)),
)
"""What is told of network functions."""
