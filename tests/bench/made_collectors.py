"""The collectors `nvme` and `sriov` on a machine that was made: all of them but the last step into the kernel.

`tests.bench.made_machine` puts this module, by itself, where an agent finds it as a distribution of its own; so it
imports of Muster only what an agent has. What the kernel would answer lies in a file: by question, as bytes.
"""

from pathlib import Path
from typing import ClassVar, Final

import msgspec

from collectors.contract import Context
from collectors.nvme import NvmeCollector, NvmeConfig
from collectors.nvme.admin import ALL_NAMESPACES, UnsupportedError
from collectors.sriov import SriovCollector
from collectors.sriov.collector import SriovConfig
from collectors.sriov.kernel import NoKernel

ANSWERS: Final = "answers"
"""The file below the made machine's root."""


class MadeNvmeConfig(NvmeConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`nvme`, and where the machine is."""

    root: str
    """The folder that stands for `/`."""


class MadeSriovConfig(SriovConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`sriov`, and where the machine is."""

    root: str
    """The folder that stands for `/`."""


class MadeNvme(NvmeCollector):
    """Reads drives that were made."""

    name: ClassVar[str] = "made_nvme"
    Config: ClassVar[type[NvmeConfig]] = MadeNvmeConfig

    def __init__(self, config: MadeNvmeConfig, context: Context) -> None:
        answers = _answers(config.root)
        super().__init__(config, _moved(context, config.root), open_=lambda path: _Drive(path.name, answers))


class MadeSriov(SriovCollector):
    """Reads ports and functions that were made."""

    name: ClassVar[str] = "made_sriov"
    Config: ClassVar[type[SriovConfig]] = MadeSriovConfig

    def __init__(self, config: MadeSriovConfig, context: Context) -> None:
        answers = _answers(config.root)
        super().__init__(config, _moved(context, config.root), kernel=lambda: _Kernel(answers))


class _Drive:
    """A controller that answers from the file."""

    def __init__(self, name: str, answers: dict[str, bytes]) -> None:
        self._name = name
        self._answers = answers

    def identify(self, cns: int, nsid: int = 0) -> bytes:
        return self._answer(f"identify {self._name} {cns} {nsid}")

    def log_page(self, page: int, size: int, nsid: int = ALL_NAMESPACES) -> bytes:
        return self._answer(f"log_page {self._name} {page}")[:size]

    def close(self) -> None:
        """Nothing is open."""

    def _answer(self, question: str) -> bytes:
        if question not in self._answers:
            raise UnsupportedError(question)
        return self._answers[question]


class _Kernel(NoKernel):
    """rtnetlink and ethtool that answer from the file; nothing else answers."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self._answers = answers

    def link(self, index: int, mask: int) -> bytes:
        return self._answer(f"link {index} {mask}")

    def driver(self, interface: str, question: bytes, room: int) -> bytes:
        return self._answer(f"driver {interface} {question.hex()}").ljust(room, b"\0")

    def devlink(self, command: int, handle: tuple[str, str] | None) -> bytes:
        return self._answer(f"devlink {command} {handle}")

    def _answer(self, question: str) -> bytes:
        if question not in self._answers:
            raise OSError(95, "Operation not supported")
        return self._answers[question]


def _answers(root: str) -> dict[str, bytes]:
    return msgspec.msgpack.decode(Path(root, ANSWERS).read_bytes(), type=dict[str, bytes])


def _moved(context: Context, root: str) -> Context:
    return msgspec.structs.replace(context, root=Path(root))
