"""Writes the generated documentation: `python -m aggregator.reference`, or `make docs`.

One page per installed collector of this distribution, one of every option, a sample configuration and a JSON Schema for
editors. A test compares what is in the repository with what this gives.
"""

import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from aggregator.config import SECTIONS
from aggregator.ledger.transitions import FIRST_SIGHT, TRANSITIONS, Ground
from aggregator.ledger.words import Lifecycle
from collectors.reference import (
    GENERATED,
    Option,
    Section,
    agent_sections,
    collector_page,
    collector_section,
    events_table,
    first_paragraph,
    options_table,
    toml,
)
from collectors.registry import OWN_DISTRIBUTION, discover, load
from schemas.events import AGENT_EVENTS, AGGREGATOR_EVENTS

_WHO: Final = {"agent": "agent", "publish": "agent", "spool": "agent", "collectors": "agent"}
_HOW_IT_IS_READ: Final = """\
One TOML file, then `conf.d/*.toml` beside it in order of names, then the environment; later wins. An option `key` of
`[section]` is also `MUSTER_SECTION__KEY`. `${NAME}` in a text is replaced from the environment, and `file:/path` as a
whole text by that file's content. `muster validate` checks everything and changes nothing."""

_HOW_EVENTS_ARE_READ: Final = """\
`muster query event` asks for events, `muster tap --class event` shows them as they pass. An event has a `type`, stable
once released, a `severity` (RFC 5424), a `message` for people, and for programs a JSON object of facts, `detail`, with
some of the names below."""

_HOW_A_DEVICE_GOES_ON: Final = """\
Where a device is in its life, whoever asks: `muster devices ID --history` shows how it came there. These are all ways
on; what is not here does not happen. Nothing leads from what may have been used to `free` but evidence or an
attestation. Each rests on one ground:"""
_GROUNDS: Final = {
    Ground.CLAIM: "a decision about a claim, by who may make it",
    Ground.NODE: "the node's confirmation, which quotes the claim's epoch",
    Ground.EVIDENCE: "a typed record of the device's own readback, newer than its last release, of this very part",
    Ground.ATTESTATION: "an operator's recorded word, or the BMC's that the machine is off",
    Ground.FACT: "what collectors report",
    Ground.TIME: "a lease or a deadline ran out, by the leader's monotonic clock",
    Ground.OPERATOR: "an operator's decision that needs no proof, because it takes away",
}


def aggregator_sections() -> list[Section]:
    """Give the aggregator's sections, in the order in which they are read."""
    sections = []
    for name, model in SECTIONS.items():
        schema = model.model_json_schema(ref_template="#/$defs/{model}")
        options = [_option(key, field, schema["properties"][key]) for key, field in model.model_fields.items()]
        sections.append(Section(name, first_paragraph(model.__doc__ or ""), options, schema.get("$defs", {})))
    return sections


def _option(key: str, field: FieldInfo, schema: dict[str, Any]) -> Option:
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    described = " ".join((field.description or "").split())
    return Option(key, toml(default, key), described, {**schema, "description": described})


def own_collectors() -> list[str]:
    """Give the names of the collectors of this distribution."""
    return [entry.name for entry in discover().values() if entry.distribution == OWN_DISTRIBUTION]


def generate(collectors: Iterable[str]) -> dict[str, str]:
    """Give every generated file: its text by its path below the root of the repository."""
    classes = {name: load(name) for name in collectors}
    own = {name: collector_section(name, collector) for name, collector in classes.items()}
    sections = [*agent_sections(), *own.values(), *aggregator_sections()]
    pages = {f"docs/reference/{name}.md": collector_page(name, classes[name], own[name]) for name in classes}
    return {
        **pages,
        "docs/reference/README.md": _index(classes),
        "docs/reference/configuration.md": _configuration(sections),
        "docs/reference/events.md": _events(classes),
        "docs/reference/lifecycle.md": _lifecycle(),
        "docs/muster.sample.toml": sample(sections),
        "docs/muster.schema.json": json.dumps(schema_of(sections), indent=2, ensure_ascii=False) + "\n",
    }


