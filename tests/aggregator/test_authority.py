"""What an aggregator tells nodes to pin: an authority that vouches for its certificate, or none."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from aggregator.authority import Authority, find_authority, refusal
from aggregator.config import AggregatorSection
from tests.certificates import Authority as Signer


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path / "ours")


def files(signer: Signer) -> tuple[str, str]:
    certificate, key = signer.certificate()
    return str(certificate), str(key)


def test_the_file_that_is_named_is_pinned(signer: Signer) -> None:
    assert Authority(signer.pem, signer.fingerprint) == find_authority(*files(signer), str(signer.ca_file))


def test_a_chain_that_ends_in_its_root_needs_no_file(signer: Signer) -> None:
    certificate, key = files(signer)
    Path(certificate).write_text(Path(certificate).read_text() + signer.pem)
    assert Authority(signer.pem, signer.fingerprint) == find_authority(certificate, key, "")


def test_a_certificate_signed_by_somebody_who_is_not_in_the_chain_pins_nothing(signer: Signer) -> None:
    """Nodes go by their system's authorities: pinning a certificate that is renewed every 90 days locks them out."""
    assert find_authority(*files(signer), "") is None


def test_no_certificate_and_no_file_pin_nothing() -> None:
    assert find_authority("", "", "") is None


def test_during_a_change_the_pin_is_of_the_one_in_use_and_both_are_told(signer: Signer, tmp_path: Path) -> None:
    after = Signer(tmp_path / "next", "the next one")
    both = tmp_path / "both.pem"
    both.write_text(f"# next\n{after.pem}\n# now\n{signer.pem}")
    found = find_authority(*files(signer), str(both))
    assert Authority(after.pem + signer.pem, signer.fingerprint) == found


def test_behind_something_that_ends_tls_the_first_of_the_file_is_pinned(signer: Signer) -> None:
    assert Authority(signer.pem, signer.fingerprint) == find_authority("", "", str(signer.ca_file))


def test_an_authority_that_does_not_vouch_for_the_certificate_is_a_mistake_in_the_configuration(
    signer: Signer, tmp_path: Path
) -> None:
    certificate, key = files(signer)
    other = Signer(tmp_path / "other")
    with pytest.raises(ValidationError, match="does not vouch for tls_certificate"):
        AggregatorSection(tls_certificate=certificate, tls_key=key, tls_authority=str(other.ca_file))
    with pytest.raises(ValidationError, match="holds no certificate"):
        AggregatorSection(tls_certificate=certificate, tls_key=key, tls_authority=key)
    with pytest.raises(ValidationError, match="cannot be read"):
        AggregatorSection(tls_certificate=certificate, tls_key=key, tls_authority="/no/ca.pem")
    assert AggregatorSection(tls_certificate=certificate, tls_key=key, tls_authority=str(signer.ca_file))


def test_a_refusal_is_told_in_the_words_of_the_node(signer: Signer, tmp_path: Path) -> None:
    assert "" == refusal(signer.pem, *files(signer))
    assert "" != refusal(Signer(tmp_path / "other").pem, *files(signer))
