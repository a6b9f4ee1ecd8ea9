"""The fleet file: TOML, read strictly. Every mistake is told at once, with its place and what was probably meant."""

import typing
from pathlib import Path
from typing import Any

import msgspec

from collectors.simulated.faults import check_fault
from collectors.simulated.models import DPU_MODELS, GPU_MODELS, NODE_TYPES
from collectors.simulated.spec import FleetSpec
from schemas.errors import ConfigError, near_names


def read_fleet(path: Path) -> FleetSpec:
    """Read a fleet file. Raises ConfigError, one line for every mistake, each starting with the file's name."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse_fleet(text, str(path))


def parse_fleet(text: str, place: str = "fleet") -> FleetSpec:
    """Read the text of a fleet file; `place` names it in errors. Raises ConfigError."""
    import tomllib

    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{place}: not TOML: {error}") from None
    unknown = list(_unknown_keys(tree, FleetSpec, ""))
    if unknown:
        raise ConfigError(*(f"{place}: {line}" for line in unknown))
    try:
        spec = msgspec.convert(tree, FleetSpec)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$.")
        raise ConfigError(f"{place}: {where.rstrip('`') or 'the file'}: {message}") from None
    mistakes = list(_mistakes(spec))
    if mistakes:
        raise ConfigError(*(f"{place}: {line}" for line in mistakes))
    return spec


def type_names(spec: FleetSpec) -> list[str]:
    """Give the types that nodes of this fleet may have, sorted."""
    return sorted({*spec.types, *NODE_TYPES})


def _unknown_keys(tree: Any, kind: Any, at: str) -> typing.Iterator[str]:
    """Yield a line for every key that the words of the file do not have."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict and isinstance(tree, dict):
        for key, value in tree.items():
            yield from _unknown_keys(value, arguments[1], f"{at}.{key}".lstrip("."))
    elif origin is tuple and isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _unknown_keys(value, arguments[0], f"{at}[{index}]")
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(tree, dict):
        known = {field.name: field.type for field in msgspec.structs.fields(kind)}
        for key, value in tree.items():
            where = f"{at}.{key}".lstrip(".")
            if key in known:
                yield from _unknown_keys(value, known[key], where)
            else:
                hint = near_names(key, set(known)) or " Known: " + ", ".join(sorted(known)) + "."
                yield f"{where}: unknown key.{hint}"


def _mistakes(spec: FleetSpec) -> typing.Iterator[str]:
    """Yield a line for every name that the file uses and nobody defines."""
    for name, node_type in spec.types.items():
        for part, model, known in (("gpu", node_type.gpu.model, GPU_MODELS), ("dpu", node_type.dpu.model, DPU_MODELS)):
            if model not in known:
                hint = near_names(model, set(known)) or f" Known: {', '.join(sorted(known))}."
                yield f"types.{name}.{part}.model: no model {model!r}.{hint}"
    for index, group in enumerate(spec.nodes):
        if group.type not in spec.types and group.type not in NODE_TYPES:
            hint = near_names(group.type, type_names(spec)) or f" Known: {', '.join(type_names(spec))}."
            yield f"nodes[{index}].type: no type {group.type!r}.{hint}"
    for index, fault in enumerate(spec.faults):
        try:
            check_fault(fault)
        except ConfigError as error:
            yield f"faults[{index}]: {error}"
        if not fault.node:
            yield f"faults[{index}].node: says no node; give the name of one"