def _index(classes: dict[str, type[Any]]) -> str:
    lines = [GENERATED, "", "# Reference", "", "Every measurement and option of every collector:", ""]
    lines += [f"- [`{name}`]({name}.md): {first_paragraph(one.__doc__ or '')}" for name, one in classes.items()]
    lines += [
        "",
        "Every event that there can be: [events](events.md).",
        "Every way on of a device, from free to free again: [lifecycle](lifecycle.md).",
        "Every option of agent and aggregator: [configuration](configuration.md).",
        "A [sample](../muster.sample.toml), and a [JSON Schema](../muster.schema.json) for editors.",
    ]
    return "\n".join(lines) + "\n"


def _events(classes: dict[str, type[Any]]) -> str:
    lines = [GENERATED, "", "# Events", "", _HOW_EVENTS_ARE_READ, ""]
    told = {
        "Of the agent": AGENT_EVENTS,
        "Of the aggregator": AGGREGATOR_EVENTS,
        **{f"Of the collector `{name}`": getattr(one, "EVENTS", ()) for name, one in classes.items()},
    }
    for who, specs in told.items():
        lines += [f"## {who}", "", *events_table(specs)] if specs else []
    return "\n".join(lines).rstrip() + "\n"


def _lifecycle() -> str:
    grounds = [f"- *{ground.value}*: {_GROUNDS[ground]}" for ground in Ground]
    lines = [GENERATED, "", "# Lifecycle of a device", "", _HOW_A_DEVICE_GOES_ON, "", *grounds, ""]
    lines += ["| from | cause | to | ground | meaning |", "|---|---|---|---|---|"]
    for line in sorted(TRANSITIONS, key=lambda one: list(Lifecycle).index(one.source)):
        told = (line.source.value, f"`{line.cause}`", line.target.value, line.ground.value, line.meaning)
        lines.append(f"| {' | '.join(told)} |")
    lines += ["", "What a device begins as, by what its first sight was:", ""]
    lines += [f"- `{cause}`: {begun.value}" for cause, begun in FIRST_SIGHT.items()]
    return "\n".join(lines) + "\n"


def _configuration(sections: Sequence[Section]) -> str:
    lines = [
        GENERATED,
        "",
        "# Configuration",
        "",
        _HOW_IT_IS_READ,
        "",
    ]
    for section in sections:
        who = _WHO.get(section.path.partition(".")[0], "aggregator")
        summary = section.summary.removeprefix(f"`[{section.path}]`: ")
        lines += [f"## `[{section.path}]`", "", f"Read by the {who}: {summary}", "", *options_table(section)]
    return "\n".join(lines).rstrip() + "\n"


def sample(sections: Sequence[Section]) -> str:
    """Give a configuration that changes nothing: every option with its meaning and default, as a comment.

    `#key` (no blank) is an option to uncomment, `# text` is text.
    """
    lines = [
        "# Muster: every option, with its default. Generated by `make docs`.",
        "# Uncomment the header of a section and what you want to change in it.",
    ]
    for section in sections:
        lines += ["", f"#[{section.path}]"]
        for option in section.options:
            lines += textwrap.wrap(option.help, 110, initial_indent="# ", subsequent_indent="# ")
            lines.append(
                f"#{option.key} = {option.default}" if option.default else f"# {option.key}: absent by default"
            )
    return "\n".join(lines) + "\n"


def schema_of(sections: Sequence[Section]) -> dict[str, Any]:
    """Give the JSON Schema of the configuration file; collectors of other distributions may say what they like."""
    definitions: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    collectors: dict[str, Any] = {}
    for section in sections:
        definitions.update(section.definitions)
        head, _, tail = section.path.partition(".")
        into, name = (collectors, tail) if tail else (tables, head)
        into[name] = {
            "type": "object",
            "description": section.summary,
            "properties": {option.key: dict(option.schema) for option in section.options},
            "additionalProperties": False,
        }
    tables["collectors"] = {
        "type": "object",
        "description": "One table for each collector.",
        "properties": collectors,
        "additionalProperties": {"type": "object"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Muster's configuration",
        "type": "object",
        "properties": tables,
        "additionalProperties": False,
        "$defs": definitions,
    }


def main() -> int:
    """Write what changed below the working directory, which must be the root of the repository."""
    if not Path("pyproject.toml").is_file():
        sys.stderr.write("run it in the root of the repository: it writes docs/\n")
        return 2
    files = generate(own_collectors())
    for stale in set(map(str, Path("docs/reference").glob("*.md"))) - set(files):
        Path(stale).unlink()
    for name, text in files.items():
        path = Path(name)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
