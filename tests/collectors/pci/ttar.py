"""Unpacks a recorded tree: ttar, the text format in which Prometheus projects keep trees of `/sys`.

Source: github.com/ideaship/ttar: records of `Path`, `Directory`, `SymlinkTo`, `Lines` and `Mode`; a zero byte is
`NULLBYTE`, and `EOF` ends a file that has no line end. Modes are left: a test may run as anybody.
"""

from pathlib import Path


def unpack(archive: Path, root: Path, below: str = "") -> int:
    """Unpack the entries that begin with `below`; give how many."""
    count = 0
    lines = archive.read_bytes().split(b"\n")
    at = 0
    while at < len(lines):
        word, _, rest = lines[at].partition(b": ")
        at += 1
        place = root / rest.decode()
        if word not in (b"Path", b"Directory") or not rest.decode().startswith(below):
            continue
        count += 1
        if word == b"Directory":
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        word, _, rest = lines[at].partition(b": ")
        at += 1
        if word == b"SymlinkTo":
            place.symlink_to(rest.decode())
            continue
        size = int(rest)
        content = b"\n".join(lines[at : at + size]) + (b"\n" if size else b"")
        at += size
        if content.endswith(b"EOF\n"):
            content = content[:-4]
        place.write_bytes(content.replace(b"NULLBYTE", b"\0"))
    return count
