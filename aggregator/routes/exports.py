"""The inventory in the words of other schedulers, and as flat tables."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from aggregator.access import Action, Caller
from aggregator.feeds import flat, nova, nova_check, nova_conf, triton
from aggregator.feeds.isolation import Policy
from aggregator.ledger import nodes
from aggregator.ledger.asks import ClaimInvalidError
from aggregator.ledger.model import Node
from aggregator.ledger.state import State
from aggregator.placement.catalog import known_variant
from aggregator.routes.common import ServiceOf, allow, answer
from schemas.errors import misfit

router = APIRouter(tags=["feeds"])
Reader = Annotated[Caller, Depends(allow(Action.READ))]
Words = Annotated[list[str], Query()]
Format = Literal["nova", "triton", "csv", "json"]


class CheckWanted(msgspec.Struct, forbid_unknown_fields=True):
    """A nova.conf, as it is."""

    text: str


@router.get("/v1/export/{form}", summary="Hand the inventory on", response_class=Response)
async def export(
    service: ServiceOf,
    _: Reader,
    form: Format,
    node: str = "",
    variant: Words = [],  # noqa: B006 - FastAPI copies it
    policy: Policy = Policy.ONE_PER_GROUP,
    text: bool = False,
    held: bool = False,
) -> Response:
    """Give the devices of one node or all in another's words.

    Of nova's, `text`: as lines for nova.conf; `held`: with what claims hold.
    """
    match form:
        case "nova":
            made = await service.ledger.read(
                lambda state: nova.feed(state, _nodes(state, node, variant), policy, variant, held=held)
            )
            return Response(nova.nova_conf(made), media_type="text/plain") if text else answer(made)
        case "triton":
            return answer(
                await service.ledger.read(lambda state: triton.feed(state, _nodes(state, node, variant), variant))
            )
        case "json":
            return answer(
                await service.ledger.read(lambda state: flat.rows(state, _nodes(state, node, variant), variant))
            )
        case "csv":
            rows = await service.ledger.read(lambda state: flat.rows(state, _nodes(state, node, variant), variant))
            return Response(flat.as_csv(rows), media_type="text/csv; header=present")


@router.post("/v1/export/nova/check", summary="Check a nova.conf", response_class=Response)
async def check(request: Request, service: ServiceOf, _: Reader, node: str = "", held: bool = False) -> Response:
    """Say what the `[pci]` section of a nova.conf would break on one node or on all. `held`: nova has what claims hold.

    A text without any device_spec is refused: it is hardly the file that was meant.
    """
    try:
        wanted = msgspec.json.decode(await request.body() or b"{}", type=CheckWanted)
    except msgspec.MsgspecError as error:
        raise ClaimInvalidError(misfit(error)) from None
    specs = nova_conf.read(wanted.text)
    if not specs:
        raise nova_conf.NovaConfError("no [pci] device_spec here: is it a nova.conf of nova-compute?")
    return answer(
        await service.ledger.read(lambda state: nova_check.check(state, _nodes(state, node), specs, held=held))
    )


def _nodes(state: State, name: str, variants: Sequence[str] = ()) -> list[Node]:
    """Give the nodes that are meant. Raises NodeUnknownError, and CatalogUnknownError for an unknown variant."""
    for variant in variants:
        known_variant(state, variant)
    if not name:
        return [node for node in state.nodes.values() if not node.retired]
    return [nodes.named(state, name)]
