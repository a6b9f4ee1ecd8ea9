"""`make fuzz`: for every reader of bytes, so many seconds of mutated input. Exit status 1 when one misbehaves.

A find is written to `.cache/fuzz/<target>-<hash>`, and becomes a case of a test.
"""

import argparse
import hashlib
import sys
import time
import traceback
from pathlib import Path
from random import Random, SystemRandom

from tests.fuzz.mutations import mutate
from tests.fuzz.targets import TARGETS, Target

SLOW_SECONDS = 2.0
"""One reading that takes longer is a find as well."""


def attack(target: Target, random: Random, seconds: float) -> tuple[int, bytes | None, str]:
    """Read mutated input for so long; give how often, and the first input that misbehaved with its story, or None."""
    pool, runs, until = list(target.seeds), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        data = mutate(random.choice(pool), random.choice(pool), random)
        runs += 1
        start = time.thread_time()
        try:
            target.read(data)
        except target.errors:
            pass
        except Exception:  # noqa: BLE001  what else it may be is exactly the question
            return runs, data, traceback.format_exc()
        else:
            if len(pool) < 200:
                pool.append(data)  # still sound: a new place to start from
        if time.thread_time() - start > SLOW_SECONDS:
            return runs, data, f"took more than {SLOW_SECONDS} s of CPU"
    return runs, None, ""


def main() -> int:
    """Attack every target in turn."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=SystemRandom().getrandbits(32), help="repeats an earlier run")
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)}")
    chosen = parser.parse_args()
    finds = 0
    print(f"seed {chosen.seed}")
    for name in chosen.targets or TARGETS:
        runs, data, story = attack(TARGETS[name], Random(chosen.seed), chosen.seconds)
        print(f"{name}: {runs} inputs, {'a find' if story else 'nothing found'}", flush=True)
        if data is not None:
            finds += 1
            place = Path(".cache/fuzz") / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            print(f"{story}\nkept in {place}")
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
