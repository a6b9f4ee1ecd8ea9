"""The agent's configuration: its sections as frozen Structs, and how they are read."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from collectors.claims.options import ClaimsSection
from collectors.settings import Settings, convert_section, load_settings
from collectors.transport import check_address
from schemas.errors import ConfigError, near_names
from schemas.verbosity import Level, level_of

DEFAULT_COLLECTORS: Final = ("host", "service", "pci", "nvml", "nvme", "sriov", "syslog", "push")
"""What runs when the configuration names no collector."""
OPTIONAL_COLLECTORS: Final = frozenset({"nvme", "nvml", "service", "sriov"})
"""Those of them that are for what many machines have not: nothing is wrong where they find none."""
LEVEL_WORDS: Final = tuple(level.word for level in Level)


INSECURE_WORDS: Final = "tokens and data travel unencrypted"
"""What must be written before Muster sends or takes tokens beyond this machine without TLS."""
_LOOPBACK: Final = re.compile(r"127(?:\.\d{1,3}){3}\Z")


class AgentSection(msgspec.Struct, frozen=True):
    """`[agent]`: the node and what it sends."""

    node_id: str = ""
    """The id of this node; empty: system UUID, else chassis serial, else machine id, decided once and kept."""
    level: str = "standard"
    """Verbosity: essential, standard, detailed or debug. Grants raise it for a while."""
    describe_every_seconds: float = 300.0
    """How often devices are described again; events that concern a device do it at once."""
    only: list[str] = []
    """Run just these collectors; empty: host, service, pci, nvml, nvme, sriov, syslog, push, and all others that have a
    section."""

    def __post_init__(self) -> None:
        level_of(self.level)
        _positive(describe_every_seconds=self.describe_every_seconds)


class PublishSection(msgspec.Struct, frozen=True):
    """`[publish]`: where rows go."""

    aggregators: list[str] = []
    """Addresses, tried in order: https://host:8420, http://host:8420, unix:///path. Empty: this machine's."""
    token: str = ""
    """The node's token; empty: the one kept in the data folder since enrolment. Write file:/path, not the token."""
    enrolment_token: str = ""
    """A one-time token (muster token enrol), exchanged for the node's own at the first start; pins the authority."""
    ca_file: str = ""
    """The authority that aggregators' certificates must come from; empty: the one pinned, else the system's."""
    insecure: str = ""
    """To send a token beyond this machine by http:// write here: tokens and data travel unencrypted."""
    timeout_seconds: float = 30.0
    """How long to wait for an answer."""

    def __post_init__(self) -> None:
        for address in self.aggregators:
            try:
                check_address(address)
            except ConfigError as error:
                raise ValueError(str(error)) from None
            if (self.token or self.enrolment_token) and in_clear(address) and self.insecure != INSECURE_WORDS:
                raise ValueError(
                    f"aggregators: {address} would let everybody on the network read the token: write https://, or"
                    f" insecure = {INSECURE_WORDS!r}"
                )
        _positive(timeout_seconds=self.timeout_seconds)


class SpoolSection(msgspec.Struct, frozen=True):
    """`[spool]`: what is kept until an aggregator has it."""

    max_bytes: int = 256 << 20
    """Room for rows not yet acknowledged; when it is full the least important, oldest go first, and are counted."""

    def __post_init__(self) -> None:
        if self.max_bytes < 1 << 16:
            raise ValueError("max_bytes: at least 65536, or not even one batch fits")


class CollectorSection(msgspec.Struct, frozen=True):
    """What every `[collectors.<name>]` may say besides the collector's own options."""

    enabled: bool = True
    """Whether it runs."""
    interval_seconds: float = 5.0
    """How often it collects."""
    timeout_seconds: float = 0.0
    """When a collection is given up; 0: the interval, but at least 1 s and at most 10 s."""
    level: str = ""
    """Verbosity of this collector alone; empty: that of [agent]."""

    def __post_init__(self) -> None:
        if self.level:
            level_of(self.level)
        _positive(interval_seconds=self.interval_seconds)
        if self.timeout_seconds:
            _positive(timeout_seconds=self.timeout_seconds)


class CollectorSettings(msgspec.Struct, frozen=True):
    """One collector to run: what the host does with it, and its own options as written."""

    name: str
    host: CollectorSection
    options: Mapping[str, Any]


