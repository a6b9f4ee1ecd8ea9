"""What a BMC has to tell: resources by path, as the bytes that it sent when it was recorded."""

import functools
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.needs import REPOSITORY, recorded_data

RECORDED: Final = ("dell", "lenovo", "nvidia_dpu", "nvidia_viking")
"""The recorded machines, by their archives' names."""
CASES: Final = REPOSITORY / "tests/cases/redfish"
ROOT: Final = "/redfish/v1"

Resource = dict[str, Any]


def normal(path: str) -> str:
    """Give a path as trees have it: without the slash at its end."""
    return path.rstrip("/") or "/"


def encode(resource: object) -> bytes:
    """Give the bytes of a resource, its members in the order that they have."""
    return msgspec.json.encode(resource)


class Tree(Mapping[str, bytes]):
    """The resources of one machine. Never changed: a BMC keeps what differs from it."""

    def __init__(self, name: str, resources: Mapping[str, bytes]) -> None:
        self.name = name
        self._resources = dict(resources)

    def __getitem__(self, path: str) -> bytes:
        return self._resources[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._resources)

    def __len__(self) -> int:
        return len(self._resources)

    def __hash__(self) -> int:
        return id(self)


@functools.cache
def recorded(name: str) -> Tree:
    """Give a recorded machine, whole; skip the test where the recordings are not."""
    return archive(recorded_data() / "redfish" / f"{name}.tar.gz")


@functools.cache
def archive(path: Path) -> Tree:
    """Read an archive of `index.json` files below `redfish/v1`, as the Redfish Mockup Creator leaves them."""
    found: dict[str, bytes] = {}
    with tarfile.open(path) as file:
        for entry in file:
            folder, _, name = entry.name.removeprefix("./").rpartition("/")
            content = file.extractfile(entry) if name in {"index.json", "index.xml"} else None
            if content is not None:
                with content:
                    found[f"/{folder}"] = content.read()
    return Tree(path.name.removesuffix(".tar.gz"), found)


@functools.cache
def made(name: str) -> Tree:
    """Give a machine of `tests/cases/redfish`, written by hand: one file of resources by path."""
    told: dict[str, Resource] = json.loads((CASES / name / "tree.json").read_text())
    return Tree(name, {path: encode(resource) for path, resource in told.items()})
