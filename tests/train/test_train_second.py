"""A second model: distilled from, or pulled towards. Naive gradients, micro-batches, servers, refusals."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from acereason.config import Kl, Lora, Recipe, Rl, Stage, parse
from acereason.errors import ConfigError, SamplingError
from acereason.plan import memory, shapes
from acereason.plan.memory import Means, beside
from acereason.policy import lora, vocabulary
from acereason.policy.packing import Example
from acereason.policy.policy import Policy
from acereason.sample.ask import How
from acereason.train import loss, ratios, second, streaming, update
from acereason.train.second import Besides, Loaded
from fake_vllm import FakeVllm, shake, tiny_policy
from learn_groups import Capture, gradient, groups
from made_up import PROBLEMS, Coin, Elsewhere, Words

DISTILL = Stage(
    "s", "math", budget=20, steps=1, group=4, prompts=3, kind="distill", teacher="sft", overlong="zero"
)
PLAIN = Stage("s", "math", budget=20, steps=1, group=4, prompts=3)


@pytest.fixture
def other(qwen3: Any) -> Any:
    """Another model of the same shape, in float64 as the first is made."""
    model = copy.deepcopy(qwen3.double())
    with torch.no_grad():
        for number, p in enumerate(model.parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(number)))
    return model


def log_p(model: Any, answer: Any) -> Tensor:
    """log π_T of one response's tokens, by one plain pass."""
    request, tokens = answer.completion.request, answer.completion.tokens.tolist()
    logits = model(input_ids=torch.tensor([[*request.prompt, *tokens]])).logits[0]
    table = (logits / request.temperature).log_softmax(-1)
    picked: torch.Tensor = table[len(request.prompt) - 1 : -1].gather(1, torch.tensor(tokens)[:, None])
    return picked[:, 0]


def taken(model: Any, batch: Any, stage: Stage, settings: Rl, besides: Besides) -> tuple[Tensor, Any]:
    """The gradient of one update, and what it says of itself."""
    capture = Capture(model)
    weights = update.weigh(batch, stage, settings)
    learned, _ = update.learn(
        Policy(model, None, "plain"), batch, weights, [capture], settings, besides  # type: ignore[list-item]
    )  # fmt: skip
    assert capture.gradient is not None
    model.zero_grad()
    return capture.gradient, learned


def naive(model: Any, value: Tensor) -> Tensor:
    model.zero_grad()
    value.backward()
    found = gradient(model)
    model.zero_grad()
    return found


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-6 * b.abs().max())  # norms inside are float32


@pytest.mark.parametrize("micro_tokens", [10_000, 60, 1])
@pytest.mark.parametrize("normalisation", ["global", "group"])
def test_distilling_pulls_every_token_to_the_teacher(
    qwen3: Any, other: Any, normalisation: Any, micro_tokens: int
) -> None:
    """Whatever the rewards: unjudged, equal and truncated responses teach as the others do."""
    batch = groups(5, rewards=[[1, 1, 1, 1], [None, 0, 1, 0], [0, 0, 0, 0]])
    settings = Rl(normalisation=normalisation, micro_tokens=micro_tokens, clip_gradient=1e9)
    besides = Besides(second=Loaded(other, 70), distill=True)
    found, learned = taken(qwen3, batch, DISTILL, settings, besides)
    total: Any = 0.0
    count = sum(len(a.completion.tokens) for g in batch for a in g)
    for group in batch:
        own = sum(len(a.completion.tokens) for a in group)
        for answer in group:
            mine, theirs = log_p(qwen3, answer), log_p(other, answer).detach()
            pull = (theirs - mine).detach() / (count if normalisation == "global" else own * len(batch))
            total = total - (pull * mine).sum()
    assert close(found, naive(qwen3, total)) and learned.learned_tokens == count
    with torch.no_grad():
        apart = torch.cat([log_p(qwen3, a) - log_p(other, a) for g in batch for a in g])
    assert learned.kl == pytest.approx(float(apart.mean()), rel=1e-5)


