"""What the operator can set about BMCs, and the list of them."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from collectors.redfish.logs import SKIPPED
from schemas.errors import ConfigError

Seconds = Annotated[float, Meta(gt=0, le=86400)]
Trust = Literal["verify", "first", "insecure"]
MAX_BMCS: Final = 10_000
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:@/+-]{0,200}[A-Za-z0-9])?\Z")
_FINGERPRINT: Final = re.compile(r"(?:sha-?256:)?([0-9a-f]{2}(?::?[0-9a-f]{2}){31})\Z", re.IGNORECASE)


class Bmc(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One BMC, as it is written in the section or in the list. Raises ValueError on what cannot be one."""

    address: str
    """`https://10.0.0.5`, `https://[fd00::5]:8443`; without a scheme https. http sends the password as it is."""
    name: str = ""
    """Its name: rows speak about `bmc:<name>`. Empty: host (and port, unless 443) of the address."""
    user: str = ""
    """Empty: the section's."""
    password: str = ""
    """Empty: the section's. Write file:/path, not the password."""
    fingerprint: str = ""
    """SHA-256 of its certificate (DER), in hexadecimal: it is believed when it shows this very one."""
    own: bool = False
    """It is this machine's own BMC: what it tells is told of this node."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.username:
            raise ValueError(f"{self.address!r} is not the address of a BMC, such as https://10.0.0.5")
        _ = parts.port  # ValueError on what is none
        if not _NAME.match(self.label):
            raise ValueError(f"{self.label!r} cannot name a BMC: letters, digits and ._:@/+- only")
        if self.fingerprint and not _FINGERPRINT.match(self.fingerprint):
            raise ValueError(f"{self.fingerprint!r} is not a SHA-256 in hexadecimal, 64 digits")

    @property
    def url(self) -> str:
        """Its address with scheme and without a slash at the end."""
        return (self.address if "://" in self.address else f"https://{self.address}").rstrip("/")

    @property
    def label(self) -> str:
        """The name that it goes by."""
        if self.name:
            return self.name
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port and parts.port != 443 else ""
        return f"{parts.hostname}{port}"

    @property
    def subject(self) -> str:
        """What its rows speak about; "" for the node itself."""
        return "" if self.own else f"bmc:{self.label}"

    @property
    def digest(self) -> str:
        """The fingerprint in one form: 64 small digits; "" when none is given."""
        match = _FINGERPRINT.match(self.fingerprint)
        return match[1].replace(":", "").lower() if match else ""


class RedfishConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `redfish`: which BMCs are read over the network, how often, and how gently."""

    bmcs: tuple[Bmc, ...] = ()
    """The BMCs, each a table `[[collectors.redfish.bmcs]]` with `address`, and where needed `name`, `user`, `password`,
    `fingerprint`, `own`. Each but an own needs a token that may speak for it: scope `ingest:bmc:*`."""
    file: str = ""
    """A TOML file with more of them, as tables `[[bmcs]]`; read anew when it changes."""
    user: str = ""
    """Who logs in where a BMC names nobody; reading rights (`ReadOnly`) do."""
    password: str = ""
    """The password of `user`. Write file:/path, not the password."""
    tls: Trust = "verify"
    """Which certificate is believed of a BMC without `fingerprint`: `verify`, one from an authority (`ca_file`, else
    the system's); `first`, the one that it showed this agent first, and no other from then on; `insecure`, any."""
    ca_file: str = ""
    """The file of the authorities that vouch for BMCs, in PEM."""
    every_seconds: Seconds = 60.0
    """How often sensors, power and temperatures of each BMC are read."""
    parts_every_seconds: Seconds = 300.0
    """How often processors, memory and ports are asked for errors, throttling and traffic: each is a request."""
    inventory_every_seconds: Seconds = 3600.0
    """How often is looked at what there is: parts, firmware, which sensors there are."""
    answer_seconds: Seconds = 20.0
    """How long a BMC may take over one answer; a connection, half of that."""
    sweep_seconds: Seconds = 240.0
    """How long one reading of one BMC may take as a whole: it goes on from there the next time."""
    gap_seconds: Annotated[float, Meta(ge=0, le=60)] = 0.0
    """The shortest time between two requests to one BMC, for weak ones. Each has one request at a time in any case."""
    at_once: Annotated[int, Meta(ge=1, le=1000)] = 250
    """How many BMCs are asked at a time, by as many threads."""
    requests_per_second: Annotated[float, Meta(gt=0, le=100_000)] = 500.0
    """How many requests are sent in a second to all of them together."""
    sessions: bool = True
    """Log in once and keep the session; false sends name and password with every request (HTTP Basic)."""
    expand: bool = True
    """Have the members of a collection in one answer (`$expand`) from BMCs that say they can."""
    events: bool = True
    """Listen to events (SSE) of BMCs that offer them."""
    stream_reports: bool = False
    """Have metric reports sent with the events, by BMCs that stream them: what those say comes at once, and is not read
    again. Such as come without being asked for are read in any case."""
    callback_listen: str = ""
    """Where BMCs that offer no stream of events deliver them, `<host>:<port>`. Empty: nowhere; their logs are read."""
    callback_address: str = ""
    """The URL under which BMCs reach that. Empty: this host's name and that port."""
    callback_certificate: str = ""
    """The file of the certificate that BMCs are shown there, and those above it, in PEM. Empty: http, without TLS."""
    callback_key: str = ""
    """The file of its key, in PEM. Empty: it is in the same file."""
    logs: bool = True
    """Read the logs that BMCs keep, from the newest record at the first start on."""
    logs_every_seconds: Seconds = 120.0
    """How often logs are read; an event that names one has it read at once."""
    logs_exclude: tuple[str, ...] = SKIPPED
    """Names of logs that are not read, with `*` and `?`: those that are huge, or say nothing of a machine's health."""
    expectations: str = ""
    """Path of a file that says how machines and their parts must be, such as versions of firmware; what differs is told
    as drift. Empty: no file."""
    max_answer_bytes: Annotated[int, Meta(ge=4096, le=64 << 20)] = 4 << 20
    """Longer answers are not read, and counted."""


