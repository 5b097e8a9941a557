"""Serving a model until interrupted."""

from __future__ import annotations

from collections.abc import Callable

from acereason import web
from acereason.policy.policy import Policy
from acereason.policy.templates import exported
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.serving.app import App
from acereason.serving.engine import Engine
from acereason.serving.wire import failed


def server(
    policy: Policy, sampler: EmbeddedSampler, name: str, host: str = web.LOOPBACK, port: int = 0,
    token: str = "", own_template: bool = True,
) -> tuple[web.Listening, Engine]:  # fmt: skip
    """The model behind OpenAI's routes, and its engine, to be closed after it. own_template: chats are put by
    the tokenizer's chat template where it has one, else by the policy's format."""
    engine = Engine(policy, sampler)
    own = own_template and getattr(policy.tokenizer, "chat_template", None)
    app = App(engine, name, None if own else exported(policy.prompter))
    bounds = web.Bounds(body=16 << 20)
    door = web.Door(app.application(), bounds, web.Names(host), token, failed)
    return web.Listening(door, host, port, token, bounds), engine


def serve(
    policy: Policy, sampler: EmbeddedSampler, name: str, host: str, port: int, token: str,
    own_template: bool, ready: Callable[[str], None],
) -> None:  # fmt: skip
    """Serve until interrupted; `ready` is told the base address."""
    listening, engine = server(policy, sampler, name, host, port, token, own_template)
    try:
        with listening:
            ready(f"{listening.address}/v1")
            listening.serve_forever()
    finally:
        engine.close()
