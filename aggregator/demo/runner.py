"""Plays a scenario: checks what it needs, starts what it plays on, and leaves nothing taken and nothing behind."""

import contextlib
import importlib
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from aggregator.demo import SCENARIOS, Scenario
from aggregator.demo.narration import Narration
from aggregator.demo.needs import NeedsError, check_needs, missing
from aggregator.demo.stage import Stage
from schemas.errors import MusterError

FLEETS: Final = Path(__file__).parent / "fleets"
_HELD: Final = frozenset({"reserved", "provisioning", "assigned", "suspect"})
_BUSY: Final = frozenset({"dirty", "cleaning", *_HELD})
_LOG_LINES: Final = 20


def run(name: str, out: TextIO) -> bool:
    """Play a scenario; tell whether all that was expected held. Raises NeedsError before anything is started."""
    scenario = SCENARIOS[name]
    say = Narration(out)
    say.tell(f"Scenario {name}: {scenario.title}. All nodes are simulated.")
    with _in_order(say) as ended, tempfile.TemporaryDirectory(prefix="muster-demo-") as folder:
        say.chapter("What this needs")
        checks = list(check_needs(Path(folder)))
        say.lines(f"{one.level.value:<5} {one.name}: {one.found}" for one in checks)
        lacking = missing(checks)
        if lacking:
            raise NeedsError(*lacking)
        _on_stage(scenario, Path(folder), say, ended)
    say.chapter("The end")
    for claim in say.failed:
        say.tell(f"Did not hold: {claim}.")
    say.tell(f"{say.held} expectations held, {len(say.failed)} did not. The folder is removed.")
    return not say.failed


@contextlib.contextmanager
def _in_order(say: Narration) -> Iterator[Callable[[], None]]:
    """Say that it was interrupted, at the end; give what keeps a second Ctrl-C from disturbing the end.

    Who was interrupted is about to exit, and is not interrupted again.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ended() -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)

    interrupted = False
    try:
        yield ended
    except KeyboardInterrupt:
        interrupted = True
        say.chapter("Interrupted")
        say.tell("All that was started has ended, and the folder is removed.")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if interrupted else handler)


def _on_stage(scenario: Scenario, folder: Path, say: Narration, ended: Callable[[], None]) -> None:
    """Play, clean up whatever became of it, and end what was started."""
    stage = Stage(folder, FLEETS / scenario.fleet)
    try:
        stage.start()
        try:
            importlib.import_module(scenario.module).play(stage, say)
        except MusterError as error:
            say.expect(condition=False, claim=f"the scenario goes on: {error}")
        clear(stage, say)
    except MusterError as error:
        say.expect(condition=False, claim=f"the scenario ends in order: {error}")
    finally:
        ended()
        stage.stop()
    if say.failed:
        for log in sorted(stage.logs.glob("*.log")):
            say.tell(f"The last lines of {log.name}:")
            say.lines(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:])


def clear(stage: Stage, say: Narration) -> None:
    """Give everything back, wait until it is clean, and check that nothing is left taken (R003-3)."""
    say.chapter("Nothing is left taken")
    claims = stage.claims()
    say.asked(f"Everything is given back: {len(claims)} claims.")
    for claim in claims:
        stage.release(claim["id"])
    stage.until("all claims to be over", lambda: not stage.claims())
    if stage.given:
        _wait_for_clean(stage, say)
    held = [one["id"] for one in stage.devices() if one["lifecycle"] in _HELD or one["claim"]]
    say.expect(not held and not stage.claims(), "no claim is left, and no device with anybody")
    used = {one["tenant"]: one["used"] for one in stage.get("/v1/quotas") if any(one["used"].values())}
    say.expect(not used, "no tenant is charged for anything")


def _wait_for_clean(stage: Stage, say: Narration) -> None:
    stage.until("all that was given to be clean", lambda: _BUSY.isdisjoint(one["lifecycle"] for one in _given(stage)))
    free = sum(one["lifecycle"] == "free" for one in _given(stage))
    say.came(f"{free} of {len(stage.given)} devices that could be given are free.")
    say.expect(free == len(stage.given), "every device that could be given is clean and free again")


def _given(stage: Stage) -> list[dict[str, Any]]:
    """Give the devices that were vouched for, as they are now."""
    return [one for one in stage.devices() if one["id"] in stage.given]
