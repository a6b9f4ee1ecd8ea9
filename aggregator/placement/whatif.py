"""What if: would a request succeed, and how often, once some changes are made; now or at a moment of the past."""

from collections.abc import Sequence

import msgspec

from aggregator.ledger.state import State
from aggregator.placement.catalog import check_limit
from aggregator.placement.choose import Chooser, Solvers
from aggregator.placement.edits import AnyEdit, DrainNode, Hypothesis, OpenNode, SetQuota
from aggregator.placement.index import Index
from aggregator.placement.placing import NotPlacedError, Placement, Placer
from aggregator.placement.refusal import Refusal
from aggregator.placement.request import ContradictionError, Request, resolve


class Outcome(msgspec.Struct, frozen=True):
    """What becomes of a request."""

    placement: Placement | None
    refusal: Refusal | None
    fits: int
    """How many instances there is room for, quotas aside."""


class Answer(msgspec.Struct, frozen=True):
    """A request as things are, and as they would be."""

    sequence: int
    """Of the ledger that it was asked of."""
    before: Outcome
    after: Outcome
    displaced: list[str]
    """Claims that hold something on drained nodes, and would have to go elsewhere."""


def what_if(placer: Placer, state: State, edits: Sequence[AnyEdit], request: Request) -> Answer:
    """Ask of the state that `placer` follows. Raises RequestError."""
    return _ask(placer, placer.index(state), edits, request)


def what_if_then(state: State, edits: Sequence[AnyEdit], request: Request) -> Answer:
    """Ask of any state, such as one of the past: everything is looked at anew. Raises RequestError."""
    index = Index(state)
    index.refresh()
    return _ask(Placer(), index, edits, request)


def _ask(placer: Placer, index: Index, edits: Sequence[AnyEdit], request: Request) -> Answer:
    for edit in edits:
        if isinstance(edit, SetQuota):
            check_limit(index.state, edit.name, edit.limit)
    hypothesis = Hypothesis(index.state).apply(edits)
    after = index.fork(hypothesis.state, hypothesis.touched)
    drained = {hypothesis.node(edit.node).id for edit in edits if isinstance(edit, DrainNode)}
    opened = {hypothesis.node(edit.node).id for edit in edits if isinstance(edit, OpenNode)}
    if both := sorted(drained & opened):
        name = hypothesis.state.called(hypothesis.state.nodes[both[0]])
        raise ContradictionError("drain-node", "open-node", f"node {name} cannot be both")
    displaced = {claim for node in drained for claim in hypothesis.state.claims_on.get(node, ())}
    return Answer(
        index.state.sequence,
        _outcome(placer, index, request),
        _outcome(placer, after, request),
        sorted(displaced),
    )


def _outcome(placer: Placer, index: Index, request: Request) -> Outcome:
    chooser = Chooser(index, Solvers(), resolve(index.state, request), quotas=False)
    try:
        placement = placer.place_on(index, request)
    except NotPlacedError as error:
        return Outcome(None, error.refusal, chooser.capacity())
    return Outcome(placement, None, chooser.capacity())
