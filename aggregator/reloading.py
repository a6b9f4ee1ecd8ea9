"""SIGHUP: takes the new configuration as far as that can be done while the aggregator runs.

What cannot be taken is named in the log and keeps its old value; a configuration that is bad changes nothing at all.
The certificate's files are read again every time, since a renewed one lies under the old name.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from aggregator.config import SECTIONS, AggregatorConfig, AggregatorSection, Section, load_aggregator_config
from collectors.process import log_level
from schemas.errors import ConfigError

_log = logging.getLogger("muster.aggregator")
_TLS: Final = frozenset({"tls_certificate", "tls_key", "tls_authority"})
LIVE: Final[Mapping[str, frozenset[str]]] = {
    "aggregator": _TLS | {"max_request_bytes", "log_level"},
    "log": frozenset({"max_age_hours", "max_bytes"}),
    "retention": frozenset(SECTIONS["retention"].model_fields),
    "verbosity": frozenset(SECTIONS["verbosity"].model_fields),
}
"""By section, the options that a running aggregator takes. All others want a restart."""


class Reconfigured(Protocol):
    """What works by a configuration: `Service`."""

    config: AggregatorConfig

    def configure(self, config: AggregatorConfig) -> None:
        """Work by `config` from now on; only what is in LIVE differs from before.

        Raises ConfigError, with nothing changed, when the authority's file no longer vouches for the certificate.
        """


class Changes(msgspec.Struct, frozen=True):
    """What a new configuration comes to."""

    config: AggregatorConfig
    """The old one with what could be taken of the new."""
    taken: list[str]
    """The options that changed, as `section.option`."""
    kept: list[str]
    """The options that differ in the new one and keep their old value."""


def changes(old: AggregatorConfig, new: AggregatorConfig) -> Changes:
    """Tell what of `new` a process that runs by `old` can take."""
    taken: list[str] = []
    kept: list[str] = []
    sections: dict[str, Section] = {}
    # a listener has TLS or has it not
    other_listener = bool(old.aggregator.tls_certificate) != bool(new.aggregator.tls_certificate)
    for name, model in SECTIONS.items():
        before, after = getattr(old, name), getattr(new, name)
        update: dict[str, Any] = {}
        for option in model.model_fields:
            if getattr(before, option) == getattr(after, option):
                continue
            live = option in LIVE.get(name, ()) and not (name == "aggregator" and option in _TLS and other_listener)
            (taken if live else kept).append(f"{name}.{option}")
            if live:
                update[option] = getattr(after, option)
        sections[name] = before.model_copy(update=update)
    return Changes(old.model_copy(update=sections), taken, kept)


class Reloader:
    """Reads the configuration again when it is told to; for one event loop."""

    def __init__(
        self, service: Reconfigured, path: Path | None, take_certificate: Callable[[AggregatorSection], None]
    ) -> None:
        """`take_certificate` has the listener use the section's files; it raises OSError when they cannot be used."""
        self._service = service
        self._path = path
        self._take_certificate = take_certificate
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def begin(self) -> None:
        """Read it in the background. Called by the signal; while it is being read, it is read once more after."""
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._task = asyncio.get_running_loop().create_task(self._read(), name="reload")

    async def _read(self) -> None:
        while True:
            self._again = False
            try:
                await self.reload()
            except Exception:  # noqa: BLE001 - whatever is the matter with the new one, the old one is good
                _log.exception("reload_refused: the configuration in force stays")
            if not self._again:
                return

    async def reload(self) -> Changes | None:
        """Take the configuration as it is now; None when it was refused, and nothing has changed."""
        try:
            new = await asyncio.to_thread(load_aggregator_config, self._path)
            found = changes(self._service.config, new)
            if found.config.aggregator.tls_certificate:
                self._take_certificate(found.config.aggregator)
            self._service.configure(found.config)
        except (ConfigError, OSError) as error:
            _log.error("reload_refused error=%s (the configuration in force stays)", error)
            return None
        set_log_level(found.config)
        if found.kept:
            _log.warning("reload_needs_restart options=%s: these keep their old values until then", found.kept)
        _log.info("reloaded taken=%s", found.taken)
        return found


def set_log_level(config: AggregatorConfig) -> None:
    """Log from the configured level on."""
    logging.getLogger().setLevel(log_level(config.aggregator.log_level))