class _List(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of `RedfishConfig.file`."""

    bmcs: tuple[Bmc, ...] = ()


def listed(config: RedfishConfig) -> tuple[Bmc, ...]:
    """Give all BMCs, with the section's user and password where they have none. Raises ConfigError."""
    found = (*config.bmcs, *(_read(Path(config.file)) if config.file else ()))
    if len(found) > MAX_BMCS:
        raise ConfigError(f"collectors.redfish: {len(found)} BMCs; one agent reads {MAX_BMCS} at most")
    names: set[str] = set()
    for bmc in found:
        if bmc.label in names:
            raise ConfigError(f"collectors.redfish: two BMCs are named {bmc.label!r}: give one another `name`")
        names.add(bmc.label)
    if sum(bmc.own for bmc in found) > 1:
        raise ConfigError("collectors.redfish: more than one BMC is said to be this machine's own")
    return tuple(_filled(bmc, config) for bmc in found)


def _filled(bmc: Bmc, config: RedfishConfig) -> Bmc:
    if bmc.user:
        return bmc
    return msgspec.structs.replace(bmc, user=config.user, password=bmc.password or config.password)


def _read(path: Path) -> tuple[Bmc, ...]:
    try:
        found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _List)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"collectors.redfish.file: {path}: {error}") from error
    return tuple(_opened(bmc, path) for bmc in found.bmcs)


def _opened(bmc: Bmc, path: Path) -> Bmc:
    """Give a BMC of the list with its password read from the file that it names."""
    if not bmc.password.startswith("file:"):
        return bmc
    try:
        text = Path(bmc.password.removeprefix("file:")).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"collectors.redfish.file: {path}: the password of {bmc.label}: {error}") from error
    return msgspec.structs.replace(bmc, password=text)
