"""Print the tests that failed in the last run, a line each; exit 1 when there are none or too many to be chance.

`python -m tests.repository.failed 3`, for `.ci/run`.
"""

import json
import sys
from pathlib import Path

LAST_FAILED = Path(".cache/pytest/v/cache/lastfailed")


def failed(root: Path) -> list[str]:
    """Give the ids of the tests that failed in the last run of pytest under `root`; none when it never ended."""
    try:
        return sorted(json.loads((root / LAST_FAILED).read_bytes()))
    except (OSError, ValueError):
        return []


def main() -> int:
    """Print them, if they are between 1 and the number that was given."""
    names = failed(Path.cwd())
    if not 1 <= len(names) <= int(sys.argv[1]):
        return 1
    sys.stdout.write("".join(f"{name}\n" for name in names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
