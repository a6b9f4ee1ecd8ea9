"""A scenario that takes something, and waits for what never comes."""

from aggregator.demo.narration import Narration
from aggregator.demo.stage import Stage


def play(stage: Stage, say: Narration) -> None:
    """Take the GPU, and wait."""
    (gpu,) = stage.known("the GPU", 1, kind="gpu")
    stage.vouch("new", "gpu")
    claim = stage.post("/v1/claims", {"tenant": "t", "consumer": "c", "devices": [{"device": gpu["id"]}]})
    stage.provision([claim["id"]])
    say.tell("It waits.")
    stage.until("what never comes", lambda: None, 600.0)
