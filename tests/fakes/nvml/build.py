"""Compile the fake library: once for the same sources, linked anew for each list of missing symbols."""

import hashlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tests.needs import REPOSITORY, unmet

SOURCES = Path(__file__).resolve().parent / "c"
"""The library's C sources; `abi/nvml.h` is the part of NVML's interface that they offer."""

_CACHE = REPOSITORY / ".cache" / "fake-nvml"
_FLAGS = ["-std=gnu11", "-O2", "-g", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
_FLAGS += ["-Werror=implicit-function-declaration", "-Werror=incompatible-pointer-types", "-Werror=return-type"]


def library(missing: Iterable[str] = ()) -> Path:
    """Give the compiled library, without the `missing` functions: a driver older than the binding has fewer.

    Skips the test (a failure under CI) where there is no C compiler.
    """
    return _linked(tuple(sorted(missing)))


def compile_sources(include: Path, into: Path) -> None:
    """Compile each source against the `nvml.h` in `include`; the objects come to lie in `into`.

    Raises:
        AssertionError: The compiler refuses them; its words are the message.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        unmet("no C compiler for the fake NVML library; install gcc")
    for source in sorted(SOURCES.glob("*.c")):
        _run([compiler, *_FLAGS, "-I", str(include), "-c", str(source), "-o", str(into / f"{source.stem}.o")])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@cache
def _objects() -> Path:
    digest = hashlib.sha256()
    for source in sorted([*SOURCES.glob("*.[ch]"), *SOURCES.glob("abi/*.h")]):
        digest.update(source.name.encode() + source.read_bytes())
    folder = _CACHE / digest.hexdigest()[:16]
    if not folder.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE) as temporary:
            compile_sources(SOURCES / "abi", Path(temporary))
            _take(Path(temporary), folder)
        _forget_old(folder)
    return folder


def _forget_old(current: Path) -> None:
    """Remove what was compiled of other sources, more than a day ago: no test that runs now can need it."""
    for folder in _CACHE.iterdir():
        if folder != current and time.time() - folder.stat().st_mtime > 86_400:
            shutil.rmtree(folder, ignore_errors=True)


def _take(made: Path, place: Path) -> None:
    """Put a finished folder in its place; another process may have been faster with the same."""
    finished = made.with_name(f"{made.name}.done")
    shutil.copytree(made, finished)
    try:
        finished.rename(place)
    except OSError:
        shutil.rmtree(finished)


@cache
def _linked(missing: tuple[str, ...]) -> Path:
    objects = _objects()
    name = hashlib.sha256("\n".join(missing).encode()).hexdigest()[:16]
    place = objects / f"{name}.so"
    if place.is_file():
        return place
    compiler = shutil.which("gcc") or shutil.which("cc") or "cc"
    with tempfile.TemporaryDirectory(dir=_CACHE) as temporary:
        script, made = Path(temporary) / "symbols", Path(temporary) / "library.so"
        hidden = "".join(f"{function}; " for function in missing)
        script.write_text(f"{{ global: nvml*; local: {hidden}*; }};\n")
        inputs = [str(one) for one in sorted(objects.glob("*.o"))]
        options = ["-shared", f"-Wl,--version-script={script}", "-Wl,-soname,libnvidia-ml.so.1", "-lpthread", "-ldl"]
        _run([compiler, *inputs, *options, "-o", str(made)])
        made.replace(place)
    return place
