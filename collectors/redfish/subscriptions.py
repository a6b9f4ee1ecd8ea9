"""Having a BMC deliver its events to an address of ours, where it offers no stream of them.

Source: DMTF EventDestination 1.15, EventService 1.10.
"""

from typing import Any, Final

from collectors.redfish.client import Client
from collectors.redfish.errors import BmcError
from collectors.redfish.resource import canonical, text

_OK: Final = (200, 201, 202, 204)


def subscribe(client: Client, subscriptions: str, destination: str) -> str:
    """Have a BMC deliver to a place; give the path of the subscription, "" when it does not. Raises BmcError.

    What an earlier run of this agent had subscribed to under the same address is taken back.
    """
    ours = destination.rpartition("/")[0] + "/"
    for one in client.members(subscriptions):
        if text(one, "Destination").startswith(ours) and text(one, "Context") == _context(client):
            client.delete(canonical(one.get("@odata.id")))
    wanted: dict[str, Any] = {"Destination": destination, "Protocol": "Redfish", "Context": _context(client)}
    answer = client.post(subscriptions, {**wanted, "EventFormatType": "Event", "SubscriptionType": "RedfishEvent"})
    if answer.status == 400:  # it knows only the older form
        answer = client.post(subscriptions, {**wanted, "EventTypes": ["Alert"]})
    if answer.status not in _OK:
        client.faults.add("subscription", f"{subscriptions}: status {answer.status}")
        return ""
    location = answer.headers.get("location", "")
    path = location.partition("://")[2].partition("/")[2] if "://" in location else location.lstrip("/")
    return canonical(f"/{path}") or subscriptions


def subscribed(client: Client, subscription: str) -> bool:
    """Tell whether a subscription still stands; one whose BMC cannot be asked does. Raises nothing."""
    try:
        return client.get(subscription) is not None
    except BmcError:
        return True


def _context(client: Client) -> str:
    return f"muster {client.bmc.label}"
