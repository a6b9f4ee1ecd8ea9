"""From `muster token enrol` to rows over TLS, with nothing set at the node but an address and a token (R001-18)."""

from pathlib import Path

from tests.acceptance.stage import Muster, stage, until
from tests.certificates import Authority
from tests.faults.rig import Bench

AGGREGATOR = "[aggregator]\ntls_certificate = '{0}'\ntls_key = '{1}'\ntls_authority = '{2}'\n"
NODE = "[agent]\nnode_id = 'n1'\nonly = ['host']\n"


def configure(muster: Muster, signer: Authority, bundle: Path) -> None:
    muster.config.write_text(AGGREGATOR.format(*signer.certificate(), bundle))


def start(muster: Muster) -> None:
    muster.start("aggregator")
    until("the aggregator", lambda: Bench(muster).get("/v1/status"))


def restart(muster: Muster) -> None:
    muster.stop("aggregator")
    start(muster)


def reporting(muster: Muster) -> bool:
    [state] = [view["state"] for view in muster.ask("nodes") if view["node"]["id"] == "n1"] or [""]
    return bool(state == "live")


def test_a_node_enrols_pins_and_follows_a_change_of_the_authority(tmp_path: Path) -> None:
    first, second = Authority(tmp_path / "first", "first"), Authority(tmp_path / "second", "second")
    bundle = tmp_path / "authority.pem"
    bundle.write_text(first.pem)
    with stage(tmp_path / "aggregator") as muster, stage(tmp_path / "node", NODE) as node:
        configure(muster, first, bundle)
        start(muster)
        made = muster.run("token", "enrol", "--subject", "n1")
        token = made.stdout.strip()
        assert token.endswith(f"_{first.fingerprint}")
        assert f"sha256:{first.fingerprint}" in made.stderr
        address = {"MUSTER_PUBLISH__AGGREGATORS": f'["https://127.0.0.1:{muster.port}"]'}
        node.start("agent", env=address | {"MUSTER_PUBLISH__ENROLMENT_TOKEN": token})
        until("rows over TLS", lambda: Bench(muster).get("/v1/status")["ingest"]["rows"])
        kept = node.data_dir / "agent" / "authority.pem"
        assert first.pem in kept.read_text()
        assert "publish_failed" not in node.log()

        bundle.write_text(first.pem + second.pem)
        restart(muster)
        until("the next authority", lambda: second.pem in kept.read_text(), 40)
        configure(muster, second, bundle)
        restart(muster)
        until("the node under the next authority", lambda: reporting(muster), 40)

        third = Authority(tmp_path / "third", "third")
        bundle.write_text(third.pem)
        configure(muster, third, bundle)
        restart(muster)
        until("the refusal", lambda: "was pinned at enrolment" in node.log(), 40)
