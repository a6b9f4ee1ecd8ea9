"""Which collectors are installed, here and in other distributions, and whether their configuration fits.

Nothing is imported before it is asked for, and what one distribution breaks is an error of its own collectors alone.
Entry points are read from the files themselves: `importlib.metadata` would cost 3 MB of memory for as long as the agent
runs.
"""

import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from collectors.contract import GROUP
from schemas.errors import ConfigError, MusterError, near_names
from schemas.metrics import Catalogue, MetricSpec

OWN_DISTRIBUTION: Final = "rackmuster"
"""Its collectors keep their names, whoever else offers them."""
_METADATA: Final = ("*.dist-info", "*.egg-info")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")


class ContractError(MusterError):
    """A class that does not keep the collector contract."""

    code = "collector.contract"


class Entry(msgspec.Struct, frozen=True):
    """One collector that a distribution offers."""

    name: str
    factory: str
    """`module:Class`."""
    distribution: str
    """The distribution's name, as its folder of metadata spells it; "" when that does not tell."""
    version: str


def discover(path: Sequence[str] | None = None) -> dict[str, Entry]:
    """Give every installed collector by name, reading `sys.path` (or `path`) and importing nothing.

    Of two that have one name ours wins, then the one that comes first, as for imports.

    Source: packaging.python.org, "Entry points specification" and "Recording installed projects".
    """
    found: dict[str, Entry] = {}
    for entry in _entries(sys.path if path is None else path):
        known = found.get(entry.name)
        if known is None or (_own(entry) and not _own(known)):
            found[entry.name] = entry
    return dict(sorted(found.items()))


def factory_of(name: str, entries: Mapping[str, Entry] | None = None) -> str:
    """Give `module:Class` for the name of an installed collector, and `module:Class` as it is.

    Raises ConfigError with near names when nothing of that name is installed.
    """
    if ":" in name:
        return name
    entries = discover() if entries is None else entries
    if name not in entries:
        known = set(entries)
        hint = near_names(name, known) or f" Installed: {', '.join(sorted(known)) or 'none'}."
        raise ConfigError(f"collectors.{name}: no collector of this name is installed.{hint}")
    return entries[name].factory


def load_factory(factory: str) -> type[Any]:
    """Import `module:Class`. Raises ContractError when it does not name a class, and what importing raises."""
    module, _, name = factory.partition(":")
    __import__(module)
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise ContractError(f"{factory} does not name a class")
    return found


def load(name: str) -> type[Any]:
    """Import an installed collector's class and check it. Raises ConfigError, ContractError, what importing raises."""
    collector = load_factory(factory_of(name))
    check_class(collector)
    return collector


def check_config(name: str, written: Mapping[str, Any], factory: str = "", *, strict: bool = True) -> Any:
    """Give the collector's configuration as its `Config`, starting nothing.

    `strict` false takes texts for numbers, as environment variables have them. Raises ConfigError: one line for each
    problem, with near names for what nobody knows.
    """
    factory = factory or factory_of(name)
    try:
        collector = load_factory(factory)
        check_class(collector)
    except Exception as error:
        raise ConfigError(f"collectors.{name}: {factory} cannot be loaded: {type(error).__name__}: {error}") from error
    return build_config(name, collector, written, strict=strict)


def check_class(collector: type[Any]) -> None:
    """Check the shape of a collector's class. Raises ContractError that says what is missing."""
    where = f"{collector.__module__}:{collector.__qualname__}"
    name = getattr(collector, "name", None)
    if not isinstance(name, str) or not _NAME.match(name):
        raise ContractError(f"{where}: `name` must be a word in snake_case, not {name!r:.80}")
    metrics = getattr(collector, "METRICS", None)
    if not isinstance(metrics, tuple) or not all(isinstance(spec, MetricSpec) for spec in metrics):
        raise ContractError(f"{where}: METRICS must be a tuple of MetricSpec")
    try:
        Catalogue(metrics)
    except ValueError as error:
        raise ContractError(f"{where}: {error}") from None
    config = getattr(collector, "Config", None)
    if not isinstance(config, type) or not issubclass(config, msgspec.Struct):
        raise ContractError(f"{where}: Config must be a msgspec.Struct")
    for method in ("start", "collect", "stop"):
        if not callable(getattr(collector, method, None)):
            raise ContractError(f"{where}: there is no method `{method}`")
    isolation = getattr(collector, "isolation", "")
    if not isinstance(isolation, str) or (isolation and not _NAME.match(isolation)):
        raise ContractError(f"{where}: `isolation` must be a word in snake_case, not {isolation!r:.80}")


