"""A certificate is tried when the configuration is read, not when the first agent comes."""

from pathlib import Path

import pytest

from aggregator.config import load_aggregator_config
from schemas.errors import ConfigError


def test_what_is_no_certificate_is_told_with_its_place(tmp_path: Path) -> None:
    bad = tmp_path / "cert.pem"
    bad.write_text("not a certificate")
    config = tmp_path / "muster.toml"
    config.write_text(f'[aggregator]\ntls_certificate = "{bad}"\ntls_key = "{bad}"\n')

    with pytest.raises(ConfigError, match="PEM files") as caught:
        load_aggregator_config(config, {})

    assert f"{config}:" in str(caught.value)


def test_of_two_files_the_one_that_is_missing_is_named(tmp_path: Path) -> None:
    there, missing = tmp_path / "cert.pem", tmp_path / "key.pem"
    there.write_text("a file")
    config = tmp_path / "muster.toml"
    config.write_text(f'[aggregator]\ntls_certificate = "{there}"\ntls_key = "{missing}"\n')

    with pytest.raises(ConfigError, match=f"tls_key: {missing} cannot be read: No such file"):
        load_aggregator_config(config, {})
