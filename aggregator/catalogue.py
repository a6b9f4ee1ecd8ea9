"""What every installed collector declares: names, types and units for the store, for queries and for people."""

import logging

from collectors.registry import discover, load
from schemas.metrics import Catalogue
from schemas.rows import CAPABILITY_METRICS, EVENT_METRICS, LOG_METRICS

_log = logging.getLogger("muster.catalogue")


def installed_catalogue() -> Catalogue:
    """Gather the declarations. One collector that cannot be imported, or contradicts another, is left out and named."""
    catalogue = Catalogue((*EVENT_METRICS, *LOG_METRICS, *CAPABILITY_METRICS))
    for name in discover():
        try:
            for spec in load(name).METRICS:
                catalogue.add(spec)
        except Exception as error:  # noqa: BLE001 - a plugin's import may raise anything
            _log.warning("collector_left_out name=%s error=%s: %s", name, type(error).__name__, error)
    return catalogue
