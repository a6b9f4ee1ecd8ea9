"""The configuration as it is in force: every option of agent, collectors and aggregator, and where it comes from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from aggregator.cli.secrets import is_secret, without_secrets
from collectors.config import DEFAULT_COLLECTORS
from collectors.reference import Section, agent_sections, collector_section, toml
from collectors.registry import discover, load
from collectors.settings import Settings, load_settings

DEFAULT: Final = "default"


class Effective(msgspec.Struct, frozen=True):
    """One option."""

    section: str
    key: str
    value: str
    """As TOML writes it; "" when it is absent; a secret is hidden."""
    origin: str
    """`file:line`, the name of a variable, or `default`."""


def effective_options(config: Path | None, env: Mapping[str, str]) -> list[Effective]:
    """Give every option in the order of the reference. Raises ConfigError when a file cannot be read."""
    from aggregator.reference import aggregator_sections

    settings = load_settings(config, env)
    if env.get("MUSTER_LISTEN"):
        settings.tree.setdefault("aggregator", {})["listen"] = env["MUSTER_LISTEN"]
        settings.places["aggregator", "listen"] = "MUSTER_LISTEN"
    sections = [*agent_sections(), *_collector_sections(settings), *aggregator_sections()]
    return [one for section in sections for one in _of_section(settings, section)]


def _collector_sections(settings: Settings) -> list[Section]:
    """Give the sections of the collectors that are to run, as far as they can be loaded."""
    installed = discover()
    only = settings.section("agent").get("only")
    written = settings.section("collectors")
    names = only if isinstance(only, list) and only else [*dict.fromkeys((*DEFAULT_COLLECTORS, *written))]
    sections = []
    for name in names:
        if name not in installed:
            continue
        try:
            sections.append(collector_section(name, load(name)))
        except Exception:  # noqa: BLE001 - a broken plugin has no options to tell; `validate` says that it is broken
            sections.append(Section(f"collectors.{name}", "", []))
    return sections


def _of_section(settings: Settings, section: Section) -> list[Effective]:
    path = tuple(section.path.split("."))
    table: Any = settings.tree
    for part in path:
        table = table.get(part, {}) if isinstance(table, Mapping) else {}
    written = table if isinstance(table, Mapping) else {}
    options = []
    for option in section.options:
        if option.key in written:
            shown = without_secrets(written[option.key], option.key)
            value, origin = toml(shown, option.key), settings.place((*path, option.key))
        else:
            value, origin = option.default, DEFAULT
        if is_secret(option.key) and value not in ("", '""', "[]"):
            value = toml(without_secrets("x", option.key))
        options.append(Effective(section.path, option.key, value, origin))
    known = {option.key for option in section.options}
    options += [
        Effective(section.path, key, toml(without_secrets(value, key), key), settings.place((*path, key)))
        for key, value in written.items()
        if key not in known
    ]
    return options


def as_toml(options: Sequence[Effective], *, origin: bool) -> str:
    """Write options as a configuration file, each with its origin as a comment if wanted."""
    lines: list[str] = []
    section = ""
    for one in options:
        if one.section != section:
            lines += ["", f"[{one.section}]"] if lines else [f"[{one.section}]"]
            section = one.section
        line = f"{one.key} = {one.value}" if one.value else f"# {one.key}: absent"
        lines.append(f"{line}  # {one.origin}" if origin else line)
    return "\n".join(lines) + "\n"
