"""Structured data is read back as it was meant (RFC 5424 part 6.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.structured_data import Element, decode_structured_data

name = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='= ]"'), min_size=1, max_size=32)
value = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
element = st.builds(Element, name, st.lists(st.tuples(name, value), max_size=5))


def encode(elements: list[Element]) -> str:
    def escape(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")

    return "".join(
        f"[{one.id}" + "".join(f' {key}="{escape(text)}"' for key, text in one.parameters) + "]" for one in elements
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]',
            [
                Element("exampleSDID@32473", [("iut", "3"), ("eventSource", "Application"), ("eventID", "1011")]),
                Element("examplePriority@32473", [("class", "high")]),
            ],
        ),
        ('[origin ip="192.0.2.1" ip="192.0.2.129"]', [Element("origin", [("ip", "192.0.2.1"), ("ip", "192.0.2.129")])]),
        (r'[a b="\"\\\]\n"]', [Element("a", [("b", '"\\]\\n')])]),
        ("[a]", [Element("a", [])]),
        ("", []),
    ],
)
def test_examples(text: str, expected: list[Element]) -> None:
    assert expected == decode_structured_data(text)


@pytest.mark.parametrize(
    "text", ["-", "[", "[]", '[a b="]"]', '[a  b="c"]', "[a] [b]", "[a b=c]", "x[a]", '[a b="\\"]']
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no element of structured data"):
        decode_structured_data(text)


@given(st.lists(element, max_size=5))
def test_whatever_is_encoded_is_decoded(elements: list[Element]) -> None:
    assert elements == decode_structured_data(encode(elements))
