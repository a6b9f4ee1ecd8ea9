"""`muster clean` and its kin: one device that is refused leaves the others to be done."""

import json

from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import Refusal, Stub


def test_a_device_that_is_refused_is_named_and_the_others_are_done(run: Run, stub: Stub) -> None:
    for name in ("gpu-b", "gpu-c"):
        stub.answers[f"POST /v1/devices/{name}/clean"] = {"id": name, "lifecycle": "cleaning"}
    stub.answers["POST /v1/devices/gpu-a/clean"] = Refusal(409, "it is free, and 'clean' is for what is dirty")
    status, out, err = run("clean", "gpu-a", "gpu-b", "gpu-c")
    assert (1, ["gpu-b", "gpu-c"]) == (status, [line.split()[0] for line in out.splitlines()[1:]])
    assert "muster: gpu-a: it is free" in err
    told = json.loads(run("clean", "gpu-a", "gpu-b", "-o", "json")[1])
    assert ["gpu-a", "gpu-b"] == [one["id"] for one in told]
    assert {"code": "stub", "status": 409}.items() <= told[0]["error"].items()


def test_one_device_that_is_refused_is_an_error_alone(run: Run, stub: Stub) -> None:
    stub.answers["POST /v1/devices/gpu-a/clean"] = Refusal(409, "it is free")
    status, out, err = run("clean", "gpu-a")
    assert (1, "", True) == (status, out, "it is free" in err)
