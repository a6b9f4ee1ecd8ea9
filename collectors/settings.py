"""Reads configuration: TOML files and environment into one tree, and remembers where each value was written.

Precedence, lowest first: the file, `conf.d/*.toml` beside it in order of names, the environment. One file may hold the
sections of agent and aggregator together; each takes its own. `${NAME}` in a text is replaced from the environment, and
`file:/path` as a whole text by that file's content, so that secrets need not stand in the configuration.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas.errors import ConfigError, near_names

ENV_PREFIX: Final = "MUSTER_"
PLAIN_ENV: Final = frozenset(
    ("CACHE", "CONFIG", "DATA_DIR", "FAILPOINT", "LIFELINE_FD", "LISTEN", "LOG_LEVEL", "RECORDED_DATA", "SERVER")
) | {"TOKEN"}
"""Variables that are not `MUSTER_<SECTION>__<KEY>`."""
AGENT_SECTIONS: Final = ("agent", "publish", "spool", "claims", "collectors")
AGGREGATOR_SECTIONS: Final = ("aggregator", "log", "store", "retention", "verbosity", "inventory", "claiming")
Path_ = tuple[str, ...]


class Settings(msgspec.Struct):
    """The tree, and the place of each value."""

    tree: dict[str, Any] = {}
    places: dict[Path_, str] = {}
    """By path of keys: `file:line` or the name of the variable."""
    problems: list[str] = []
    """What is wrong already, each with place and remedy."""
    texts: dict[Path_, str] = {}
    """By path of keys, what a variable of the environment says to the letter: for an option that is a text."""

    def place(self, path: Path_) -> str:
        """Give where a value, or the nearest thing around it, was written."""
        while path:
            if path in self.places:
                return self.places[path]
            path = path[:-1]
        return "configuration"

    def section(self, name: str) -> dict[str, Any]:
        """Give one section, empty when it is not written."""
        section = self.tree.get(name, {})
        return section if isinstance(section, dict) else {}


def load_settings(config: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Read everything. Raises ConfigError when a file cannot be read or is no TOML; other problems are collected."""
    env = os.environ if env is None else env
    settings = Settings()
    for path in _files(config):
        text = _read(path)
        tree = _parse(path, text)
        _note_places(settings, path, text)
        _merge(settings.tree, tree)
    _take_environment(settings, env)
    settings.tree = _expand(settings, settings.tree, (), env)
    known = (*AGENT_SECTIONS, *AGGREGATOR_SECTIONS)
    for name in settings.tree:
        if name not in known:
            settings.problems.append(f"{settings.place((name,))}: unknown section [{name}].{near_names(name, known)}")
        elif not isinstance(settings.tree[name], dict):
            settings.problems.append(f"{settings.place((name,))}: {name} is a section: write [{name}]")
    return settings


