"""Resting parameters and 8-bit moments on ranks: `torchrun --nproc-per-node 2 memory_ranks.py FOLDER`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from torch.distributed.tensor import DTensor

os.environ["ACEREASON_NATIVE"] = "0"

import torch
from torch import Tensor

from acereason import config, ranks, runs
from acereason.config import Placement, Rl
from acereason.policy.packing import Example
from acereason.train import checkpoint, optimizers, parallel, sft
from acereason.train.checkpoint import Position
from tiny_run import RECIPE
from two_ranks import alone, apart, model

torch.set_num_threads(1)
EXAMPLES = [Example([1, 2, 3], [5 + i, 6, 7, 8], i) for i in range(6)]


def shared(**placement: Any) -> Any:
    made, how = model(), Placement(device="cpu", **placement)
    parallel.prepare(made, how)
    parallel.shard(made, how)
    parallel.settle(made, how)
    return made


def stepped(made: Any, settings: Rl, steps: int = 3) -> tuple[Tensor, Any]:
    """All parameters after some steps, whole, and the optimiser."""
    optimizer = optimizers.for_rl(made, settings)
    optimizers.set_rates(optimizer, [1e-2])
    for _ in range(steps):
        sft.learn(made, EXAMPLES, 12)
        optimizers.step(made, optimizer, 1.0)
    return whole(made), optimizer


def whole(made: Any) -> Tensor:
    parts = (p.detach() for p in made.parameters())
    return torch.cat([(p.full_tensor() if hasattr(p, "full_tensor") else p).flatten() for p in parts])


def resting() -> dict[str, float]:
    """Parameters at rest move as those at work, which move as one rank's."""
    ours, _ = stepped(shared(offload=("parameters",)), Rl())
    plain, _ = stepped(shared(), Rl())
    with alone():
        one, _ = stepped(model(), Rl())
    return {"resting": apart(ours, plain), "one rank": apart(ours, one)}


def eight_bits(folder: Path) -> dict[str, Any]:
    """Two ranks' 8-bit steps against one's, and their checkpoint read again."""
    settings, made = Rl(moments="8bit"), shared()
    ours, optimizer = stepped(made, settings)
    with alone():
        one, _ = stepped(model(), settings)
    recipe = config.parse(RECIPE)
    if ranks.main():
        runs.create(folder / "run", recipe).close()
        torch.save(ours, folder / "weights.pt")
    ranks.barrier()
    with runs.Run(folder / "run", recipe, ranks.main()) as run, checkpoint.Writer(run) as writer:
        writer.save(made, optimizer, Position(step=3))
        writer.wait()
        found = checkpoint.latest(run)
        assert found is not None
    again = shared()
    fresh = optimizers.for_rl(again, settings)
    checkpoint.load_weights(found[0], again)
    checkpoint.load_optimizers(found[0], fresh)
    states = [[o.state[p] for g in o.param_groups for p in g["params"]] for o in (optimizer[0], fresh[0])]
    pairs = zip(*states, strict=True)
    same = all(torch.equal(_own(a[key]), _own(b[key])) for a, b in pairs for key in a)
    return {"eight bits": apart(ours, one), "again": same}


def _own(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def read_alone(folder: Path) -> bool:
    """Whether one process reads what two ranks wrote."""
    made = model()
    optimizer = optimizers.for_rl(made, Rl(moments="8bit"))
    with runs.resume(folder / "run") as run:
        found = checkpoint.latest(run)
    assert found is not None
    checkpoint.load_weights(found[0], made)
    checkpoint.load_optimizers(found[0], optimizer)
    state = list(optimizer[0].state.values())
    same = torch.equal(whole(made), torch.load(folder / "weights.pt"))
    return same and any(s["exp_avg"].dtype == torch.uint8 for s in state) and len(state) > 10


def main(folder: Path) -> None:
    with ranks.joined(minutes=2):
        numbers = {**resting(), **eight_bits(folder)}
        everywhere = ranks.gathered(numbers)
        if ranks.main():
            (folder / "numbers.json").write_text(json.dumps(everywhere))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