def test_the_mask_leaves_out_what_was_cut(qwen3: Any, other: Any) -> None:
    masked = msgspec.structs.replace(DISTILL, overlong="mask")
    batch = groups(5)
    weights = update.weigh(batch, masked, Rl())
    assert (weights.pulls[:, 0] == 0).all() and (weights.pulls[:, 1:] == 1).all()


def test_a_teacher_that_is_the_policy_moves_nothing(qwen3: Any) -> None:
    besides = Besides(second=Loaded(copy.deepcopy(qwen3), 50), distill=True)
    found, learned = taken(qwen3, groups(5), DISTILL, Rl(micro_tokens=50), besides)
    assert found.abs().max() <= 1e-6 and learned.kl == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("form", ["k1", "k2", "k3"])
@pytest.mark.parametrize("advantage", ["std", "batch"])
@pytest.mark.parametrize("micro_tokens", [10_000, 1])
def test_kl_to_a_reference_is_a_mean_over_all_kept_tokens(
    qwen3: Any, other: Any, form: Any, advantage: Any, micro_tokens: int
) -> None:
    """Groups without a gradient of their own included, and never divided by the rewards' deviation."""
    batch = groups(6, rewards=[[1, 0, 1, 0], [1, 1, 1, 1], [None, 0, 1, 1]])
    kl = Kl(0.3, form)
    settings = Rl(advantage=advantage, kl=kl, micro_tokens=micro_tokens, clip_gradient=1e9)
    plain, _ = taken(qwen3, batch, PLAIN, settings, Besides())
    both, _ = taken(qwen3, batch, PLAIN, settings, Besides(second=Loaded(other, 70)))
    kept = [a for g in batch for a in g if a.verdict.reward is not None and a.completion.finish == "stop"]
    count = sum(len(a.completion.tokens) for a in kept)
    terms = [ratios.kl_loss(form, log_p(qwen3, a), log_p(other, a).detach()).sum() for a in kept]
    assert close(both - plain, naive(qwen3, 0.3 * sum(terms) / count))  # type: ignore[arg-type]


def test_several_updates_add_up_what_they_say(qwen3: Any, other: Any) -> None:
    settings = Rl(updates=3, micro_tokens=50)
    _, learned = taken(qwen3, groups(5), DISTILL, settings, Besides(second=Loaded(other, 70), distill=True))
    assert learned.kl is not None and learned.kl != 0


@pytest.mark.parametrize("distill", [True, False])
def test_learning_meanwhile_gives_the_same(qwen3: Any, other: Any, distill: bool) -> None:
    found = []
    for overlap in (False, True):
        capture = Capture(qwen3)
        done = streaming.ask_and_learn(
            Policy(qwen3, Words(), "plain"), Elsewhere(), Coin(), PROBLEMS,
            How(samples=4, budget=12, temperature=0.8, label=(1, "s", 1)), [capture],  # type: ignore[list-item]
            msgspec.structs.replace(DISTILL if distill else PLAIN, budget=12, overlong="zero"),
            Rl(micro_tokens=32, clip_gradient=1e9, overlap=overlap, kl=Kl(0.0 if distill else 0.2)),
            Besides(second=Loaded(other, 70), distill=distill),
        )  # fmt: skip
        qwen3.zero_grad()
        assert capture.gradient is not None
        found.append((capture.gradient, done.learned.kl))
    assert (found[0][0] - found[1][0]).norm() <= 1e-5 * found[0][0].norm()
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)
    assert not streaming.overlaps(Rl(advantage="batch"), Besides(second=Loaded(other, 70)))


