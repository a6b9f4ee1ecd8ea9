"""Shows how far long work has come: a bar on a terminal, nothing anywhere else."""

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Give a function to be told how many parts are done and which one is next."""
    if not sys.stderr.isatty():
        yield lambda _done, _part: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[part]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, part="")
        yield lambda done, part: bar.update(task, completed=done, part=part, refresh=True)
