"""What runs on one of two hosts: `host_of_two.py server MODEL ADDRESS PORT`, or `host_of_two.py rank FOLDER
RECIPE` with the ranks' environment."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def serve(model: str, address: str, port: int) -> None:
    """A server with the model of a folder, until it is killed."""
    from acereason.policy import model as models
    from acereason.policy.policy import Policy
    from fake_vllm import FakeVllm

    policy = Policy(models.load_model(model), models.load_tokenizer(model), "plain")
    FakeVllm(policy, port, address)
    while True:
        time.sleep(60)


def take_part(folder: Path, recipe: Path, minutes: float = 3.0) -> None:
    """A rank of the run: it begins it, or goes on with it."""
    from acereason import config, lifeline, program, ranks, runs
    from acereason.progress import Quiet

    lifeline.SILENCE, lifeline.GRACE = 100.0, 20.0  # longer than the cut of the test
    with ranks.joined(minutes):
        if not ranks.main():
            program.follow()
            return
        wanted = config.parse(json.loads(recipe.read_text()))
        with (runs.resume if folder.exists() else runs.create)(folder, wanted) as run:
            program.run_all(run, Quiet())


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        take_part(Path(sys.argv[2]), Path(sys.argv[3]))
