"""The lifeline: how a child of `muster up` notices that its supervisor is gone, however it went."""

import os
import threading
from collections.abc import Callable, Mapping


def watch_lifeline(ended: Callable[[], None], env: Mapping[str, str] | None = None) -> None:
    """Call `ended`, from a thread, when the supervisor's end of the pipe closes. Nothing without a supervisor."""
    env = os.environ if env is None else env
    text = env.get("MUSTER_LIFELINE_FD", "")
    if not text.isdigit():
        return
    descriptor = int(text)
    try:
        os.set_inheritable(descriptor, False)
    except OSError:
        return  # set by hand, or left over: nobody holds the other end

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        ended()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