class AgentConfig(msgspec.Struct, frozen=True):
    """Everything that the agent is told."""

    data_dir: Path
    agent: AgentSection
    publish: PublishSection
    spool: SpoolSection
    claims: ClaimsSection
    collectors: list[CollectorSettings]

    @property
    def level(self) -> Level:
        """The configured level."""
        return level_of(self.agent.level)

    @property
    def collector_levels(self) -> dict[str, Level]:
        """The levels of collectors that have one of their own."""
        return {one.name: level_of(one.host.level) for one in self.collectors if one.host.level}

    @property
    def addresses(self) -> list[str]:
        """Where to publish."""
        return self.publish.aggregators or [f"unix://{socket_path(self.data_dir)}"]


def default_data_dir(env: Mapping[str, str] | None = None) -> Path:
    """Give the data folder: MUSTER_DATA_DIR, else under the user's state folder."""
    env = os.environ if env is None else env
    if env.get("MUSTER_DATA_DIR"):
        return Path(env["MUSTER_DATA_DIR"]).absolute()
    if env.get("STATE_DIRECTORY"):  # systemd
        return Path(env["STATE_DIRECTORY"].split(":")[0])
    state = env.get("XDG_STATE_HOME") or f"{env.get('HOME', '/root')}/.local/state"
    return Path(state) / "muster"


def in_clear(address: str) -> bool:
    """Tell whether what is sent to an address leaves this machine unencrypted."""
    url = urlsplit(address)
    host = url.hostname or ""
    return url.scheme == "http" and host not in ("localhost", "::1") and not _LOOPBACK.match(host)


def socket_path(data_dir: Path) -> Path:
    """Give the unix socket on which the aggregator of this machine listens."""
    return data_dir / "muster.sock"


def push_path(data_dir: Path) -> Path:
    """Give the unix socket on which programs of this machine push, unless the configuration names another."""
    return data_dir / "push.sock"


def load_agent_config(
    config: Path | None, known: Mapping[str, type[Any] | None], env: Mapping[str, str] | None = None
) -> AgentConfig:
    """Read and check the configuration. `known`: installed collectors and their options' Structs, None if unknown.

    Raises ConfigError with every problem found, each with its place and a remedy.
    """
    settings = load_settings(config, env)
    agent = convert_section(settings, ("agent",), settings.section("agent"), AgentSection)
    publish = convert_section(settings, ("publish",), settings.section("publish"), PublishSection)
    spool = convert_section(settings, ("spool",), settings.section("spool"), SpoolSection)
    claims = convert_section(settings, ("claims",), settings.section("claims"), ClaimsSection)
    if publish and publish.ca_file and not Path(publish.ca_file).is_file():
        settings.problems.append(
            f"{settings.place(('publish', 'ca_file'))}: publish.ca_file: there is no file {publish.ca_file!r}:"
            " name the PEM file of the authority"
        )
    collectors = _collectors(settings, agent or AgentSection(), known)
    if settings.problems:
        raise ConfigError(*settings.problems)
    return AgentConfig(default_data_dir(env), agent, publish, spool, claims, collectors)


def _collectors(
    settings: Settings, agent: AgentSection, known: Mapping[str, type[Any] | None]
) -> list[CollectorSettings]:
    sections = settings.section("collectors")
    for path in [*(("collectors", name) for name in sections), *(("agent", "only", name) for name in agent.only)]:
        if path[-1] not in known:
            near = near_names(path[-1], set(known)) or f" Installed: {', '.join(sorted(known)) or 'none'}."
            where = "agent.only" if path[0] == "agent" else ".".join(path)
            settings.problems.append(f"{settings.place(path)}: {where}: no collector {path[-1]!r} is installed.{near}")
    names = agent.only or [*DEFAULT_COLLECTORS, *(name for name in sections if name not in DEFAULT_COLLECTORS)]
    found = {name: _collector(settings, name, sections.get(name, {}), known[name]) for name in known}
    return [one for name in dict.fromkeys(names) if (one := found.get(name)) is not None and one.host.enabled]


def _collector(settings: Settings, name: str, written: Any, kind: type[Any] | None) -> CollectorSettings | None:
    """Give what is written of one collector, whether it is to run or not. On failure notes the problems."""
    path = ("collectors", name)
    if not isinstance(written, dict):
        settings.problems.append(f"{settings.place(path)}: {'.'.join(path)} is a section: write [{'.'.join(path)}]")
        return None
    common = {field.name for field in msgspec.structs.fields(CollectorSection)}
    options = {key: value for key, value in written.items() if key not in common}
    host = convert_section(settings, path, {key: written[key] for key in written.keys() & common}, CollectorSection)
    if kind is not None:
        convert_section(settings, path, options, kind, besides=common)
    return None if host is None else CollectorSettings(name, host, options)


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:  # nan is neither
            raise ValueError(f"{name}: must be more than 0, not {value}")
