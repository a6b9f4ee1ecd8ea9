"""Checkpoint 6, log, ingest, control: who may speak for whom, what is set aside, and what a grant does within a second.

Requirements: R001-9, R001-12, R001-15, R001-18.
"""

import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from collectors.transport import Transport
from schemas.batch import Block, Envelope
from schemas.codec import encode_batch, encode_body
from schemas.publish import Status, decode_answer, encode_request
from schemas.verbosity import Level, RowClass
from tests.acceptance.stage import PATIENCE, Muster, check, main, say, stage, until

CONFIG = """
[agent]
only = ["host"]
[collectors.host]
interval_seconds = 0.5
"""
INTERVAL_SECONDS = 0.5
EFFECT_SECONDS = 1.0
"""DESIGN, promise 6: a grant is pushed within a second."""


def call(
    muster: Muster, method: str, path: str, body: bytes | None, token: str = ""
) -> tuple[int, Any, dict[str, str]]:
    """Ask over the network, with a token or without."""
    connection = http.client.HTTPConnection("127.0.0.1", muster.port, timeout=10)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if body and body[:1] == b"{":
        headers["Content-Type"] = "application/json"
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    found = {name.lower(): value for name, value in answer.getheaders()}
    if found.get("content-type", "").startswith("application/") and "json" in found["content-type"]:
        return answer.status, json.loads(data), found
    return answer.status, data, found


def batch(publisher: str, first: int, subject: str, body: bytes | None = None) -> bytes:
    """Give a batch of two rows."""
    block = Block("load", subject, [], [[""]], [0, 0], time.time_ns(), [0, 1], floats={"one_minute": [1.0, 2.0]})
    envelope = Envelope(publisher, "e1", RowClass.TELEMETRY, Level.STANDARD, first, 2, first)
    return encode_batch(envelope, encode_body([block]) if body is None else body)


def publish(muster: Muster, token: str, publisher: str, *batches: bytes) -> tuple[int, Any, dict[str, str]]:
    """Hand batches in, over the network."""
    request = encode_request(publisher, "e1", "boot", [], "by-hand", list(batches))
    return call(muster, "POST", "/v1/publish", request, token)


def enrolment(muster: Muster) -> str:
    """A one-time enrolment token becomes a node's own, once."""
    made = muster.ask("token", "enrol", "--subject", "by-*", "--uses", "1")
    asked = {"token": made["secret"], "node": "by-hand", "nonce": "0123456789abcdef"}
    status, answer, _ = call(muster, "POST", "/v1/enrol", msgspec.json.encode(asked))
    check(status == 200 and answer["scopes"] == ["ingest:by-hand"], "an enrolment token becomes the node's own token")
    again = asked | {"node": "by-another", "nonce": "fedcba9876543210"}
    status, _, _ = call(muster, "POST", "/v1/enrol", msgspec.json.encode(again))
    check(status in (400, 401, 403), "and no second one")
    token: str = answer["token"]
    return token


def authority(muster: Muster, token: str) -> None:
    """Nobody speaks unasked, and a publisher speaks only for its subjects."""
    check(publish(muster, "", "by-hand", batch("by-hand", 0, "by-hand"))[0] == 401, "without a token: 401")
    wrong = "mst_aaaaaaaaaaaa_" + "b" * 52  # of the right form
    check(publish(muster, wrong, "by-hand", batch("by-hand", 0, "by-hand"))[0] == 401, "with a wrong token: 401")
    status, problem, _ = publish(muster, token, "somebody", batch("somebody", 0, "somebody"))
    check(status == 403 and problem["code"] == "access.denied", "for another publisher: 403, with a stable code")
    check(call(muster, "GET", "/v1/nodes", None, token)[0] == 403, "a node's token does not read")
    check(call(muster, "GET", "/healthz", None)[0] == 200, "health needs no token")

    good, foreign = batch("by-hand", 0, "by-hand"), batch("by-hand", 2, "somebody")
    garbage, rubbish = batch("by-hand", 4, "by-hand", b"no zstd frame"), b"\x93\x01rubbish"
    status, data, _ = publish(muster, token, "by-hand", good, foreign, garbage, rubbish, good)
    results = decode_answer(data).results
    check(
        [one.status for one in results]
        == [Status.ACCEPTED, Status.QUARANTINED, Status.QUARANTINED, Status.QUARANTINED, Status.ACCEPTED],
        "each batch has a result of its own: good ones are taken, bad ones set aside",
    )
    entries = muster.ask("quarantine", "list")
    codes = sorted(one["code"] for one in entries)
    check(codes == ["access.foreign_subject", "wire.malformed", "wire.malformed"], "what was set aside can be listed")
    shown = muster.ask("quarantine", "show", str(entries[0]["id"]))
    check(shown["kept"] == shown["size"] > 0, "and looked into")

    def line() -> dict[str, Any] | None:
        lines = [one for one in muster.ask("balance")["lines"] if one["publisher"] == "by-hand"]
        return lines[0] if lines and lines[0]["done"] == 2 else None

    found = until("the batch to be stored", line)
    check(
        (found["done"], found["quarantined"], found["unaccounted"]) == (2, 4, 0), "and is in the balance, by envelope"
    )

    future = msgspec.msgpack.encode([250, "what", "ever"])
    status, problem, _ = call(muster, "POST", "/v1/publish", future, token)
    check((status, problem["understood"]) == (400, [1]), "an unknown wire version is told what is understood")
    status, problem, _ = call(muster, "POST", "/v1/publish", b"x" * (9 << 20), token)
    check(status == 413, "a request that is too large is refused before it is read")


