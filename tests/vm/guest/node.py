"""A node in the guest: Muster's agent as it runs anywhere, and a shell for whoever keeps the machine.

`python3.11 -m tests.vm.guest.node` starts the agent with `/tmp/agent.toml`, then reads lines of JSON from standard
input: `{"run": "..."}` is a command of a shell, answered by `{"ran": [exit status, output]}`. It ends with its input's
`{"stop": true}`: the agent first, in order.
"""

import json
import os
import subprocess
import sys
import tempfile
from typing import Final

SECONDS: Final = 60.0
MOST: Final = 8000
"""Characters of output that are told."""


def main() -> int:
    """Run the agent, and do what is asked. Returns the agent's exit status."""
    with open("/tmp/agent.log", "wb") as log:  # noqa: PTH123 - the guest is nobody else's
        agent = subprocess.Popen(
            [sys.executable, "-m", "collectors.main"],
            env=os.environ | {"MUSTER_CONFIG": "/tmp/agent.toml", "MUSTER_DATA_DIR": "/tmp/data"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    say("agent", agent.pid)
    for line in sys.stdin:
        asked = json.loads(line)
        if "stop" in asked:
            break
        say("ran", run(asked["run"]))
    agent.terminate()
    return agent.wait(SECONDS)


def run(text: str) -> list[object]:
    """Run a command of a shell; give its exit status and what it wrote. What it leaves behind runs on."""
    with tempfile.TemporaryFile() as output:
        try:
            status = subprocess.run(
                ["/bin/sh", "-c", text],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = 124
        output.seek(0)
        return [status, output.read().decode(errors="replace")[-MOST:]]


def say(word: str, what: object) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps({word: what}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
