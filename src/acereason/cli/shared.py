"""Options that several verbs take, written once: a dataclass of them, and a decorator that puts them into a
verb's signature, where typer finds them.

    @with_options(Options)
    def verb(recipe: RecipeFile, options: Options) -> None: ...

is a command with the argument `recipe` and one option for every field of `Options`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

Verb = Callable[..., None]


def with_options(
    kind: type, folder: str | None = None, leave_out: tuple[str, ...] = ()
) -> Callable[[Verb], Verb]:
    """The decorator. `folder` is the verb's own default of the field of that name; fields to `leave_out` keep
    the dataclass's defaults and are no options."""

    def made(verb: Verb) -> Verb:
        own = inspect.signature(verb, eval_str=True).parameters
        named = {f.name: f for f in fields(kind) if f.name not in leave_out}
        defaults = {n: Path(folder) if n == "folder" and folder else f.default for n, f in named.items()}

        @functools.wraps(verb)
        def called(**given: Any) -> None:
            options = kind(**{name: given.pop(name) for name in named})
            verb(**given, options=options)

        _sign(called, own, get_type_hints(kind, include_extras=True), defaults)
        return called

    return made


def _sign(verb: Any, own: Any, hints: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Give a function the parameters `own` but for `options`, and one for every default."""
    kept = [p.replace(kind=p.KEYWORD_ONLY) for p in own.values() if p.name != "options"]
    kept += [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[name],
            default=inspect.Parameter.empty if default is MISSING else default,
        )
        for name, default in defaults.items()
    ]  # fmt: skip
    verb.__signature__ = inspect.Signature(kept)
    verb.__annotations__ = {p.name: p.annotation for p in kept}
    del verb.__wrapped__  # its signature would be taken instead