def succession(muster: Muster, token: str) -> None:
    """One run of a publisher is current."""
    request = encode_request("by-hand", "e2", "another-boot", [], "clone", [batch("by-hand", 9, "by-hand")])
    status, problem, headers = call(muster, "POST", "/v1/publish", request, token)
    check(
        status == 409 and int(headers["retry-after"]) <= 30,
        "a second run of one node is refused, and told when to come",
    )
    check(problem["code"] == "node.refused", "with a stable code")


def rotation(muster: Muster, token: str) -> None:
    """Tokens are replaced and ended."""
    listed = muster.ask("token", "list")
    mine = next(one for one in listed if one["node"] == "by-hand")
    check(token.split("_")[2] not in json.dumps(listed), "no list shows a secret")
    fresh = muster.ask("token", "rotate", mine["id"])["secret"]
    for one in (token, fresh):
        check(publish(muster, one, "by-hand", batch("by-hand", 6, "by-hand"))[0] == 200, "after rotation both are good")
    muster.ask("token", "revoke", mine["id"], "--yes")
    for one in (token, fresh):
        check(publish(muster, one, "by-hand", batch("by-hand", 8, "by-hand"))[0] == 401, "after revocation neither is")


def local(muster: Muster, path: str) -> Any:
    """Ask over the local socket, without starting a program."""
    transport = Transport([f"unix://{muster.data_dir / 'muster.sock'}"])
    try:
        answer = transport.request("GET", path, None)
    finally:
        transport.close()
    return json.loads(answer.body)


def first_row(muster: Muster) -> int | None:
    """Give the oldest time among the last values per core, in nanoseconds; None while there are none.

    Of a counter: a ratio needs two collections, and the second is not sent at once.
    """
    found = local(muster, "/v1/query?measurement=cpu_core&fields=user_seconds_total&last=true")
    at = [column["name"] for column in found["columns"]].index("time")
    times: list[int] = found["data"][at]
    return min(times, default=None)


def verbosity(muster: Muster) -> None:
    """R001-12: a grant takes effect within a second, is listed, and ends by itself."""
    cores = ("cpu_core", "usage_ratio", "--since", "5m")
    check(not muster.rows(*cores), "rows per core are above the configured level: none are stored")
    node = muster.ask("nodes")[0]["node"]["id"]
    began = time.monotonic()
    muster.ask("verbosity", "set", node, "detailed", "--for", "4s", "--reason", "acceptance")
    commanded = time.monotonic() - began
    stored = until("rows per core", lambda: first_row(muster))
    seen = time.monotonic() - began
    [grant] = local(muster, "/v1/verbosity")
    took = grant["acknowledged_after"][node]
    row = (stored - grant["grant"]["created_ns"]) / 1e9
    say(
        f"from the grant to its acknowledgement {took:.3f} s, to the first row's own time {row:.3f} s;"
        f" from starting 'muster verbosity set' to its end {commanded:.2f} s, to the first row in an answer"
        f" {seen:.2f} s"
    )
    check(took <= EFFECT_SECONDS, "a grant is acknowledged by the node within a second, by the aggregator's clock")
    check(row <= EFFECT_SECONDS + INTERVAL_SECONDS, "and rows per core are taken from the next collection on")
    until("the grant to end", lambda: not muster.ask("verbosity", "list"))
    time.sleep(6)
    before = len(muster.rows(*cores))
    time.sleep(3)
    check(len(muster.rows(*cores)) == before, "the grant ended by itself: no more rows per core")
    refused = muster.run("verbosity", "set", node, "loud", "--for", "4s")
    check(
        refused.returncode != 0 and "detailed" in refused.stderr,
        "a level that is none is refused, and those that are, told",
    )


def script(folder: Path) -> None:
    """Go through all of it on one Muster."""
    with stage(folder, CONFIG) as muster:
        muster.start("up")
        muster.ready()
        until("this node", lambda: muster.ask("nodes"))
        token = enrolment(muster)
        authority(muster, token)
        succession(muster, token)
        rotation(muster, token)
        verbosity(muster)
        check(muster.balance(wait=PATIENCE)["closed"], "the balance closes")


if __name__ == "__main__":
    sys.exit(main(script))
