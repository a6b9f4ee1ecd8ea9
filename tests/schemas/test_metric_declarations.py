"""A metric cannot be declared in a way that hides its unit or collides with another."""

from typing import Any

import pytest

from schemas.metrics import RESERVED, Catalogue, Category, Kind, MetricSpec, Unit, ValueType
from schemas.rows import CAPABILITY_METRICS, EVENT_METRICS, LOG_METRICS
from schemas.verbosity import Level


def spec(name: str = "gpu.power_watts", unit: Unit = Unit.WATTS, **changes: Any) -> MetricSpec:
    """Give a sound declaration with some facts changed."""
    facts: dict[str, Any] = {
        "kind": Kind.GAUGE,
        "type": ValueType.FLOAT,
        "level": Level.STANDARD,
        "category": Category.ENVIRONMENT,
        "meaning": "m",
        "source": "s",
    }
    return MetricSpec(name=name, unit=unit, **{**facts, **changes})


def test_a_declaration_divides_its_name() -> None:
    assert ("gpu", "power_watts") == (spec().measurement, spec().field)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("fan.rpm", Unit.REVOLUTIONS_PER_MINUTE),
        ("memory.bytes", Unit.BYTES),
        ("cpu.usage_ratio", Unit.RATIO),
        ("net.rate_bytes_per_second", Unit.BYTES_PER_SECOND),
        ("load.processes", Unit.COUNT),
    ],
)
def test_a_name_that_ends_in_its_unit_is_taken(name: str, unit: Unit) -> None:
    assert name == spec(name, unit).name


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("gpu.power", Unit.WATTS),
        ("gpu.power_milliwatts", Unit.WATTS),
        ("gpu.power_watt", Unit.WATTS),
        ("gpu.powerwatts", Unit.WATTS),
        ("net.rate_bytes", Unit.BYTES_PER_SECOND),
        ("cpu.usage_percent", Unit.RATIO),
    ],
)
def test_a_name_that_hides_its_unit_is_refused(name: str, unit: Unit) -> None:
    with pytest.raises(ValueError, match="must end in its unit"):
        spec(name, unit)


def test_a_counter_ends_in_total_after_its_unit() -> None:
    assert "disk.read_bytes_total" == spec("disk.read_bytes_total", Unit.BYTES, kind=Kind.COUNTER).name
    with pytest.raises(ValueError, match="_total"):
        spec("disk.read_bytes", Unit.BYTES, kind=Kind.COUNTER)
    with pytest.raises(ValueError, match="'bytes_total'"):
        spec("disk.read_total", Unit.BYTES, kind=Kind.COUNTER)


@pytest.mark.parametrize(
    "name",
    ["gpu", "gpu.", ".power_watts", "Gpu.power_watts", "gpu.power watts", "gpu.a.power_watts", "1gpu.power_watts",
     "gpu." + "p" * 60 + "_watts", "gpu.power_watts\n", "gpu.p\u00f6wer_watts", "_gpu.power_watts"],
)  # fmt: skip
def test_a_name_that_would_need_quoting_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a usable name"):
        spec(name)


@pytest.mark.parametrize("word", sorted(RESERVED))
def test_what_every_table_has_is_neither_field_nor_attribute(word: str) -> None:
    with pytest.raises(ValueError, match="not a usable name"):
        spec(f"gpu.{word}", Unit.COUNT)
    with pytest.raises(ValueError, match="not a usable name"):
        spec(f"{word}.{word}", Unit.COUNT)
    with pytest.raises(ValueError, match="not a usable name"):
        spec(attributes=(word,))


def test_a_field_and_an_attribute_never_share_a_name() -> None:
    with pytest.raises(ValueError, match="same name"):
        spec("gpu.power_watts", attributes=("power_watts",))
    with pytest.raises(ValueError, match="same name"):
        spec(attributes=("link", "link"))


@pytest.mark.parametrize("value_type", [ValueType.STR, ValueType.BOOL])
def test_texts_and_booleans_have_no_unit(value_type: ValueType) -> None:
    assert spec("gpu.state", Unit.NONE, type=value_type, kind=Kind.STATE).type is value_type
    with pytest.raises(ValueError, match=r"Unit\.NONE"):
        spec("gpu.states", Unit.COUNT, type=value_type)
    with pytest.raises(ValueError, match="a counter is a number"):
        spec("gpu.state_total", Unit.NONE, type=value_type, kind=Kind.COUNTER)


@pytest.mark.parametrize("value_type", [ValueType.INT, ValueType.FLOAT])
def test_numbers_have_a_unit(value_type: ValueType) -> None:
    with pytest.raises(ValueError, match=r"Unit\.NONE"):
        spec("gpu.state", Unit.NONE, type=value_type)


def test_a_catalogue_takes_the_same_declaration_twice() -> None:
    catalogue = Catalogue([spec(), spec()])
    assert ["gpu"] == catalogue.measurements()
    assert {"power_watts": spec()} == catalogue.fields("gpu")


def test_a_catalogue_refuses_two_meanings_of_one_name() -> None:
    with pytest.raises(ValueError, match="declared twice, differently"):
        Catalogue([spec(), spec(meaning="another")])


def test_a_catalogue_refuses_two_shapes_of_one_measurement() -> None:
    with pytest.raises(ValueError, match="has attributes"):
        Catalogue([spec(), spec("gpu.clock_hertz", Unit.HERTZ, attributes=("domain",))])


def test_a_catalogue_answers_nothing_for_what_nobody_declares() -> None:
    catalogue = Catalogue([spec()])
    assert ({}, (), None, None) == (
        catalogue.fields("nic"),
        catalogue.attributes("nic"),
        catalogue.get("gpu", "nope"),
        catalogue.get("nic", "nope"),
    )
    assert spec() == catalogue.get("gpu", "power_watts")


def test_a_catalogue_keeps_the_order_of_declaration() -> None:
    specs = [spec(f"gpu.{letter}_watts") for letter in "zax"]
    assert ["z_watts", "a_watts", "x_watts"] == list(Catalogue(specs).fields("gpu"))


def test_what_muster_declares_itself_forms_a_catalogue() -> None:
    catalogue = Catalogue([*EVENT_METRICS, *LOG_METRICS, *CAPABILITY_METRICS])
    assert ["capability", "event", "log"] == catalogue.measurements()
    assert ("source",) == catalogue.attributes("log")
