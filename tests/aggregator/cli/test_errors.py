"""What programs get when a command fails: an object in the place of the answer, the sentence on standard error."""

import json

import pytest

from aggregator.cli import main
from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import Refusal, Stub


def test_a_refusal_is_an_object_with_the_aggregators_code_and_all_that_it_says(run: Run, stub: Stub) -> None:
    objection = {"reason": "lifecycle.reserved", "message": "gpu-a is reserved"}
    stub.answers["POST /v1/claims"] = Refusal(409, "gpu-a is reserved", "claim.refused", objections=[objection])
    words = ("claims", "create", "gpu-a", "--tenant", "blue", "--for", "vm")
    status, out, err = run(*words, "-o", "json")
    expected = {"code": "claim.refused", "message": "gpu-a is reserved", "status": 409, "objections": [objection]}
    assert (1, {"error": expected}, "muster: gpu-a is reserved\n") == (status, json.loads(out), err)
    assert 1 == out.count("\n")  # where commands print a line for each answer it is one more
    assert "" == run(*words)[1]


def test_yaml_has_the_same(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/claims/c-1"] = Refusal(404, "there is no claim c-1", "claim.unknown")
    out = run("claims", "show", "c-1", "-o", "yaml")[1]
    assert ['"error":', '  "code": "claim.unknown"', '  "message": "there is no claim c-1"', '  "status": 404'] == (
        out.splitlines()
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("place", "--need", "H100:0", "--tenant", "b", "--for", "x"), "cli.word"),
        (("nodes", "drain", "rack1-gpu4"), "cli.word"),
        (("devices", "gpu-a", "--ca-file", "/nowhere"), "cli.server"),
    ],
)
def test_what_is_refused_before_anybody_is_asked_has_a_code_too(run: Run, words: tuple[str, ...], code: str) -> None:
    status, out, err = run(*words, "-o", "json")
    told = json.loads(out)["error"]
    assert (1, code, f"muster: {told['message']}\n") == (status, told["code"], err)


def test_a_web_server_that_answers_everything_with_a_page_is_no_aggregator(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/devices"] = "<html>welcome</html>"
    status, _, err = run("devices")
    assert (1, True) == (status, "is it a Muster aggregator?" in err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("devices", "--kind", "gup", "-o", "json"), "argument --kind: there is no 'gup'. Did you mean 'gpu'?"),
        (("-ojson", "devics"), "there is no 'devics'. Did you mean 'devices'?"),
        (("nodes", "fence", "gpu-17", "--output=json"), "one of the arguments --bmc --statement --power is required"),
        (("devices", "--out", "json", "gpu-a", "gpu-b"), "gpu-b: nothing takes this."),
        (("nodes", "drain", "-o", "json"), "the following arguments are required: NODE"),
    ],
)
def test_a_command_line_that_is_none_is_an_object_for_programs(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    out, err = capsys.readouterr()
    assert (2, {"error": {"code": "cli.usage", "message": message}}) == (left.value.code, json.loads(out))
    assert message in err.splitlines()[0]


@pytest.mark.parametrize(
    "words",
    [
        ("devics",),
        ("devics", "-o", "table"),
        ("devics", "--", "-o", "json"),
        ("devices", "-o", "jsno"),
        ("devices", "a", "b", "-o", "json", "-o", "wide"),
    ],
)
def test_who_reads_it_gets_the_sentence_alone(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    out, err = capsys.readouterr()
    assert (2, "") == (left.value.code, out)
    assert err.startswith("muster")
