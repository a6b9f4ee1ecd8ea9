"""What can be told as an event: declarations, as `MetricSpec` declares what can be measured.

An event's type is stable once released; from the declarations come the reference and what people subscribe to. Those
that agent and aggregator tell of themselves are here; a collector declares its own as `EVENTS`.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from schemas.rows import Severity


class EventSpec(msgspec.Struct, frozen=True):
    """One type of event."""

    type: str
    """A dotted word, stable once released."""
    meaning: str
    """When it is told: one sentence for people."""
    severities: tuple[Severity, ...]
    """How bad it can be, the worst first."""
    detail: tuple[str, ...] = ()
    """The names of the facts that it may carry for programs; units are in the names."""


AGENT_EVENTS: Final = (
    EventSpec("clock.step", "The node's wall clock was set.", (Severity.NOTICE,), ("step_seconds",)),
    EventSpec("rows.given_up", "The disk took no rows, and these were given up.", (Severity.NOTICE,), ("rows",)),
    EventSpec(
        "spool.blocked",
        "For a while the disk took no rows; told when it takes them again. Sources that can wait did.",
        (Severity.WARNING,),
        ("blocked_seconds", "failures", "reason"),
    ),
    EventSpec(
        "collector.helper.killed",
        "A helper process was killed on a collector's account: it hung, or sent what nobody asked for.",
        (Severity.WARNING,),
        ("collector", "kind", "reason", "pid"),
    ),
    EventSpec(
        "collector.helper.lost",
        "A helper process ended by itself: it crashed in a collector.",
        (Severity.WARNING,),
        ("collectors", "kind", "reason", "pid"),
    ),
    EventSpec(
        "collector.helper.left",
        "A helper process could not even be killed: what its collector reads hangs in the kernel.",
        (Severity.ERROR,),
        ("collectors", "pid", "left", "left_limit"),
    ),
    EventSpec(
        "collector.zygote.lost",
        "The process from which all helpers are forked ended by itself; helpers and it are made anew.",
        (Severity.WARNING,),
        ("reason", "helpers"),
    ),
)
"""What an agent tells of itself."""

_RUN: Final = ("epoch", "boot")
_CLAIM: Final = ("claim", "tenant", "consumer")
_VIEWS: Final = ("kind", "device", "claim", "ledger", "seen", "about")
AGGREGATOR_EVENTS: Final = (
    EventSpec("node.new", "A node speaks for the first time.", (Severity.NOTICE,), _RUN),
    EventSpec(
        "node.handover",
        "An agent started again on the same boot and goes on where it stopped.",
        (Severity.NOTICE,),
        (*_RUN, "before", "boot_before"),
    ),
    EventSpec(
        "node.takeover",
        "Another run took the place of one that was silent or had ended: after a boot, or of another machine.",
        (Severity.WARNING, Severity.NOTICE),
        (*_RUN, "before", "boot_before", "silent_seconds", "named_predecessor"),
    ),
    EventSpec(
        "node.contested",
        "A second run of a node was refused, because the current one is still heard.",
        (Severity.WARNING, Severity.NOTICE),
        ("current", "refused", "boot", "host_name", "same_boot", "named_predecessor"),
    ),
    EventSpec(
        "publisher.refused",
        "A publisher that is known may not speak as it did: for that node, or under that name.",
        (Severity.WARNING,),
        ("code", "who", "reason"),
    ),
    EventSpec(
        "node.drained",
        "Nothing is left on a node that is drained.",
        (Severity.NOTICE,),
        ("reason",),
    ),
    EventSpec(
        "node.maintenance_began",
        "A node is in maintenance: nothing new goes there, and nobody is woken for it.",
        (Severity.NOTICE,),
        ("until_ns", "reason"),
    ),
    EventSpec("node.maintenance_ended", "A node's maintenance ended, or its time ran out.", (Severity.NOTICE,)),
    EventSpec(
        "node.overcommit_began",
        "Claims hold more of a node than there is to give: it has less than before, or less may be given of it.",
        (Severity.WARNING,),
    ),
    EventSpec("node.overcommit_ended", "What claims hold of a node fits again.", (Severity.NOTICE,)),
    EventSpec(
        "claim.suspect",
        "A claim's lease ran out after its node was told: its devices may be in use, and nobody else gets them.",
        (Severity.WARNING,),
        _CLAIM,
    ),
    EventSpec(
        "claim.failed", "A claim's devices could not be made ready, and were taken back.", (Severity.ERROR,), _CLAIM
    ),
    EventSpec(
        "claim.restored",
        "A claim that the ledger had lost came back from its node's checkpoint.",
        (Severity.WARNING,),
        _CLAIM,
    ),
    EventSpec(
        "claim.fenced",
        "A claim's devices were taken back because nothing runs on their node: by its BMC, or an operator's word.",
        (Severity.WARNING,),
        _CLAIM,
    ),
    EventSpec(
        "claim.contradicted",
        "A node keeps a device for a claim, and the ledger gave it to another.",
        (Severity.CRITICAL,),
        ("claim", "reason"),
    ),
    EventSpec(
        "device.quarantined",
        "A clean failed, or its evidence did not hold: nobody gets the device before people looked at it.",
        (Severity.ERROR,),
        ("reason",),
    ),
    EventSpec(
        "ledger.generation",
        "The ledger is new, or was set back: nothing is given of a node before it has shown what it keeps of claims.",
        (Severity.WARNING,),
        ("generation",),
    ),
    EventSpec(
        "claim.must_leave",
        "A claim's consumer should leave: its node is drained, or a mark on node or device says so.",
        (Severity.WARNING,),
        ("claim", "tenant", "consumer", "reason"),
    ),
    EventSpec(
        "divergence.began",
        "The ledger and a node, a record or a checkpoint do not agree about a thing. Both views are told.",
        (Severity.WARNING,),
        _VIEWS,
    ),
    EventSpec(
        "divergence.ended",
        "They agree again, or there is nothing left to disagree about; the views are the last ones.",
        (Severity.NOTICE,),
        _VIEWS,
    ),
    EventSpec(
        "log.recreated",
        "The log is another than the one that was read; a consumer reads it from its beginning.",
        (Severity.WARNING,),
        ("log", "consumer"),
    ),
    EventSpec(
        "log.set_back",
        "The log ends before what was read of it: an older copy was put in place; a consumer reads it all again.",
        (Severity.WARNING,),
        ("log", "consumer"),
    ),
)
"""What the aggregator tells, as the publisher `aggregator`; those of nodes speak about the node."""


def check_events(specs: Iterable[EventSpec]) -> dict[str, EventSpec]:
    """Give declarations by type. Raises ValueError when two of one type differ, or one has no meaning."""
    found: dict[str, EventSpec] = {}
    for spec in specs:
        if found.setdefault(spec.type, spec) != spec:
            raise ValueError(f"event {spec.type} is declared twice, and differently")
        if not (spec.meaning.strip() and spec.severities) or list(spec.severities) != sorted(spec.severities):
            raise ValueError(f"event {spec.type} needs a meaning, and severities with the worst first")
    return found
