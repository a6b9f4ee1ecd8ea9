"""Devices have one name, one address and one form on paper."""

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.device import (
    DeviceKind,
    Document,
    Part,
    Slot,
    Value,
    decode_document,
    documents_hash,
    encode_document,
    pci_address,
)

values: st.SearchStrategy[Value] = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer())
    | st.text(max_size=20)
    | st.lists(st.text(max_size=5), max_size=4)
)
documents = st.builds(
    Document,
    device=st.text(min_size=1, max_size=20),
    kind=st.sampled_from(DeviceKind),
    merge_keys=st.lists(st.text(max_size=20), max_size=3),
    parent=st.text(max_size=20),
    slot=st.builds(Slot, path=st.text(max_size=9), location=st.text(max_size=9), address=st.text(max_size=9)),
    part=st.builds(Part, vendor=st.text(max_size=9), model=st.text(max_size=9), serial=st.text(max_size=9)),
    capabilities=st.dictionaries(st.text(max_size=9), values, max_size=4),
    unsupported=st.lists(st.text(max_size=9), max_size=3),
)


@given(documents)
def test_a_document_comes_back_equal(document: Document) -> None:
    assert document == decode_document(encode_document(document))


@given(documents, st.randoms())
def test_equal_documents_have_equal_texts_whatever_the_order_of_their_capabilities(
    document: Document, random: Random
) -> None:
    items = list(document.capabilities.items())
    random.shuffle(items)
    assert encode_document(document) == encode_document(msgspec.structs.replace(document, capabilities=dict(items)))


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"device":"x","kind":"toaster"}', '{"device":1,"kind":"gpu"}', "[]", "nan", '{"x":' + "[" * 100_000],
    ids=lambda text: text[:30],
)
def test_a_text_that_is_no_document_is_refused(text: str) -> None:
    with pytest.raises((msgspec.ValidationError, msgspec.DecodeError)):
        decode_document(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("0000:3b:00.0", "0000:3b:00.0"),
        ("00000000:3B:00.0", "0000:3b:00.0"),  # NVML, nvidia-smi
        ("0000:3b:00", "0000:3b:00.0"),  # Xid messages of the kernel log
        ("3b:00.0", "0000:3b:00.0"),  # lspci
        ("3b:00", "0000:3b:00.0"),
        ("  3b:00.1\n", "0000:3b:00.1"),  # a line of a file
        ("10000:e1:00.0", "10000:e1:00.0"),  # a drive behind Intel VMD
        ("0001:00:1f.7", "0001:00:1f.7"),
        ("c:1.2", "0000:0c:01.2"),
    ],
)
def test_every_spelling_of_an_address_has_one_normal_form(text: str, normal: str) -> None:
    assert normal == pci_address(text)


@given(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 31), st.integers(0, 7), st.booleans())
def test_the_normal_form_is_its_own_normal_form(domain: int, bus: int, device: int, function: int, upper: bool) -> None:
    text = f"{domain:x}:{bus:x}:{device:x}.{function}"
    normal = pci_address(text.upper() if upper else text)
    assert f"{domain:04x}:{bus:02x}:{device:02x}.{function}" == normal
    assert normal == pci_address(normal)


@pytest.mark.parametrize(
    "text",
    ["", "gpu0", "0000:3b:20.0", "0000:3b:00.8", "0000:3b:00.0.0", "3b", "0000:3b", "-1:00.0", "000000000:3b:00.0",
     "0000:3b:00.0 x", "zz:00.0", "0000:100:00.0", "\u0663b:00.0", "pci:0000:3b:00.0"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a PCI address"):
        pci_address(text)


@given(st.lists(st.text(max_size=20), max_size=6), st.randoms())
def test_equal_sets_of_documents_have_equal_hashes(texts: list[str], random: Random) -> None:
    again = [*texts, *texts]
    random.shuffle(again)
    assert documents_hash(texts) == documents_hash(again)


@given(st.sets(st.text(max_size=10), max_size=5), st.sets(st.text(max_size=10), max_size=5))
def test_different_sets_of_documents_have_different_hashes(one: set[str], other: set[str]) -> None:
    assert (one == other) == (documents_hash(list(one)) == documents_hash(list(other)))


def test_the_border_between_documents_matters() -> None:
    assert documents_hash(["ab", "c"]) != documents_hash(["a", "bc"])


def test_the_hash_is_the_same_in_every_version() -> None:
    """It is compared between machines of different releases: a change of it makes every node send everything again."""
    assert ("cae66941d9efbd404e4d88758ea67670", 32) == (documents_hash([]), len(documents_hash(["x"])))
