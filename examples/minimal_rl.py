"""The recipe's loop on one screen, from acereason's own parts: SFT on a teacher's traces, then on-policy RL.

    python examples/minimal_rl.py                  about a minute on one core, nothing to download
    python examples/minimal_rl.py --steps 40

What `acereason run` adds: stages with budgets and filters, calibrated temperatures, exact resume,
ranks and servers, the page. What it does not change is what stands here.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence

import torch

from acereason import chat
from acereason.draws import draw_seed
from acereason.policy.model import logprobs, micro_batches, new_model
from acereason.policy.packing import Example
from acereason.policy.policy import Policy
from acereason.policy.tokenizer import train_tokenizer
from acereason.problems import Problem, Response
from acereason.procedural import generate, teach
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Completion, Request
from acereason.train.objective import Rollouts, policy_loss, response_weights
from acereason.verify import Judge

PROMPTS, GROUP, BUDGET, TEMPERATURE = 16, 8, 96, 1.0
FAMILIES = ["lists"]  # short programs over lists, judged by running them in the sandbox


def new_policy(problems: Sequence[Problem], traces: Sequence[Response]) -> Policy:
    """A transformer of 0.3M parameters and a tokenizer made from the traces."""
    texts = (chat.prompt(p, "plain") + t.text for p, t in zip(problems, traces, strict=True))
    tokenizer = train_tokenizer(texts, 400)
    model = new_model(
        "qwen3",
        seed=1,
        vocab_size=len(tokenizer),
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=32,
        intermediate_size=288,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Policy(model, tokenizer, "plain")


def fine_tune(policy: Policy, examples: Sequence[Example], epochs: int) -> None:
    """Cross-entropy over the response tokens: the mean is over the batch, whatever its micro-batches."""
    matrices = [p for p in policy.model.model.layers.parameters() if p.ndim == 2]
    rest = [p for p in policy.model.parameters() if all(p is not m for m in matrices)]
    optimizers = [torch.optim.Muon(matrices, lr=0.02, weight_decay=0.0), torch.optim.AdamW(rest, lr=5e-3)]
    for epoch in range(epochs):
        order = sorted(examples, key=lambda e: draw_seed("sft", epoch, e.index))
        for batch in (order[i : i + 16] for i in range(0, len(order), 16)):
            tokens = sum(len(e.response) for e in batch)
            for pack in micro_batches(policy.model, batch, 1280):
                (-logprobs(policy.model, pack)[0].sum() / tokens).backward()
            for optimizer in optimizers:
                optimizer.step()
            policy.model.zero_grad()


def ask(policy: Policy, problems: Sequence[Problem], label: str, T: float, n: int) -> list[Completion]:
    """n responses to each problem, in order. A sample's draws are a hash of what it is for."""
    sampler = EmbeddedSampler(policy.model, slots=128, eos_ids=policy.end_ids)
    wanted = [
        Request(policy.prompt_ids(p), BUDGET, T, draw_seed(label, p.id, j), key=(i, j))
        for i, p in enumerate(problems)
        for j in range(n)
    ]
    return sorted(sampler.sample(wanted), key=lambda c: c.request.key)


def rewards_of(
    policy: Policy, judge: Judge, problems: Sequence[Problem], answers: Sequence[Completion]
) -> torch.Tensor:
    """[P, G] 1 right, 0 wrong, NaN where the judge could not judge, which is never a reward."""
    futures = []
    for answer in answers:
        problem = problems[answer.request.key[0]]
        text = policy.text(answer.tokens)
        futures.append(judge.submit(problem, Response(problem.id, 0, text, finish=answer.finish)))
    verdicts = [future.result().reward for future in futures]
    flat = [float("nan") if reward is None else float(reward) for reward in verdicts]
    return torch.tensor(flat, dtype=torch.float64).view(len(problems), -1)


def rl_step(
    policy: Policy, judge: Judge, problems: Sequence[Problem], optimizer: torch.optim.Optimizer, step: int
) -> tuple[float, float]:
    """Ask, judge, weigh, learn: one update from this batch and then new answers, so no ratio, clip or KL."""
    answers = ask(policy, problems, f"rl-{step}", TEMPERATURE, GROUP)
    rewards = rewards_of(policy, judge, problems, answers)
    rollouts = Rollouts(
        rewards,
        tokens=torch.tensor([len(a.tokens) for a in answers]).view(rewards.shape),
        truncated=torch.tensor([a.finish == "length" for a in answers]).view(rewards.shape),
    )
    weights = response_weights(rollouts, overlong="mask").flatten()  # A_i / kept tokens of the whole batch
    pulled = [i for i, w in enumerate(weights.tolist()) if w]  # equal rewards: the gradient is exactly 0
    examples = [Example(answers[i].request.prompt, answers[i].tokens.tolist(), i) for i in pulled]
    for pack in micro_batches(policy.model, examples, 2560) if examples else ():
        logprob, _ = logprobs(policy.model, pack, TEMPERATURE)  # of the tempered policy, as it was sampled
        policy_loss(logprob, weights[pack.owners].to(logprob.dtype)).backward()
    torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    entropy = sum(float(a.entropy.sum()) for a in answers) / sum(len(a.tokens) for a in answers)
    return float(rewards.nanmean()), entropy


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--traces", type=int, default=3000)
    options.add_argument("--steps", type=int, default=20)
    wanted = options.parse_args()
    rng = random.Random(1)
    taught = generate(FAMILIES, [1], wanted.traces, 1, "train")
    traces = [teach(p, rng, wrong=rng.random() < 0.4) for p in taught]  # a careless teacher
    policy = new_policy(taught, traces)
    fine_tune(
        policy, [policy.example(p, t, i) for i, (p, t) in enumerate(zip(taught, traces, strict=True))], 1
    )
    asked = generate(FAMILIES, [1], PROMPTS * wanted.steps, 2, "train")
    held_out = generate(FAMILIES, [1], 64, 3, "dev")
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.0)
    with Judge() as judge:
        before = rewards_of(policy, judge, held_out, ask(policy, held_out, "held out", 0.6, 4)).nanmean()
        for step in range(wanted.steps):
            batch = asked[step * PROMPTS : (step + 1) * PROMPTS]
            reward, entropy = rl_step(policy, judge, batch, optimizer, step)
            print(f"step {step + 1:3}  reward {reward:.2f}  H_T {entropy:.3f}")
        after = rewards_of(policy, judge, held_out, ask(policy, held_out, "held out", 0.6, 4)).nanmean()
    print(f"held out, avg@4: {100 * before:.1f} % after SFT, {100 * after:.1f} % after RL")


if __name__ == "__main__":
    main()
