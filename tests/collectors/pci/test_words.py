"""All sources tell of a PCI function in the same words, and every word is declared."""

from pathlib import Path

import pytest

from collectors.simulated import default_fleet
from collectors.simulated.models import NODE_TYPES
from schemas.capabilities import PCI_WORDS, Word
from schemas.device import Document
from tests.collectors.pci.help import described
from tests.collectors.pci.made import server

_WORDS = {word.name: word for word in PCI_WORDS}
_BUS = ("pci", "iommu_", "sriov_", "numa_node", "bridge", "acs", "vf_index", "bar", "vfio", "host_needs")
"""How names begin that tell of the bus, whoever says them."""


def _fits(word: Word, value: object) -> bool:
    if word.type == list[str]:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return type(value) is word.type


def test_no_word_is_declared_twice_and_each_says_what_it_means() -> None:
    assert len(_WORDS) == len(PCI_WORDS)
    assert [] == [word.name for word in PCI_WORDS if not word.meaning.endswith((".", "sorted."))]


def test_collector_says_nothing_that_is_not_declared(tmp_path: Path) -> None:
    said: set[str] = set()
    for document in described(server(tmp_path)).values():
        said |= document.capabilities.keys()
        assert [] == [name for name, value in document.capabilities.items() if not _fits(_WORDS[name], value)]
    assert {"driver_override", "in_use_by"} == _WORDS.keys() - said, "the made server shows every word but these"


@pytest.mark.parametrize("node_type", sorted(NODE_TYPES))
def test_simulated_nodes_use_the_same_words(node_type: str) -> None:
    documents = [one for one in default_fleet(1, node_type=node_type).nodes[0].documents() if one.slot.address]
    assert documents
    for document in documents:
        told = {name: value for name, value in document.capabilities.items() if name.startswith(_BUS)}
        assert [] == [name for name, value in told.items() if name not in _WORDS or not _fits(_WORDS[name], value)]


@pytest.mark.parametrize("node_type", sorted(NODE_TYPES))
def test_simulated_nodes_build_paths_and_groups_as_real_ones(node_type: str) -> None:
    documents = {
        one.slot.address: one for one in default_fleet(1, node_type=node_type).nodes[0].documents() if one.slot.address
    }
    for address, document in documents.items():
        members = _texts(document, "iommu_group_members")
        same = {
            other
            for other, one in documents.items()
            if one.capabilities["iommu_group"] == document.capabilities["iommu_group"]
        }
        assert (sorted(same), True) == (members, address in members)
        bridges = [other for other in members if documents[other].capabilities.get("bridge")]
        assert bridges == _texts(document, "iommu_group_bridges")
        if "vf_index" in document.capabilities:
            parents = [one for one in documents.values() if one.device == document.parent]
            assert [f"{one.slot.path}/vf{document.capabilities['vf_index']}" for one in parents] == [document.slot.path]


def _texts(document: Document, word: str) -> list[str]:
    value = document.capabilities.get(word, [])
    assert isinstance(value, list)
    return value
