"""Beyond this machine only with TLS: refused without, unless told in so many words; a real run with a pinned CA."""

import datetime
import ipaddress
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from collectors.config import INSECURE_WORDS
from tests.acceptance.stage import Muster, stage, until
from tests.faults.rig import Bench, ask, config


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        made = self._begin(self._name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        made = made.add_extension(usage, True)
        self._write(self.file, made.sign(self._key, hashes.SHA256()))

    def issue(self, host: str) -> tuple[Path, Path]:
        """Give certificate and key for an address."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        made = self._begin(subject, key).add_extension(names, False).sign(self._key, hashes.SHA256())
        certificate, key_file = self._folder / "server.pem", self._folder / "server.key"
        self._write(certificate, made)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, key_file

    def _begin(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        made = made.not_valid_after(now + datetime.timedelta(days=1))
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return made.add_extension(identifier, False).add_extension(own, False)

    @staticmethod
    def _write(path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize("told", [False, True])
def test_listening_beyond_loopback_without_tls_must_be_told_in_so_many_words(tmp_path: Path, told: bool) -> None:
    """Exit 78 with the way out in the message; with the words written, it listens (R003)."""
    with stage(tmp_path, config(aggregator=f"insecure_listen = '{INSECURE_WORDS}'" if told else "")) as muster:
        muster.env["MUSTER_LISTEN"] = f"0.0.0.0:{muster.port}"
        process = muster.start("aggregator")
        if told:
            bench = Bench(muster)
            bench.ready()
            assert 401 == ask(muster.address, "GET", "/v1/status").status
            assert 401 == ask(muster.address, "GET", "/metrics").status
            return
        assert 78 == until("its end", process.poll)
        assert "insecure_listen" in muster.log()
        assert "tls_certificate" in muster.log()


def test_agent_publishes_over_tls_with_its_token_and_a_wrong_authority_is_refused(tmp_path: Path) -> None:
    """The pinned authority alone is believed: with another one nothing is sent, and the log says why."""
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    certificate, key = ours.issue("127.0.0.1")
    tls = f"tls_certificate = '{certificate}'\ntls_key = '{key}'"
    with stage(tmp_path / "m", config(agent='node_id = "node-1"', aggregator=tls)) as muster:
        bench = Bench(muster)
        muster.start("aggregator")
        bench.ready()
        made = muster.ask("token", "create", "node", "--scope", "ingest:node-1")
        secret = tmp_path / "token"
        secret.write_text(made["secret"])
        secret.chmod(0o600)
        address = f"https://127.0.0.1:{muster.port}"
        settings = muster.config.read_text()
        publish = f"[publish]\naggregators = ['{address}']\ntoken = 'file:{secret}'\n"
        muster.config.write_text(f"{settings}{publish}ca_file = '{other.file}'\n")
        muster.start("agent")
        until("the refusal", lambda: "CERTIFICATE_VERIFY_FAILED" in muster.log())
        bench.grows()
        assert [] == [one for one in bench.get("/v1/balance")["lines"] if one["publisher"] == "node-1"]
        muster.stop("agent")

        muster.config.write_text(f"{settings}{publish}ca_file = '{ours.file}'\n")
        muster.start("agent")
        until("rows over TLS", lambda: _is_stored(muster))
        bench.quiesce().expect_exact()

        reached = ask(address, "GET", "/v1/status", token=made["secret"], ca_file=ours.file)
        assert 403 == reached.status  # who may publish may not read
        assert "access" in msgspec.json.decode(reached.body)["code"]


def _is_stored(muster: Muster) -> bool:
    found = Bench(muster).get("/v1/query", measurement="oracle", limit=1)
    return bool(found and found["rows"])
