"""`muster variants` and `packages`: what operators name is listed, set and removed by one way."""

from typing import Any

import pytest

from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import Refusal, Stub

VARIANT: dict[str, Any] = {
    "name": "V100", "kind": "gpu", "vendor": "10de", "device": "1db4", "revision": "", "devices": 6,
}  # fmt: skip
PACKAGE: dict[str, Any] = {
    "name": "large", "amounts": {"vcpus": 4}, "devices": [{"variant": "V100", "count": 2}],
}  # fmt: skip


def test_variants_are_listed_and_none_says_how_to_name_one(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/variants"] = [VARIANT]
    assert ["V100", "gpu", "10de", "1db4", "any", "6"] == run("variants")[1].splitlines()[1].split()
    stub.answers["GET /v1/variants"] = []
    assert "name one with 'muster variants set'" in run("variants")[1]


def test_a_variant_is_set_by_its_name_as_it_is_written(run: Run, stub: Stub) -> None:
    stub.answers["PUT /v1/variants/V100%2F32"] = VARIANT
    status, _, err = run("variants", "set", "V100/32", "--kind", "gpu", "--vendor", "10de", "--device", "1db4")
    assert (0, "") == (status, err)
    body = {"kind": "gpu", "vendor": "10de", "device": "1db4", "revision": ""}
    assert ("PUT /v1/variants/V100%2F32", body) == stub.asked[-1]


def test_a_package_is_set_with_amounts_and_devices(run: Run, stub: Stub) -> None:
    stub.answers["PUT /v1/packages/large"] = PACKAGE
    status, out, _ = run("packages", "set", "large", "--amount", "vcpus=4", "--devices", "V100=2")
    assert (0, ["large", "2", "V100", "4", "-", "-"]) == (status, out.splitlines()[1].split())
    assert {"amounts": {"vcpus": 4}, "devices": [{"variant": "V100", "count": 2}]} == stub.asked[-1][1]


@pytest.mark.parametrize("text", ["vcpus", "=4", "vcpus=four", "vcpus=-1"])
def test_an_amount_that_is_none_is_refused_before_anything_is_asked(run: Run, stub: Stub, text: str) -> None:
    status, _, err = run("packages", "set", "large", "--amount", text)
    assert (1, []) == (status, stub.asked)
    assert "write NAME=NUMBER, such as vcpus=4" in err


@pytest.mark.parametrize("what", ["variant", "package"])
def test_removing_says_what_is_removed_and_what_there_is_not(run: Run, stub: Stub, what: str) -> None:
    stub.answers[f"DELETE /v1/{what}s/old"] = {}
    assert (0, f"{what} old is removed\n") == run(f"{what}s", "remove", "old")[:2]
    stub.answers[f"DELETE /v1/{what}s/older"] = Refusal(404, f"there is no {what} 'older'. Did you mean 'old'?")
    status, _, err = run(f"{what}s", "remove", "older")
    assert 1 == status
    assert "Did you mean 'old'?" in err