def build_config(name: str, collector: type[Any], written: Mapping[str, Any], *, strict: bool = True) -> Any:
    """Convert what was written into the collector's `Config`. Raises ConfigError as `check_config`."""
    place = f"collectors.{name}"
    config = collector.Config
    problems = list(_unknown_keys(place, config, written))
    if problems:
        raise ConfigError(*problems)
    try:
        return msgspec.convert(written, config, strict=strict)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        from collectors.settings import plain  # a helper that refuses nothing has no room for it

        at = re.search(r" - at `\$(.*)`\Z", str(error))
        where = at[1] if at is not None else ""
        key = where.removesuffix("[...]").rpartition(".")[2]
        raise ConfigError(f"{place}{where}: {plain(error, key)}") from None


def config_help(config: type[Any]) -> dict[str, str]:
    """Give the attribute docstring of every field of a `Config`, by field, "" where there is none; reads its source.

    Raises OSError when the source is not there.
    """
    import ast
    import inspect
    import textwrap

    helps: dict[str, str] = {}
    not_ours = ("builtins", "msgspec")
    for owner in reversed([base for base in config.__mro__ if base.__module__.partition(".")[0] not in not_ours]):
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, after in zip(statements, [*statements[1:], None], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                given = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                text = after.value.value if given else ""  # type: ignore[union-attr]
                helps[field.target.id] = inspect.cleandoc(text) if isinstance(text, str) else ""
    return {field: helps.get(field, "") for field in config.__struct_fields__}


def _own(entry: Entry) -> bool:
    return entry.distribution == OWN_DISTRIBUTION


def _entries(path: Iterable[str]) -> Iterator[Entry]:
    for place in path:
        root = Path(place or ".")
        for pattern in _METADATA:
            try:
                folders = sorted(root.glob(pattern))
            except OSError:
                continue
            for folder in folders:
                yield from _entries_of(folder)


def _entries_of(folder: Path) -> Iterator[Entry]:
    """Give what one distribution offers; nothing when its file cannot be read."""
    try:
        text = (folder / "entry_points.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    distribution, _, version = folder.stem.partition("-")
    within = False
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            within = line == f"[{GROUP}]"
        elif within and line and not line.startswith(("#", ";")):
            name, _, target = line.partition("=")
            factory = target.partition("[")[0].strip()
            if ":" in factory:
                yield Entry(name.strip(), factory, distribution.replace("_", "-").lower(), version)


def _unknown_keys(place: str, kind: Any, written: object) -> Iterator[str]:
    """Give one problem for each key that no field has, in a struct and the structs inside it."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if isinstance(written, Mapping):
            fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
            for key, value in written.items():
                if key in fields:
                    yield from _unknown_keys(f"{place}.{key}", fields[key], value)
                else:
                    hint = near_names(str(key), set(fields)) or f" Options here: {', '.join(fields) or 'none'}."
                    yield f"{place}.{key}: unknown option.{hint}"
        return
    inner = [part for part in typing.get_args(kind) if part is not type(None)]
    if isinstance(written, list):
        for part in inner:
            for index, value in enumerate(written):
                yield from _unknown_keys(f"{place}[{index}]", part, value)
    elif isinstance(written, Mapping):
        structs = [part for part in inner if isinstance(part, type) and issubclass(part, msgspec.Struct)]
        for value_name, value in written.items():
            for part in inner[1:] if typing.get_origin(kind) is dict else ():
                yield from _unknown_keys(f"{place}.{value_name}", part, value)
        if len(structs) == 1 and typing.get_origin(kind) is not dict:
            yield from _unknown_keys(place, structs[0], written)