def test_a_server_tells_what_the_model_itself_does() -> None:
    from acereason.sample.servers.scoring import Served

    policy, teacher = tiny_policy(), tiny_policy(1)
    shake(teacher, 0.1)
    examples = [Example([5, 6, 7], [8, 9, 10, 11], 0), Example([12], [13], 2), Example([3, 4], [7] * 9, 1)]
    server, ones = FakeVllm(teacher), torch.ones(3)
    try:
        told = Served(server.url + "/v1", policy, None).score(examples, ones)
        known = Loaded(teacher.model, 100).score(examples, ones)
        assert set(told) == set(known) == {0, 1, 2}
        for i in known:
            assert told[i] == pytest.approx(known[i], abs=1e-5)
        assert Served(server.url, policy, None).score([], ones[:0]) == {}
        with pytest.raises(ConfigError, match="T = 1 alone"):
            Served(server.url, policy, None).score(examples, 0.8 * ones)
        answers = iter(["429", "500"])
        server.plan = lambda body, attempt: next(answers, "good")
        assert set(Served(server.url, policy, None, patience=20).score(examples[:1], ones)) == {0}
        server.plan = lambda body, attempt: "noids"
        with pytest.raises(SamplingError):
            Served(server.url, policy, None, patience=1).score(examples[:1], ones)
    finally:
        server.die()
    with pytest.raises(SamplingError, match="not answered"):
        Served(server.url, policy, None, patience=0.1)


def test_other_tokens_are_refused(tmp_path: Any) -> None:
    from acereason.policy.tokenizer import train_tokenizer

    policy = tiny_policy()
    policy.save(tmp_path / "same")
    assert second.rows_of(policy, str(tmp_path / "same")) is None
    other = train_tokenizer(["zz yy xx ww vv uu" * 9], 270)
    Policy(policy.model, other, "plain").save(tmp_path / "other")
    with pytest.raises(ConfigError, match="is not the policy's"):
        second.rows_of(policy, str(tmp_path / "other"))


def test_where_the_vocabulary_was_cut_a_teacher_is_cut_to_the_same_tokens(tmp_path: Any) -> None:
    """An earlier stage's model has them as it is; one with the whole vocabulary speaks of these alone."""
    whole, policy = tiny_policy(1), tiny_policy()
    shake(whole, 0.1)
    whole.save(tmp_path / "whole")
    used = policy.tokenizer.encode("What is 3 + 4?")
    cut = vocabulary.cut(policy.model, policy.tokenizer, used, pieces=4)
    policy = Policy(policy.model, cut.tokenizer, policy.prompt, ("base", cut.kept))
    policy.save(tmp_path / "stage")
    assert second.rows_of(policy, str(tmp_path / "stage")) is None
    assert second.rows_of(policy, str(tmp_path / "whole")) == cut.kept
    assert len(cut.kept) < len(whole.tokenizer)
    given = recipe(kind="distill", teacher="m")
    teacher = Loaded(second._frozen(str(tmp_path / "whole"), given, cut.kept), 100)
    told = teacher.score([Example([0, 3, 1], [4, 2, 5], 0)], torch.tensor([0.7]))[0]
    ids = [cut.kept[i] for i in (0, 3, 1, 4, 2, 5)]
    logits = whole.model(input_ids=torch.tensor([ids])).logits[0][:, cut.kept] / 0.7
    picked = logits.log_softmax(-1)[2:5].gather(1, torch.tensor([[4], [2], [5]]))[:, 0]
    assert told == pytest.approx(picked.detach().numpy(), abs=1e-5)
    with pytest.raises(ConfigError, match="is not the policy's"):
        second.rows_of(whole, str(tmp_path / "stage"))


class Grads:
    """An optimiser that keeps the gradients of these parameters."""

    def __init__(self, parameters: list[Any]) -> None:
        self.param_groups: list[Any] = []
        self.parameters, self.seen = parameters, list[Tensor]()

    def step(self) -> None:
        self.seen = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self.parameters]


