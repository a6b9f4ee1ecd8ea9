"""What the kernel has of encryption, hashing and compression, and whether hardware does it (R001-2).

Instructions of the processor (AES-NI, SHA) are no hardware here: the processor does the work itself.
Source: linux/crypto/proc.c: `/proc/crypto`, a paragraph for each implementation; the highest priority is taken.
"""

from pathlib import Path
from typing import Final

import msgspec

from collectors._procfs import integer, read_bytes
from schemas.device import Value

_FILE: Final = "proc/crypto"
_KINDS: Final = {
    "skcipher": "encryption",
    "aead": "encryption",
    "ahash": "hashing",
    "shash": "hashing",
    "acomp": "compression",
    "scomp": "compression",
    "compression": "compression",
    "akcipher": "public-key",
    "kpp": "public-key",
}
"""By the kernel's type, what it is called here."""
_ENGINES: Final = (
    *("qat", "intel_qat", "iaa", "ccp", "caam", "cptpf", "cptvf", "octeontx", "rvu_cpt", "hisi_", "nx", "chcr"),
    *("safexcel", "inside_secure", "sa2ul", "mv_cesa", "marvell_cesa", "qce", "stm32", "zynqmp", "keembay", "aspeed"),
)
"""How the modules of engines begin: drivers/crypto of Linux 6.12."""


class Implementation(msgspec.Struct, frozen=True):
    """One way to do one algorithm."""

    name: str
    driver: str
    module: str
    kind: str
    """`encryption`, `hashing`, `compression`, `public-key`; "" for others."""
    priority: int
    usable: bool
    """Whether it passed its test, and is no part of another."""

    @property
    def engine(self) -> bool:
        """Whether a device does it."""
        return self.module.startswith(_ENGINES)


def parse_crypto(data: bytes) -> list[Implementation]:
    """Read `/proc/crypto`. What is no paragraph of it is passed over."""
    found = []
    for paragraph in data.decode("utf-8", "replace").split("\n\n"):
        words = {}
        for line in paragraph.split("\n"):
            name, colon, value = line.partition(":")
            if colon:
                words[name.strip()] = value.strip()
        if "name" in words and "driver" in words:
            usable = words.get("selftest") == "passed" and words.get("internal") != "yes"
            kind = _KINDS.get(words.get("type", ""), "")
            priority = integer(words.get("priority", "").encode()) or 0
            module = words.get("module", "")
            found.append(Implementation(words["name"], words["driver"], module, kind, priority, usable))
    return found


def crypto_facts(root: Path) -> dict[str, Value | None]:
    """Give the node's words: `offloads` and `crypto_engines`; None where nothing is told.

    `hardware`: of some algorithm of that kind the kernel takes a device's implementation.
    """
    data = read_bytes(root / _FILE)
    if data is None:
        return {}
    best: dict[tuple[str, str], Implementation] = {}
    for one in parse_crypto(data):
        key = (one.kind, one.name)
        if one.kind and one.usable and (key not in best or best[key].priority < one.priority):
            best[key] = one
    kinds = sorted({kind for kind, _ in best})
    engines = sorted({one.module for one in best.values() if one.engine})
    hardware = {one.kind for one in best.values() if one.engine}
    offloads = [f"{kind}={'hardware' if kind in hardware else 'software'}" for kind in kinds]
    return {"offloads": offloads or None, "crypto_engines": engines or None}
