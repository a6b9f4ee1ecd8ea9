"""Kernel modules that the guest has and does not load by itself."""

import subprocess
from pathlib import Path


def load(name: str) -> None:
    """Load a module of `tests.vm.image.SPARE`, and those that it needs."""
    for path in Path(f"/{name}.order").read_text().split():
        if not Path("/sys/module", Path(path).stem.replace("-", "_")).exists():
            insert(Path(path))


def insert(path: Path) -> None:
    """Load one file."""
    subprocess.run(("/bin/busybox", "insmod", path), check=True)
