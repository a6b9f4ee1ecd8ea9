"""The aggregator's configuration: its sections as pydantic models, and how they are read."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from collectors.config import INSECURE_WORDS, default_data_dir
from collectors.settings import Settings, kind_of, load_settings, unknown_keys, wrong_type
from schemas.errors import ConfigError

LevelWord = Literal["essential", "standard", "detailed", "debug"]
Bytes = Annotated[int, Field(ge=1 << 20)]
Days = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """What every section is: frozen, and refusing what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _check_certificate(certificate: str, key: str) -> None:
    """Raise ValueError unless the files hold a certificate and its key."""
    import ssl

    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            Path(path).read_bytes()
        except OSError as error:  # which of the two OpenSSL does not say
            raise ValueError(f"{name}: {path} cannot be read: {error.strerror}") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror or str(error)
        raise ValueError(
            f"tls_certificate {certificate} and tls_key {key} cannot be used: {why}. Both are PEM files, and the key"
            " must be the certificate's"
        ) from None


def _check_authority(certificate: str, key: str, authority: str) -> None:
    """Raise ValueError when the file holds no authority of the certificate."""
    from aggregator.authority import find_authority  # brings OpenSSL

    if authority:
        try:
            find_authority(certificate, key, authority)
        except ConfigError as error:
            raise ValueError(str(error)) from None


class AggregatorSection(Section):
    """`[aggregator]`: where it listens."""

    listen: str = "127.0.0.1:8420"
    """Address and port; MUSTER_LISTEN overrides it."""
    tls_certificate: str = ""
    """A PEM file with the certificate and its chain; empty: no TLS."""
    tls_key: str = ""
    """The PEM file of its private key."""
    tls_authority: str = ""
    """A PEM file of the authority that nodes pin at enrolment, with the next one while it changes; empty: the end of
    tls_certificate's chain when that vouches for itself, as a self-signed certificate does."""
    insecure_listen: str = ""
    """To listen beyond loopback without TLS write here, in so many words: tokens and data travel unencrypted."""
    max_request_bytes: Bytes = 8 << 20
    """The largest request body; a larger one is refused with 413."""
    log_level: Literal["", "debug", "info", "warning", "error"] = ""
    """The level from which lines are logged; empty: what MUSTER_LOG_LEVEL says, or info."""
    takeover_seconds: Annotated[float, Field(ge=2.0)] = 30.0
    """A run silent for so long loses its node id to another; agents speak every 10 s, so keep it well above."""

    @property
    def host(self) -> str:
        """The address without the port, brackets of IPv6 taken off."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port."""
        return int(self.listen.rpartition(":")[2])

    @property
    def beyond_loopback(self) -> bool:
        """Whether other machines can reach it."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{value!r} is no address: write 127.0.0.1:8420 or [::]:8420")
        return value

    @model_validator(mode="after")
    def _secure(self) -> "AggregatorSection":
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key go together: set both or none")
        if self.tls_certificate:
            _check_certificate(self.tls_certificate, self.tls_key)
        _check_authority(self.tls_certificate, self.tls_key, self.tls_authority)
        if self.beyond_loopback and not self.tls_certificate and self.insecure_listen != INSECURE_WORDS:
            raise ValueError(
                f"listening on {self.listen} without TLS would let everybody on the network read tokens and data:"
                f" set tls_certificate and tls_key, or write insecure_listen = {INSECURE_WORDS!r}"
            )
        return self


class LogSection(Section):
    """`[log]`: how long the log keeps what has been handed in."""

    partitions: Annotated[int, Field(ge=1, le=256)] = 8
    """Partitions of every topic; fixed when the log is made."""
    max_age_hours: Annotated[float, Field(gt=0)] = 24.0
    """Older records are forgotten; what a consumer had not read is counted as expired."""
    max_bytes: Bytes = 2 << 30
    """Beyond this size the oldest are forgotten."""


class StoreSection(Section):
    """`[store]`: the embedded store."""

    level: LevelWord = "debug"
    """Rows above this level are counted as filtered, and not stored."""
    memory_limit_bytes: Annotated[int, Field(ge=128 << 20)] = 512 << 20
    """What DuckDB may use for itself."""
    query_timeout_seconds: Annotated[float, Field(gt=0)] = 10.0
    """A query that takes longer is stopped."""


class RetentionSection(Section):
    """`[retention]`: how much the store keeps."""

    telemetry_days: Days = 14.0
    """Age after which telemetry is deleted."""
    log_days: Days = 14.0
    """Age after which log records are deleted."""
    event_days: Days = 90.0
    """Age after which events are deleted."""
    capability_days: Days = 365.0
    """Age after which superseded capability documents are deleted."""
    telemetry_max_bytes: Bytes | None = None
    """Disk budget of telemetry: beyond it the oldest is deleted. Left out: no budget of its own."""
    log_max_bytes: Bytes | None = None
    """Disk budget of log records."""
    event_max_bytes: Bytes | None = None
    """Disk budget of events."""
    capability_max_bytes: Bytes | None = None
    """Disk budget of superseded capability documents."""
    max_bytes: Bytes = 20 << 30
    """Disk budget of everything together: beyond it the oldest telemetry and log records go first, then events."""


class InventorySection(Section):
    """`[inventory]`: what becomes of devices that nobody knew."""

    first_sight: Literal["dirty", "free"] = "dirty"
    """What a device is when it is first seen and nobody uses it. `free` is your word, once for all, that whatever
    arrives is clean; it is recorded with each device. `dirty`: `muster adopt` takes your word for those you name."""


class ClaimingSection(Section):
    """`[claiming]`: how long the steps of claims may take, and what goes by itself."""

    provision_seconds: Annotated[float, Field(gt=0)] = 300.0
    """A provision that its nodes have not confirmed by then is undone."""
    clean_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """A clean that its node has not answered by then is given up; the device is dirty again."""
    auto_clean: bool = True
    """Clean what was released by itself; else `muster clean` does."""
    remember_seconds: Annotated[float, Field(ge=60)] = 86400.0
    """How long a claim that is over is listed, and its Idempotency-Key gives it again."""
    remember_most: Annotated[int, Field(ge=0)] = 100_000
    """Of more claims that are over the oldest are let go before that time."""
    usage_days: Annotated[float, Field(gt=0)] = 400.0
    """How long the record is kept of what a claim had."""


class VerbositySection(Section):
    """`[verbosity]`: limits of grants."""

    max_grant_seconds: Annotated[float, Field(gt=0)] = 86400.0
    """The longest grant."""
    max_nodes: Annotated[int, Field(ge=1)] = 50
    """The fleet's budget: nodes that grants may raise above the configured level at one time."""


