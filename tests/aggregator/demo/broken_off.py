"""A scenario that breaks off while a claim holds something."""

from aggregator.demo.narration import DemoError, Narration
from aggregator.demo.stage import Stage


def play(stage: Stage, say: Narration) -> None:
    """Take the GPU, and go no further."""
    (gpu,) = stage.known("the GPU", 1, kind="gpu")
    stage.vouch("new", "gpu")
    claim = stage.post("/v1/claims", {"tenant": "t", "consumer": "c", "devices": [{"device": gpu["id"]}]})
    stage.provision([claim["id"]])
    say.expect(stage.device(gpu["id"])["lifecycle"] == "free", "what is assigned is free")
    raise DemoError("it breaks off")
