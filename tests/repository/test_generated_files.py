"""What is generated is current, and what it shows is true."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from aggregator.config import SECTIONS, AggregatorConfig, load_aggregator_config
from aggregator.reference import aggregator_sections, generate, own_collectors, sample, schema_of
from collectors.config import load_agent_config
from collectors.reference import Section, agent_sections, collector_section
from collectors.registry import load
from tests.needs import REPOSITORY


def sections() -> list[Section]:
    """Give every section that is documented."""
    return [
        *agent_sections(),
        *(collector_section(name, load(name)) for name in own_collectors()),
        *aggregator_sections(),
    ]


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return generate(own_collectors())


@pytest.fixture
def everything_uncommented(tmp_path: Path) -> Path:
    """The sample configuration with every option uncommented."""
    path = tmp_path / "muster.toml"
    path.write_text(re.sub(r"^#(?=[a-z\[])", "", sample(sections()), flags=re.MULTILINE))
    return path


def test_every_generated_file_is_current(generated: dict[str, str]) -> None:
    """`make docs` writes them."""
    found = {
        name: (REPOSITORY / name).read_text(encoding="utf-8") for name in generated if (REPOSITORY / name).is_file()
    }
    assert [] == [name for name in generated if found.get(name) != generated[name]]


def test_no_page_of_a_collector_that_is_gone_stays(generated: dict[str, str]) -> None:
    pages = {f"docs/reference/{path.name}" for path in (REPOSITORY / "docs" / "reference").glob("*.md")}
    assert {name for name in generated if name.startswith("docs/reference/")} == pages


def test_every_option_has_a_sentence() -> None:
    assert [] == [f"{section.path}.{one.key}" for section in sections() for one in section.options if not one.help]


def test_the_sample_changes_nothing_as_it_is(generated: dict[str, str]) -> None:
    assert {} == tomllib.loads(generated["docs/muster.sample.toml"])


def test_the_sample_shows_the_defaults_of_the_aggregator(everything_uncommented: Path, tmp_path: Path) -> None:
    env = {"MUSTER_DATA_DIR": str(tmp_path)}
    assert AggregatorConfig(data_dir=tmp_path) == load_aggregator_config(everything_uncommented, env)


def test_the_sample_shows_the_defaults_of_the_agent(everything_uncommented: Path, tmp_path: Path) -> None:
    env = {"MUSTER_DATA_DIR": str(tmp_path)}
    known = {name: load(name).Config for name in own_collectors()}
    shown, bare = load_agent_config(everything_uncommented, known, env), load_agent_config(None, known, env)
    assert (bare.agent, bare.publish, bare.spool) == (shown.agent, shown.publish, shown.spool)
    assert set(known) == {one.name for one in shown.collectors}


@pytest.mark.parametrize("name", own_collectors())
def test_the_sample_shows_the_defaults_of_each_collector(name: str, everything_uncommented: Path) -> None:
    written = tomllib.loads(everything_uncommented.read_text())["collectors"][name]
    config = load(name).Config
    options = {key: value for key, value in written.items() if key in config.__struct_fields__}
    import msgspec

    assert config() == msgspec.convert(options, config)


def test_the_schema_knows_exactly_the_sections_and_options_that_there_are(generated: dict[str, str]) -> None:
    schema: dict[str, Any] = schema_of(sections())
    tables = {name: set(table["properties"]) for name, table in schema["properties"].items() if name != "collectors"}
    assert {name: set(model.model_fields) for name, model in SECTIONS.items()} == {
        name: tables[name] for name in SECTIONS
    }
    assert set(own_collectors()) == set(schema["properties"]["collectors"]["properties"])


def test_every_reference_inside_the_schema_leads_somewhere(generated: dict[str, str]) -> None:
    text = generated["docs/muster.schema.json"]
    wanted = set(re.findall(r'"#/\$defs/([^"]+)"', text))
    assert wanted <= set(schema_of(sections())["$defs"])


def test_every_metric_is_on_the_page_of_its_collector(generated: dict[str, str]) -> None:
    missing = [
        spec.name
        for name in own_collectors()
        for spec in load(name).METRICS
        if f"| `{spec.field}`" not in generated[f"docs/reference/{name}.md"]
    ]
    assert [] == missing
