"""Filters of the inventory, written in the expression language (docs/expressions.md)."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Query

from aggregator.ledger.model import Device
from aggregator.ledger.state import State

Where = Annotated[str, Query(description="an expression over `device.`, `node.` and `claim.`: docs/expressions.md")]
Fits = Callable[[State, Device], bool | None]
"""Tells whether a device fits; None when that cannot be told, for something that is asked about is absent or wrong."""


def filter_of(where: str) -> Fits:
    """Compile an expression over `device.`, `node.` and `claim.`; "" fits all. Raises ExpressionError."""
    if not where:
        return lambda _state, _device: True
    from aggregator.expression import compile_expression  # only who filters needs it
    from aggregator.expression.names import inventory_environment

    evaluate = compile_expression(where, inventory_environment()).on_objects("device", "node", "claim")

    def fits(state: State, device: Device) -> bool | None:
        claim = state.claims.get(device.hold.claim) if device.hold else None
        outcome = evaluate(device, state.nodes[device.node], claim)
        return outcome if isinstance(outcome, bool) else None

    return fits
