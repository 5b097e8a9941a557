"""Chat templates: from a model's own to a prompt format, and from a format to the one that is exported.

`from_model` renders the template around a word that stands for the question and keeps what is before and
behind it. `exported` is a Jinja template of a format: a conversation of one user turn renders the trained
prompt to the last character, so that `apply_chat_template`, a transformers pipeline and the chat route of
`vllm serve` ask what was trained.
"""

from __future__ import annotations

import json
from typing import Any

from acereason.errors import ConfigError
from acereason.policy.prompter import BREAK, Prompter
from acereason.prompts import Prompt, Settings

QUESTION, ANSWER = "qUeStIoN7Q", "aNsWeR7Q"  # words that no template has or changes


def from_model(tokenizer: Any, settings: Settings | None = None) -> Prompt:
    """The model's own chat template as a format; what `settings` leave out is as the template has it.

    ConfigError: there is no template, or it is not one question between two fixed texts."""
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError("format = 'template': the model's tokenizer has no chat template; name a format")
    system = settings.system if settings else None
    turns = [{"role": "system", "content": system}] if system else []
    plain, spaced = (_render(tokenizer, [*turns, _user(q)]) for q in (QUESTION, f" {QUESTION} "))
    before, question, after = plain.partition(QUESTION)
    if not question or QUESTION in after:
        raise ConfigError("format = 'template': the chat template does not hold the question exactly once")
    return (settings or Settings()).on(
        Prompt(
            "template",
            begin=before,
            assistant=after,
            think="",
            end=_end(tokenizer, turns),
            trim=spaced == plain,
        )
    )


def _user(question: str) -> dict[str, str]:
    return {"role": "user", "content": question}


def _render(tokenizer: Any, turns: list[dict[str, str]], open_answer: bool = True) -> str:
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=open_answer))
    except (TemplateError, TypeError, ValueError) as error:
        roles = " and ".join(turn["role"] for turn in turns)
        raise ConfigError(f"the model's chat template refuses a turn of {roles}: {error}") from error


def _end(tokenizer: Any, turns: list[dict[str, str]]) -> str | None:
    """The token that the template puts behind an answer; None when there is none."""
    answered = _render(tokenizer, [*turns, _user(QUESTION), {"role": "assistant", "content": ANSWER}], False)
    rest = answered.rpartition(ANSWER)[2].lstrip()
    ids = tokenizer.encode(rest, add_special_tokens=False) if rest else []
    added = tokenizer.added_tokens_decoder
    return str(added[ids[0]]) if ids and ids[0] in added else None


def exported(prompter: Prompter) -> str:
    """A Jinja template that renders the format's prompts, BOS and control tokens included.

    Further turns are rendered by the format's pieces, or by the template that the tokenizer had where the
    format came from that. Thinking in earlier answers is left out, as the models' own templates do."""
    prompt, original = prompter.prompt, prompter.tokenizer.chat_template
    head = _question(prompter)
    if not prompt.name.startswith("template") or not isinstance(original, str):
        return head + _conversation(prompter) + "{%- endif -%}"
    rest = original[len(head) :] if original.startswith(head) else original + "{%- endif -%}"
    return head + rest


def _question(prompter: Prompter) -> str:
    """One user turn, exactly as trained; an opened `if` follows."""
    before, after = prompter.prompt.around()
    return (
        _controls(prompter) + "{%- if add_generation_prompt and messages | length == 1 "
        "and messages[0]['role'] == 'user' -%}"
        f"{{{{- {_text(prompter.bos + before)} + {_content(prompter, 0)} + {_text(after)} -}}}}"
        "{%- else -%}"
    )


def _conversation(prompter: Prompter) -> str:
    p = prompter.prompt
    ended = (p.end or "") + p.between
    return (
        f"{{{{- {_text(prompter.bos)} -}}}}"
        "{%- if messages[0]['role'] == 'system' -%}" + _system(p) + "{%- else -%}"
        f"{{{{- {_text(p.opening())} -}}}}"
        "{%- endif -%}"
        "{%- for message in messages -%}"
        "{%- if message['role'] == 'user' -%}"
        f"{{{{- {_text(p.user)} + {_content(prompter)} -}}}}"
        "{%- elif message['role'] == 'assistant' -%}"
        f"{{{{- {_text(p.assistant)} + message['content'].split('</think>')[-1] + {_text(ended)} -}}}}"
        "{%- elif not (loop.first and message['role'] == 'system') -%}"
        "{{- raise_exception('this model knows the roles system (first), user and assistant') -}}"
        "{%- endif -%}"
        "{%- endfor -%}"
        f"{{%- if add_generation_prompt -%}}{{{{- {_text(p.assistant + p.think)} -}}}}{{%- endif -%}}"
    )


def _system(prompt: Prompt) -> str:
    """A system turn of the caller's in the place of the format's."""
    if "{system}" not in prompt.begin:
        return "{{- raise_exception('this model was trained without a system line') -}}"
    before, _, after = prompt.begin.partition("{system}")
    return f"{{{{- {_text(before)} + messages[0]['content'] + {_text(after)} -}}}}"


def _controls(prompter: Prompter) -> str:
    """A macro that makes text of the control tokens that a content spells out."""
    tokens = "[" + ", ".join(map(_text, prompter.controls)) + "]"
    return (
        "{%- macro as_text(content) -%}{%- set kept = namespace(text=content) -%}"
        f"{{%- for token in {tokens} -%}}"
        f"{{%- set kept.text = kept.text | replace(token, token[0] + {_text(BREAK)} + token[1:]) -%}}"
        "{%- endfor -%}{{- kept.text -}}{%- endmacro -%}"
    )


def _content(prompter: Prompter, turn: int | None = None) -> str:
    content = "message['content']" if turn is None else f"messages[{turn}]['content']"
    return f"as_text({content}{' | trim' if prompter.prompt.trim else ''})"


def _text(text: str) -> str:
    """A Jinja literal."""
    return json.dumps(text, ensure_ascii=False)