class AggregatorConfig(BaseModel):
    """Everything that the aggregator is told."""

    model_config = ConfigDict(frozen=True)
    data_dir: Path
    aggregator: AggregatorSection = AggregatorSection()
    log: LogSection = LogSection()
    store: StoreSection = StoreSection()
    retention: RetentionSection = RetentionSection()
    verbosity: VerbositySection = VerbositySection()
    inventory: InventorySection = InventorySection()
    claiming: ClaimingSection = ClaimingSection()


SECTIONS: Final[Mapping[str, type[Section]]] = {
    "aggregator": AggregatorSection,
    "log": LogSection,
    "store": StoreSection,
    "retention": RetentionSection,
    "verbosity": VerbositySection,
    "inventory": InventorySection,
    "claiming": ClaimingSection,
}


def load_aggregator_config(config: Path | None, env: Mapping[str, str] | None = None) -> AggregatorConfig:
    """Read and check the configuration. Raises ConfigError with every problem, each with its place and a remedy."""
    import os

    env = os.environ if env is None else env
    settings = load_settings(config, env)
    if env.get("MUSTER_LISTEN"):
        settings.tree.setdefault("aggregator", {})["listen"] = env["MUSTER_LISTEN"]
        settings.places["aggregator", "listen"] = "MUSTER_LISTEN"
    sections: dict[str, Any] = {}
    for name, model in SECTIONS.items():
        sections[name] = _convert(settings, name, model)
    if settings.problems:
        raise ConfigError(*settings.problems)
    return AggregatorConfig(data_dir=default_data_dir(env), **sections)


_KINDS: Final = {
    "string": "str",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "list": "array",
    "tuple": "array",
    "dict": "object",
}
"""What pydantic's error types begin with, as `wrong_type` calls it."""


def _convert(settings: Settings, name: str, model: type[Section]) -> Section | None:
    written = settings.section(name)
    settings.problems.extend(unknown_keys(settings, (name,), written, model.model_fields))
    known = {key: value for key, value in written.items() if key in model.model_fields}
    try:
        return model(**known)
    except ValidationError as error:
        for one in error.errors():
            path = (name, *(str(part) for part in one["loc"]))
            wanted, _, how = one["type"].partition("_")
            if wanted in _KINDS and how in ("type", "parsing", "from_float"):
                entry = len(one["loc"]) > 1
                message = wrong_type(path[-1], _KINDS[wanted], kind_of(one["input"]), entry=entry)
            else:
                message = one["msg"].removeprefix("Value error, ")
            settings.problems.append(f"{settings.place(path)}: {'.'.join(path)}: {message}")
        return None
