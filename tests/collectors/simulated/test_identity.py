"""Equal seeds make equal fleets, in every run; other seeds make others."""

import subprocess
import sys

from collectors.simulated import SimulatedNode, default_fleet
from schemas.codec import encode_body
from schemas.device import encode_document
from tests.collectors.simulated.help import SECOND, START, break_it


def said(node: SimulatedNode) -> list[bytes]:
    """Give all that a node says in a while in which something goes wrong."""
    break_it(node, "xid_79", target=2, after_seconds=3.0)
    break_it(node, "link_flap", after_seconds=1.0)
    return [encode_body([parcel.block for parcel in node.step(START + second * SECOND)]) for second in range(20)]


def test_equal_seeds_say_the_same() -> None:
    assert said(default_fleet(1, 5).nodes[0]) == said(default_fleet(1, 5).nodes[0])


def test_other_seeds_and_other_nodes_say_something_else() -> None:
    fleet = default_fleet(2, 5)
    texts = [said(node)[-1] for node in (*fleet.nodes, default_fleet(1, 6).nodes[0])]
    assert len(set(texts)) == 3


def test_a_node_is_the_same_in_a_fleet_of_any_size() -> None:
    small, large = default_fleet(2), default_fleet(50)
    assert [(node.id, node.boot_id) for node in small.nodes] == [(node.id, node.boot_id) for node in large.nodes[:2]]
    assert small.nodes[1].documents() == large.nodes[1].documents()


def test_identities_are_the_same_in_another_process() -> None:
    """Hash randomisation and the like must not show."""
    code = (
        "import sys\nfrom collectors.simulated import default_fleet\n"
        "from schemas.device import encode_document, documents_hash\n"
        "texts = [encode_document(document) for document in default_fleet().nodes[0].documents()]\n"
        "sys.stdout.write(documents_hash(texts))"
    )
    from schemas.device import documents_hash

    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert documents_hash([encode_document(document) for document in default_fleet().nodes[0].documents()]) == other


def test_no_two_nodes_of_a_fleet_share_an_identity() -> None:
    seen: list[str] = []
    for node in default_fleet(30).nodes:
        seen.append(node.id)
        for document in node.documents():
            seen += [key for key in document.merge_keys if not key.startswith("pci:")]
            seen += [str(document.capabilities["mac"])] if "mac" in document.capabilities else []
    keys = [key for key in seen if not key.startswith("mac:")]
    assert len(set(keys)) == len(keys)
