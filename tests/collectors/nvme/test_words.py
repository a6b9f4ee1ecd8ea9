"""All sources tell of drives in the same words, and every word is declared."""

import pytest

from collectors.metrics_nvme import NVME_DRIVE_METRICS, NVME_METRICS
from collectors.nvme import logs
from collectors.nvme.readings import sanitize_fields, self_test_fields, smart_fields
from collectors.simulated import default_fleet
from collectors.simulated.models import NODE_TYPES
from schemas.capabilities import DRIFT_WORDS, PCI_WORDS, Word
from schemas.capabilities_nvme import NVME_NAMESPACE_WORDS, NVME_WORDS
from schemas.device import DeviceKind
from tests.collectors.nvme import made

_KINDS = {
    DeviceKind.NVME: (*PCI_WORDS, *NVME_WORDS),
    DeviceKind.NVME_NAMESPACE: (*NVME_NAMESPACE_WORDS, *DRIFT_WORDS),
}


def _fits(word: Word, value: object) -> bool:
    if word.type == list[str]:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return type(value) is word.type


@pytest.mark.parametrize("node_type", sorted(NODE_TYPES))
def test_simulated_drives_use_the_words_of_real_ones(node_type: str) -> None:
    documents = [one for one in default_fleet(1, node_type=node_type).nodes[0].documents() if one.kind in _KINDS]
    assert documents
    for document in documents:
        words = {word.name: word for word in _KINDS[document.kind]}
        told = {name: value for name, value in document.capabilities.items() if name != "simulated"}
        assert [] == [name for name, value in told.items() if name not in words or not _fits(words[name], value)]


def test_every_field_of_a_row_is_declared_and_every_declared_field_is_read() -> None:
    smart, test = logs.parse_smart(made.smart()), logs.parse_self_test(made.self_test_log())
    sanitize = logs.parse_sanitize(made.sanitize_log())
    assert smart is not None
    assert test is not None
    assert sanitize is not None
    read = smart_fields(smart) | self_test_fields(test) | sanitize_fields(sanitize)
    declared = {spec.field for spec in (*NVME_METRICS, *NVME_DRIVE_METRICS)}
    assert {"state", "firmware_slot"} == declared - read.keys(), "those two are not in these logs"
    assert set() == read.keys() - declared