def unknown_keys(settings: Settings, path: Path_, written: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Give one problem for each key of a table that nobody knows."""
    names = sorted(known)
    return [
        f"{settings.place((*path, key))}: unknown option {'.'.join((*path, key))!r}."
        f"{near_names(key, names) or ' Options here: ' + ', '.join(names) + '.'}"
        for key in written
        if key not in names
    ]


def convert_section(
    settings: Settings, path: Path_, written: Mapping[str, Any], kind: type[Any], *, besides: Iterable[str] = ()
) -> Any:
    """Make a Struct of a table. On failure notes the problems and returns None.

    `besides`: options of the same section that are converted elsewhere, and may be what was meant.
    """
    fields = msgspec.structs.fields(kind)
    problems = unknown_keys(settings, path, written, [*besides, *(field.encode_name for field in fields)])
    values = {}
    for field in fields:
        if field.encode_name not in written:
            continue
        where = (*path, field.encode_name)
        value = written[field.encode_name]
        if field.type is str:
            value = settings.texts.get(where, value)
        try:
            values[field.name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError as error:
            problems.append(f"{settings.place(where)}: {'.'.join(where)}: {plain(error, field.encode_name)}.")
    made = None
    try:
        made = kind(**values)
    except (ValueError, TypeError) as error:
        problems.append(f"{_place_of(settings, path, values, str(error))}: [{'.'.join(path)}]: {error}")
    settings.problems.extend(problems)
    return None if problems else made


def _place_of(settings: Settings, path: Path_, values: Mapping[str, Any], error: str) -> str:
    """Give the place of the value that an error names by itself or by its key."""
    for key, value in values.items():
        texts = value if isinstance(value, (list, tuple)) else [value]
        if error.startswith(key) or any(isinstance(text, str) and text and repr(text) in error for text in texts):
            return settings.place((*path, key))
    return settings.place(path)


_KINDS: Final = {
    "str": ("a text", '"word"'),
    "int": ("a whole number", "5"),
    "float": ("a number", "1.5"),
    "bool": ("true or false", "true"),
    "array": ("a list", '["one", "two"]'),
    "object": ("a table", '{ name = "value" }'),
    "null": ("nothing", ""),
}
"""What msgspec calls a type: what people call it, and how TOML writes one."""
_TYPE_REFUSED: Final = re.compile(r"Expected `(\w+)[^`]*`, got `(\w+)`")


def kind_of(value: object) -> str:
    """Give what msgspec calls the type of a value that TOML gave; "null" for one that TOML does not have."""
    kinds = ((bool, "bool"), (int, "int"), (float, "float"), (str, "str"), (list, "array"), (dict, "object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def wrong_type(key: str, wanted: str, got: str, *, entry: bool = False) -> str:
    """Say in TOML's words that an option, or an entry of its list, is of another type; both as msgspec calls them."""
    what, example = _KINDS[wanted]
    if entry:
        return f"each entry of the list is {what}, such as {example}; one is {_KINDS[got][0]}"
    return f"must be {what}, such as {key} = {example}; this is {_KINDS[got][0]}"


def plain(error: Exception, key: str) -> str:
    """Say in our words why msgspec did not take the value of an option, or of what is within it."""
    text, _, where = str(error).partition(" - at `$")
    refused = _TYPE_REFUSED.fullmatch(text)
    if refused is not None and {refused[1], refused[2]} <= _KINDS.keys():
        return wrong_type(key, refused[1], refused[2], entry=where.endswith("]`"))
    return text.replace("`", "'")


def _files(config: Path | None) -> list[Path]:
    if config is None:
        return []
    if config.is_dir():
        raise ConfigError(f"{config}: is a folder; name the file in it, such as {config / 'muster.toml'}")
    return [config, *sorted((config.parent / "conf.d").glob("*.toml"))]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}. Name another with --config") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = match[1] if match else str(text.count("\n") + 1)
        reason = re.sub(r" \(at .*\)", "", str(error))
        raise ConfigError(f"{path}:{line}: not TOML: {reason}. See https://toml.io for the form") from None


_HEADER: Final = re.compile(r"\s*\[+\s*([^\[\]]+?)\s*\]+\s*(?:#.*)?$")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_.\-\"']+)\s*=")


def _note_places(settings: Settings, path: Path, text: str) -> None:
    """tomllib does not tell lines: find each key by its table header and name."""
    table: Path_ = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            table = _split(header[1])
            settings.places.setdefault(table[:1], f"{path}:{number}")
            settings.places[table] = f"{path}:{number}"
            continue
        key = _KEY.match(line)
        if key:
            settings.places[table + _split(key[1])] = f"{path}:{number}"


def _split(dotted: str) -> Path_:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _merge(into: dict[str, Any], tree: Mapping[str, Any]) -> None:
    for key, value in tree.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _take_environment(settings: Settings, env: Mapping[str, str]) -> None:
    for name in sorted(env):
        if not name.startswith(ENV_PREFIX) or name.removeprefix(ENV_PREFIX) in PLAIN_ENV:
            continue
        path = tuple(part.lower() for part in name.removeprefix(ENV_PREFIX).split("__"))
        if len(path) < 2 or not all(path):
            near = near_names(name.removeprefix(ENV_PREFIX), set(PLAIN_ENV)).replace(" '", f" '{ENV_PREFIX}")
            settings.problems.append(f"{name}: not an option; options are MUSTER_<SECTION>__<KEY>.{near}")
            continue
        table = settings.tree
        for part in path[:-1]:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                settings.problems.append(f"{name}: {part!r} is a value, not a section")
                break
            table = inner
        else:
            table[path[-1]] = value = _environment_value(env[name])
            if not isinstance(value, str):
                settings.texts[path] = env[name]
            for length in range(1, len(path)):
                settings.places.setdefault(path[:length], name)
            settings.places[path] = name


def _environment_value(text: str) -> Any:
    """Read a variable as a TOML value where it is one (`5`, `true`, `["a"]`), else as text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _expand(settings: Settings, value: Any, path: Path_, env: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _expand(settings, inner, (*path, key), env) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(settings, inner, path, env) for inner in value]
    if not isinstance(value, str):
        return value
    for name in _VARIABLE.findall(value):
        if name not in env:
            settings.problems.append(f"{settings.place(path)}: {'.'.join(path)}: the variable {name} is not set")
    value = _VARIABLE.sub(lambda match: env.get(match[1], ""), value)
    if value.startswith("file:"):
        try:
            return Path(value.removeprefix("file:")).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            settings.problems.append(f"{settings.place(path)}: {'.'.join(path)}: cannot read the file: {error}")
    return value
