"""Checks what was written for each collector with what only the collector knows, before anything runs.

Types, ranges and unknown keys were refused when the configuration was read; what is left is told with the same places.
"""

import logging
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from collectors.config import AgentConfig, CollectorSettings
from collectors.contract import ChecksOptions, Context
from collectors.registry import build_config
from collectors.settings import Settings
from schemas.errors import ConfigError


def check_agent(
    config: AgentConfig, settings: Settings, classes: Mapping[str, type[Any]], *, attempt: bool, root: Path = Path("/")
) -> list[str]:
    """Give what cannot work of a configuration that could be read: one line each, with place and remedy.

    `classes` by name; a collector that is not among them is not checked. `attempt`: see `contract.ChecksOptions`.
    Collectors are constructed and never started; what one raises is a line of its own.
    """
    problems: list[str] = []
    for one in config.collectors:
        if one.name in classes:
            problems += _check_collector(one, settings, classes[one.name], root, attempt=attempt)
    if attempt:
        problems += _unresolved(config, settings)
    return problems


def _check_collector(
    one: CollectorSettings, settings: Settings, collector: type[Any], root: Path, *, attempt: bool
) -> Iterator[str]:
    path = ("collectors", one.name)
    context = Context(subject="validate", log=logging.getLogger(f"muster.collector.{one.name}"), root=root)
    try:
        made = collector(build_config(one.name, collector, one.options, strict=False), context)
        objections = list(made.check_options(attempt=attempt)) if isinstance(made, ChecksOptions) else []
    except ConfigError as error:
        yield from (f"{settings.place(path)}: {place}" for place in error.places)
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises is told, and stops no other
        yield f"{settings.place(path)}: {'.'.join(path)}: cannot be checked: {type(error).__name__}: {error}"
    else:
        for objection in objections:
            where = (*path, objection.option) if objection.option else path
            yield f"{settings.place(where)}: {'.'.join(where)}: {objection.text}"


def _unresolved(config: AgentConfig, settings: Settings) -> Iterator[str]:
    path = ("publish", "aggregators")
    for address in config.publish.aggregators:
        host = urlsplit(address).hostname
        if not host:
            continue  # a unix socket
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            yield (f"{settings.place(path)}: {'.'.join(path)}: {address}: the name {host!r} cannot be resolved:"
                   f" {error.strerror}. Check it, or write an address of the network")  # fmt: skip
