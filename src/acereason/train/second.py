"""A second model beside the policy, which only tells log-probabilities: a teacher, or a KL term's reference.

    scorer = of_stage(shop, stage)             None where the stage has none
    scorer.score(examples, temperatures)       {example's index: log π_T of each of its response tokens}

It is asked about what the policy sampled, so it must have the policy's own tokens; where the policy's
vocabulary was cut, the model is cut to the same ones. As a model of its own it lies beside the policy in the
type that is computed in, sharded as the policy is, and is never trained; a server (`sample.servers.scoring`)
tells log-probabilities at T = 1 alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from acereason.config import Recipe, Stage, stage_names
from acereason.errors import ConfigError
from acereason.policy import model as models
from acereason.policy import shards, vocabulary
from acereason.policy.packing import Example
from acereason.policy.policy import Policy
from acereason.train import parallel
from acereason.train.workshop import Workshop

Scores = Mapping[int, npt.NDArray[np.float32]]


class Scorer(Protocol):
    """Anything that tells how likely a second model finds what the policy sampled."""

    def score(self, examples: Sequence[Example], temperatures: Tensor) -> Scores:
        """log π_T of every response token, by the example's index; `temperatures` [all indices].
        Collective."""
        ...


class Besides(NamedTuple):
    """What the loss of a step looks at beside the judge's rewards: the coefficient of an entropy bonus, which
    may be one for each domain, and a `second` model, which is the teacher where the step is to `distill`,
    else the reference of `rl.kl`."""

    entropy: float | Mapping[str, float] = 0.0
    second: Scorer | None = None
    distill: bool = False

    def coefficient(self, domain: str) -> float:
        """That of the entropy bonus of a domain's responses."""
        return self.entropy[domain] if isinstance(self.entropy, Mapping) else self.entropy


NOTHING = Besides()


@dataclass(frozen=True)
class Loaded:
    """A model in this process, asked in micro-batches of `micro_tokens`."""

    model: models.Model
    micro_tokens: int

    @torch.no_grad()
    def score(self, examples: Sequence[Example], temperatures: Tensor) -> Scores:
        """See `Scorer`."""
        scores: dict[int, npt.NDArray[np.float32]] = {}
        for pack in parallel.micro_batches(self.model, examples, self.micro_tokens):
            filler = parallel.is_filler(pack)
            T = torch.ones(len(pack.owners)) if filler else temperatures[pack.owners]
            logprob, _ = models.logprobs(self.model, pack, T)
            if not filler:
                values, owners = logprob.numpy(), pack.owners.numpy()
                scores |= {i: values[owners == i] for i in dict.fromkeys(owners.tolist())}
        return scores


def of_stage(shop: Workshop, stage: Stage) -> Scorer | None:
    """The second model of a stage, loaded; None where it has none. Collective.

    ConfigError: its tokens are not the policy's, or its context is too short; CheckpointError: there is no
    such model."""
    name = shop.recipe.second_of(stage)
    if name is None:
        return None
    if name.startswith(("http://", "https://")):
        from acereason.sample.servers.scoring import Served  # needs an HTTP client, an extra

        return Served(name, shop.policy, shop.recipe.sampling.servers)
    path = str(shop.run.model(name)) if name in stage_names(shop.recipe) else name
    model = _frozen(path, shop.recipe, rows_of(shop.policy, path))
    if (most := int(model.config.max_position_embeddings)) < stage.budget:
        raise ConfigError(
            f"{path} has a context of {most:,} tokens, and stage {stage.name!r} samples {stage.budget:,}"
        )
    return Loaded(model, shop.recipe.rl.micro)


def rows_of(policy: Policy, path: str) -> list[int] | None:
    """The model's ids of the policy's tokens, where it has the vocabulary that the policy's was cut from;
    None where it has these tokens under the same ids, and ConfigError where it has others."""
    own, other = policy.tokenizer.get_vocab(), models.load_tokenizer(path).get_vocab()
    kept = policy.cut[1] if policy.cut else []
    if kept and all(other.get(token) == kept[i] for token, i in own.items()):
        return kept
    if wrong := sorted((i, token) for token, i in own.items() if other.get(token) != i):
        i, token = wrong[0]
        raise ConfigError(
            f"the tokenizer of {path} is not the policy's: {len(wrong):,} of {len(own):,} tokens differ, "
            f"e.g. {token!r}, {i} here and {other.get(token)} there. Log-probabilities are compared token by "
            "token; take a model with the same tokens (one that was trained from the same base)"
        )
    return None


def _frozen(path: str, recipe: Recipe, kept: list[int] | None) -> models.Model:
    """The model in the type that is computed in, laid out over the ranks as the policy is; of its vocabulary
    what is `kept`."""
    place, wanted = recipe.placement, recipe.model
    changed = (wanted.rope_theta, wanted.context) if path == wanted.path else (None, None)
    if not parallel.wanted(place):  # a cut vocabulary is whole on every rank
        whole = models.load_model(path, getattr(torch, wanted.dtype), *changed)
        if kept is not None:
            vocabulary.take(whole, kept)
        return _still(whole.to(parallel.device(place)), recipe)
    half = place.compute == "bfloat16" and parallel.device(place).type == "cuda"
    dtype = getattr(torch, place.compute if half else wanted.dtype)
    model, folder = models.empty_model(path, dtype, *changed)
    _still(model, recipe)
    parallel.shard(model, place)
    shards.fill(model, folder, parallel.device(place))
    return model


def _still(model: Any, recipe: Recipe) -> models.Model:
    """The model as it is computed with, and nothing of it to be learned."""
    parallel.prepare(model, recipe.placement)
    return model.requires_grad_(False).eval()
