"""Keeps secrets out of what is printed and packed."""

import re
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "(hidden)"
_NAMES: Final = re.compile(r"(?:^|_)(?:token|tokens|password|passwords|passphrase|secret|secrets|credential|credentials"
                           r"|api_key|auth|authorization|community|private_key)(?:_|$)", re.IGNORECASE)  # fmt: skip
_TOKEN: Final = re.compile(r"ms([te])_([A-Za-z0-9]{1,32})_[A-Za-z0-9]+")
_BEARER: Final = re.compile(r"(?i)(authorization\s*[:=]\s*\S+\s+|bearer\s+)[A-Za-z0-9._~+/=-]{6,}")
_URL: Final = re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://)[^/\s:@\"']{1,256}:[^/\s@\"']{1,256}@", re.IGNORECASE)
_ASSIGNED: Final = re.compile(r"(?i)\b([a-z_]{0,40}(?:password|passphrase|secret|api_key)[a-z_]{0,40})"
                               r"(\s{0,4}[=:]\s{0,4})"
                               r"(\"[^\"]*\"|'[^']*'|[^\s,;]+)")  # fmt: skip


def is_secret(name: str) -> bool:
    """Tell whether an option of this name holds a secret. A path to one (`tls_key`, `ca_file`) does not."""
    return _NAMES.search(name) is not None


def without_secrets(value: Any, name: str = "") -> Any:
    """Give a copy in which every secret is hidden, however deep."""
    if isinstance(value, Mapping):
        return {key: without_secrets(inner, str(key)) for key, inner in value.items()}
    if name and is_secret(name) and value not in ("", None, [], False, True):
        return HIDDEN
    if isinstance(value, (list, tuple)):
        return [without_secrets(inner) for inner in value]
    return scrubbed(value) if isinstance(value, str) else value


def scrubbed(text: str) -> str:
    """Give a text without tokens of ours (their public id stays), bearer headers, and passwords in addresses."""
    text = _TOKEN.sub(r"ms\1_\2_...", text)
    text = _BEARER.sub(rf"\1{HIDDEN}", text)
    text = _ASSIGNED.sub(rf"\1\2{HIDDEN}", text)
    return _URL.sub(rf"\1{HIDDEN}@", text)