def test_adapters_are_pulled_to_a_reference_that_stays(qwen3: Any) -> None:
    """At their start they are the reference; then they alone have a gradient, that of the naive loss."""
    reference = copy.deepcopy(qwen3.double())
    lora.adapt(qwen3, Lora(4, 8.0))
    lora.initialise(qwen3, 5)
    learnt = [p for p in qwen3.parameters() if p.requires_grad]
    batch, settings = groups(6), Rl(kl=Kl(0.3, "k2"), micro_tokens=50, clip_gradient=1e9)
    besides = Besides(second=Loaded(reference.requires_grad_(False), 70))
    learned, _ = update.learn(
        Policy(qwen3, None, "plain"), batch, update.weigh(batch, PLAIN, settings), [], settings, besides
    )
    assert learned.kl == pytest.approx(0, abs=1e-9) and learned.gradient_norm
    with torch.no_grad():
        for p in learnt:
            p.add_(0.05 * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(1)))
            p.grad = None
    both, plain = Grads(learnt), Grads(learnt)
    weighed, without = update.weigh(batch, PLAIN, settings), Rl(micro_tokens=50, clip_gradient=1e9)
    owner = Policy(qwen3, None, "plain")
    update.learn(owner, batch, weighed, [both], settings, besides)  # type: ignore[list-item]
    update.learn(owner, batch, weighed, [plain], without)  # type: ignore[list-item]
    kept = [a for g in batch for a in g if a.completion.finish == "stop"]
    count = sum(len(a.completion.tokens) for a in kept)
    terms = [ratios.kl_loss("k2", log_p(qwen3, a), log_p(reference, a)).sum() for a in kept]
    naive = torch.autograd.grad(0.3 * sum(terms) / count, learnt)  # type: ignore[arg-type]
    for one, other, own in zip(both.seen, plain.seen, naive, strict=True):
        assert (one - other - own).abs().max() <= 1e-4 * own.abs().max()  # adapters are float32


STAGES: list[dict[str, Any]] = [
    {"name": "a", "domain": "math", "budget": 20, "steps": 1},
    {"name": "b", "domain": "code", "budget": 20, "steps": 1},
]


def recipe(rl: Any = None, **second_stage: Any) -> Recipe:
    model = {"path": "Qwen/Qwen3-0.6B"}
    return parse(
        {"name": "r", "model": model, "rl": rl or {}, "stage": [STAGES[0], {**STAGES[1], **second_stage}]}
    )


def test_which_model_a_stage_looks_at_and_what_it_takes() -> None:
    assert recipe().second_of(recipe().stage[1]) is None and beside(recipe()) is None
    start = recipe({"kl": {"coefficient": 1e-3}})
    assert [start.second_of(s) for s in start.stage] == ["sft", "a"] and start.asked_later == {"sft", "a"}
    taught = recipe(kind="distill", teacher="Qwen/Qwen3-4B")
    assert taught.asked_later == set() and beside(taught) == shapes.named("qwen3-4b")
    assert beside(start) == shapes.named("qwen3-0.6b")
    assert beside(recipe(kind="distill", teacher="http://x:8000")) is None
    small, large = shapes.named("qwen3-0.6b"), shapes.named("qwen3-4b")
    machine = memory.Machine(8, 80e9)
    more = memory.learning(small, machine, 1024, Means(second=large))
    assert more["second"] >= 2 * large.parameters / 8
    assert sum(more.values()) - more["second"] == pytest.approx(
        sum(memory.learning(small, machine, 1024, Means()).values())
    )


def test_the_loss_is_the_sum_of_its_terms() -> None:
    """Entropy bonus, KL and the policy gradient, each by itself and together, against their own functions."""
    g = torch.Generator().manual_seed(1)
    logprob, sampled, reference = (-torch.rand(6, generator=g, dtype=torch.float64) for _ in range(3))
    entropy = torch.rand(6, generator=g, dtype=torch.float64)
    weight, share = torch.tensor([0.5, 0.5, 0, 0, -1, -1]).double(), torch.full((6,), 0.25).double()
    owners, coefficient = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0.02] * 4 + [0.05] * 2).double()
    tokens = loss.Tokens(logprob, entropy, sampled, reference, owners, coefficient)
    whole = loss.loss_of(tokens, weight, share, Rl(kl=Kl(0.1, "k2")), Besides(second=NotImplemented))
    pull = -(weight * logprob).sum()
    bonus = -(coefficient * 0.25 * (weight != 0).double() * (-logprob - entropy) * logprob).sum()
    kl = 0.1 * 0.25 * ((logprob - reference) ** 2 / 2).sum()
    assert float(whole) == pytest.approx(float(pull + bonus + kl), abs=1e-12)
