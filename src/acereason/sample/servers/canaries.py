"""The canary's answers of every server, publication after publication, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.sample.protocol import Completion
from acereason.sample.servers import canary, mismatch
from acereason.sample.servers.vllm import EXTENSION

Answers = list[Completion]
Known = tuple[Answers, list[np.ndarray]]


class Canaries:
    """`limit`: most nats that servers may be from the trainer, on average."""

    def __init__(self, policy: Policy, limit: float) -> None:
        self.policy, self.limit = policy, limit
        self.differences: dict[str, canary.Mismatch] = {}  # of the last canary, by server
        self.reference: Known | None = None  # one of the present weights, for servers that come back
        self._known: dict[str, Known] = {}  # each server's last, with the trainer's numbers

    def judge(self, answers: dict[str, Answers]) -> None:
        """Compare every server's answers with the trainer's log-probabilities. Collective."""
        flat = [a for each in answers.values() for a in each]
        own = canary.own_logprobs(self.policy, flat)
        known, at = dict[str, Known](), 0
        for url, each in answers.items():
            known[url] = each, own[at : at + len(each)]
            at += len(each)
        self.differences = {url: canary.difference(*pair) for url, pair in known.items()}
        stale = [u for u, p in known.items() if u in self._known and canary.frozen(*p, *self._known[u])]
        bad = {u: d for u, d in self.differences.items() if not d.mean <= self.limit}
        if bad or stale:
            raise SamplingError(f"{self._stale(stale)}{self._why(bad, known)}")
        self._known, self.reference = known, next(iter(known.values()))

    def returned(self, url: str, answers: Answers) -> None:
        """SamplingError when a server that came back has other weights than the present ones."""
        assert self.reference is not None
        d = canary.common(answers, *self.reference)
        if not d <= self.limit:
            raise SamplingError(
                f"canary: {url} came back, was given the present weights, and its log-probabilities still "
                f"differ from the trainer's by {d:.4g} nats (allowed: {self.limit})"
            )

    def _stale(self, stale: Sequence[str]) -> str:
        lines = [
            f"{url}: mean {d.mean:.4g}, largest {d.largest:.4g} nats over {d.tokens} tokens"
            for url, d in self.differences.items()
        ]
        frozen = f" Unchanged to the last bit since the publish before: {', '.join(stale)}." if stale else ""
        return (
            "canary: servers do not serve the weights that were published. Differences of log-probabilities "
            f"from the trainer's (allowed: mean {self.limit} nats): {'; '.join(lines)}.{frozen} "
            f"Start the servers with --worker-extension-cls {EXTENSION}, which reloads whole, and the dtype "
            "of placement.compute; kernels that differ more need a larger sampling.servers.canary"
        )

    def _why(self, bad: Iterable[str], known: dict[str, Known]) -> str:
        """Where the difference of each bad server comes from. Collective, as the canary is."""
        said = ""
        for url in bad:
            causes = mismatch.causes(self.policy, known[url][0], self._known.get(url))
            said += f". {url}: {mismatch.said(causes)}"
        return said
