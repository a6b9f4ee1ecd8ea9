"""Encryption, hashing and compression of a node, and whether a device does them (R001-2)."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from collectors.host_crypto import crypto_facts, parse_crypto
from collectors.host_machine import describe_machine


def paragraph(
    name: str, driver: str, kind: str, *, module: str = "kernel", priority: int = 100, internal: str = "no"
) -> str:
    """Give one implementation as the kernel writes it."""
    return (
        f"name         : {name}\ndriver       : {driver}\nmodule       : {module}\npriority     : {priority}\n"
        f"refcnt       : 1\nselftest     : passed\ninternal     : {internal}\ntype         : {kind}\n\n"
    )


SOFTWARE = (
    paragraph("gcm(aes)", "generic-gcm-aesni", "aead", module="aesni_intel", priority=400)
    + paragraph("sha256", "sha256-generic", "shash")
    + paragraph("deflate", "deflate-scomp", "scomp")
    + paragraph("stdrng", "drbg_nopr_ctr_aes128", "rng")
)


def _facts(root: Path, text: str) -> object:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/crypto").write_text(text)
    return crypto_facts(root)


def test_what_the_processor_does_is_software(tmp_path: Path) -> None:
    assert {
        "offloads": ["compression=software", "encryption=software", "hashing=software"],
        "crypto_engines": None,
    } == _facts(tmp_path, SOFTWARE)


def test_engine_that_the_kernel_takes_is_hardware(tmp_path: Path) -> None:
    engine = paragraph("gcm(aes)", "qat_aes_gcm", "aead", module="intel_qat", priority=4001)
    assert {
        "offloads": ["compression=software", "encryption=hardware", "hashing=software"],
        "crypto_engines": ["intel_qat"],
    } == _facts(tmp_path, SOFTWARE + engine)


def test_engine_that_others_are_taken_before_is_not(tmp_path: Path) -> None:
    engine = paragraph("gcm(aes)", "qat_aes_gcm", "aead", module="intel_qat", priority=100)
    inner = paragraph("cbc(aes)", "cbc-aes-ccp", "skcipher", module="ccp_crypto", priority=900, internal="yes")
    assert {
        "offloads": ["compression=software", "encryption=software", "hashing=software"],
        "crypto_engines": None,
    } == _facts(tmp_path, SOFTWARE + engine + inner)


def test_node_tells_it_and_one_without_the_file_does_not(tmp_path: Path) -> None:
    node = next(iter(describe_machine(tmp_path)))
    assert "offloads" not in node.capabilities
    _facts(tmp_path, SOFTWARE)
    assert "encryption=software" in str(next(iter(describe_machine(tmp_path))).capabilities["offloads"])


@given(st.binary(max_size=300))
def test_whatever_stands_there_is_read(data: bytes) -> None:
    assert isinstance(parse_crypto(data), list)
