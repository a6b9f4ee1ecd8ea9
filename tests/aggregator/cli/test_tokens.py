import json
import time
from typing import Any

from aggregator.cli.token import tokens_table
from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import Refusal, Stub

_TOKEN = {"id": "k3v9aaaaaaaa", "name": "grafana", "scopes": ["read"], "used_ns": None, "expires_ns": None,
          "revoked_ns": None, "node": None}  # fmt: skip


def test_create_prints_the_secret_alone_so_that_a_shell_can_take_it(run: Run, stub: Stub) -> None:
    stub.answers["POST /v1/tokens"] = {"token": _TOKEN, "secret": "mst_k3v9aaaaaaaa_x"}
    status, out, err = run("token", "create", "grafana", "--scope", "read", "--scope", "claims:t1", "--expires", "30d")
    assert (0, "mst_k3v9aaaaaaaa_x\n") == (status, out)
    assert "only time" in err
    body = {"name": "grafana", "scopes": ["read", "claims:t1"], "expires_seconds": 30 * 86400.0}
    assert ("POST /v1/tokens", body) in stub.asked


def test_create_without_expiry_sends_none_not_zero(run: Run, stub: Stub) -> None:
    stub.answers["POST /v1/tokens"] = {"token": _TOKEN, "secret": "mst_k3v9aaaaaaaa_x"}
    run("token", "create", "grafana", "--scope", "read")
    assert ("POST /v1/tokens", {"name": "grafana", "scopes": ["read"], "expires_seconds": None}) in stub.asked


def test_enrol_names_the_option_that_takes_it(run: Run, stub: Stub) -> None:
    made = {"id": "e1", "uses": 50, "expires_ns": time.time_ns() + 3600 * 10**9}
    stub.answers["POST /v1/enrolments"] = {"enrolment": made, "secret": "mse_e1_x", "authority_sha256": None}
    status, out, err = run("token", "enrol", "--subject", "gpu-*", "--uses", "50", "--expires", "1h")
    assert (0, "mse_e1_x\n") == (status, out)
    assert "publish.enrolment_token" in err
    body = {"name": "enrol gpu-*", "subjects": ["gpu-*"], "uses": 50, "expires_seconds": 3600.0}
    assert ("POST /v1/enrolments", body) in stub.asked


def test_revoke_ends_either_kind(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/enrolments"] = [{"id": "e1"}]
    stub.answers["DELETE /v1/enrolments/e1"] = {"revoked": ["e1"]}
    stub.answers["DELETE /v1/tokens/t1"] = {"revoked": ["t1", "t0"]}
    assert run("token", "revoke", "e1", "-y")[1] == "revoked e1\n"
    assert run("token", "revoke", "t1", "-y")[1] == "revoked t1, t0\n"


def test_rotate_passes_the_time_of_grace(run: Run, stub: Stub) -> None:
    def rotated(given: dict[str, str], _: object) -> object:
        return {"token": {**_TOKEN, "id": "new"}, "secret": f"mst_new_{given['grace_seconds']}"}

    stub.answers["POST /v1/tokens/old/rotate"] = rotated
    assert run("token", "rotate", "old", "--grace", "2h")[1] == "mst_new_7200.0\n"


def test_rotate_tells_whether_the_node_was_handed_its_own(run: Run, stub: Stub) -> None:
    made = {"token": {**_TOKEN, "id": "new", "node": "gpu-17"}, "secret": "mst_new_x", "handed": True}
    stub.answers["POST /v1/tokens/old/rotate"] = made
    assert "It is handed to gpu-17 now" in run("token", "rotate", "old")[2]
    stub.answers["POST /v1/tokens/old/rotate"] = {**made, "handed": False}
    assert "gpu-17 is not connected: write it there to publish.token" in run("token", "rotate", "old")[2]


def test_refusal_is_told_in_the_servers_words(run: Run, stub: Stub) -> None:
    stub.answers["POST /v1/tokens"] = Refusal(400, "there is no scope 'rea'; scopes are read, admin")
    status, _, err = run("token", "create", "x", "--scope", "rea")
    assert (1, "muster: there is no scope 'rea'; scopes are read, admin\n") == (status, err)


def test_list_tells_revoked_expired_and_endless_apart() -> None:
    now = 10**18
    tokens: list[dict[str, Any]] = [
        _TOKEN,
        {**_TOKEN, "revoked_ns": now - 1},
        {**_TOKEN, "expires_ns": now - 1},
        {**_TOKEN, "expires_ns": now + 7200 * 10**9, "used_ns": now - 5 * 10**9},
    ]
    table = tokens_table(tokens, now)
    assert [["-", "never"], ["-", "revoked"], ["-", "expired"], ["5 s", "2 h"]] == [row[-2:] for row in table.rows]


def test_json_of_enrolments_is_the_answer_itself(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/enrolments"] = []
    assert json.loads(run("token", "enrolments", "-o", "json")[1]) == []


def test_empty_list_points_to_the_tokens_for_new_nodes(run: Run, stub: Stub) -> None:
    stub.answers["GET /v1/tokens"] = []
    assert "'muster token enrolments'" in run("token", "list")[1]
