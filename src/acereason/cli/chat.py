"""`chat`: a model tried in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from acereason.cli.common import Model, PromptFormat, embedded, err, out
from acereason.errors import AceReasonError, ConfigError
from acereason.native import mkl as fastmath

HELP = """A line is asked; what was said before goes with it, in the model's own chat template.
  /reset        forget what was said before          /problem [N]  ask problem N of the file, or the next one,
  /temperature 0.8, /T 0.8                              anew, and hear the judge; /list shows some
  /budget 4096  most response tokens                 /domain code  what is asked for: math, code, …
  /seed 3       the same draws each time; /seed off  /alone on     every question by itself; /alone off
  /thinking     show the last thinking               /fold off     show thinking as it is written; /fold on
  /quit         or Ctrl-D; Ctrl-C ends a response"""


def chat(
    model: Model,
    problems: Annotated[
        Path | None, typer.Option("--problems", "-p", help="problems to ask with /problem, and be judged")
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", "-T", min=0, max=100, help="sampling temperature")
    ] = 0.6,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="probability mass kept")] = 0.95,
    budget: Annotated[
        int | None, typer.Option(min=1, help="most response tokens; default the context")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="of the draws; default another one each time")] = None,
    domain: Annotated[
        str, typer.Option(help="what a typed question is: math, code, or one of your own")
    ] = "math",
    thinking: Annotated[bool, typer.Option("--thinking", help="show the thinking as it is written")] = False,
    alone: Annotated[bool, typer.Option("--alone", help="ask every question by itself")] = False,
    format: PromptFormat = None,
) -> None:
    """Try a model in the terminal: the answer as it is written, its thinking folded, the judge's verdict
    where there is a reference. A conversation: what was said before goes with each question, until /reset.
    Lines may also be piped in."""
    fastmath.enable()
    from acereason.chatting import Manner, Session
    from acereason.published.records import read_problems
    from acereason.verify import Judge, domains

    known = read_problems(problems, judged=False) if problems else []
    domains.domain(domain)
    policy, sampler = embedded(model, format, slots=1)
    manner = Manner(temperature, top_p, budget, seed, domain, thinking, alone)
    with Judge(1) as judge:
        room = _Room(Session(policy, sampler, judge, manner), known)
        if sys.stdin.isatty():
            out.print(f"{model}, asked in {policy.prompt.name!r}; /help", markup=False)
        room.loop()


class _Room:
    """Reads lines, and does what they say."""

    def __init__(self, session: Any, problems: list[Any]) -> None:
        self.session, self.problems = session, problems
        self.place = 0
        self.commands: dict[str, Callable[[str], None]] = {
            "help": lambda _: out.print(HELP, markup=False),
            **dict.fromkeys(
                ("T", "temperature"), lambda text: self._set("temperature", _number(text, 0, 100))
            ),
            "budget": lambda text: self._set("budget", int(_number(text, 1, 1 << 30))),
            "seed": lambda text: self._set("seed", None if text == "off" else int(_number(text, 0, 1 << 62))),
            "domain": self._domain,
            "fold": lambda text: self._set("show_thinking", not _switch(text)),
            "alone": lambda text: self._set("alone", _switch(text)),
            **dict.fromkeys(("thinking", "think"), lambda _: self._thinking()),
            "reset": lambda _: self._reset(),
            "list": lambda _: self._list(),
            "problem": self._problem,
        }

    def loop(self) -> None:
        """Until the input ends."""
        while True:
            try:
                line = input("> " if sys.stdin.isatty() else "").strip()
            except EOFError:
                return
            except KeyboardInterrupt:
                out.print("\n(Ctrl-D ends it)", style="dim")
                continue
            if line in ("/quit", "/exit", "/q", "/bye"):
                return
            if line:
                self._do(line)

    def _do(self, line: str) -> None:
        try:
            if not line.startswith("/"):
                from acereason.problems import Problem

                self._ask(Problem("typed", self.session.manner.domain, line))
                return
            name, _, rest = line[1:].partition(" ")
            if name not in self.commands:
                raise ConfigError(f"unknown command /{name}; known: {', '.join(self.commands)}, quit")
            self.commands[name](rest.strip())
        except AceReasonError as error:
            err.print(str(error), markup=False, soft_wrap=True)

    def _ask(self, problem: Any) -> None:
        """The answer as it comes; Ctrl-C ends it."""
        pieces, wrote = self.session.ask(problem, self._told), ""
        try:
            for piece in pieces:
                self._untold()
                wrote += piece
                out.print(Text(piece if wrote != piece else piece.lstrip()), end="", soft_wrap=True)
        except KeyboardInterrupt:
            pieces.close()
            self._untold()
            out.print("\n(ended)", style="dim")
            return
        self._untold()
        out.print("" if wrote.endswith("\n") else "\n", end="")
        self._about()
        self._judged(problem)

    def _told(self, tokens: int) -> None:
        """How far the thinking is, in one line that is written over."""
        if sys.stderr.isatty() and not self.session.fold.answered:
            sys.stderr.write(f"\r\x1b[2mthinking: {tokens} tokens\x1b[0m\x1b[K")
            sys.stderr.flush()

    def _untold(self) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _about(self) -> None:
        done, fold = self.session.last, self.session.fold
        thought = len(fold.thinking.split())
        said = f"{len(done.tokens)} tokens"
        if thought and not fold.show:
            said += f", {thought} {'word' if thought == 1 else 'words'} of thinking (/thinking shows them)"
        if done.finish == "length":
            said += "; cut at the budget" + ("" if fold.answered else ", before an answer")
        out.print(f"({said})", style="dim", markup=False)

    def _judged(self, problem: Any) -> None:
        verdict = self.session.verdict(problem)
        if verdict is None:
            return
        wanted = f"; the reference: {problem.answer}" if problem.answer and verdict.reward != 1 else ""
        detail = f" ({verdict.detail})" if verdict.detail else ""
        style = {1: "bold green", 0: "bold red"}.get(verdict.reward, "yellow")
        out.print(Text.assemble((verdict.outcome, style), f"{detail}{wanted}"), soft_wrap=True)

    def _problem(self, text: str) -> None:
        if not self.problems:
            raise ConfigError("there are no problems; start with --problems FILE")
        place = int(_number(text, 1, len(self.problems))) - 1 if text else self.place
        self.place = (place + 1) % len(self.problems)
        problem = self.problems[place]
        out.print(Text(f"[{place + 1}] {problem.question}", style="bold"), soft_wrap=True)
        self.session.reset()
        self._ask(problem)

    def _reset(self) -> None:
        self.session.reset()
        out.print("(what was said before is forgotten)", style="dim")

    def _thinking(self) -> None:
        """The thinking of the last answer."""
        shown = self.session.fold.thinking.strip()
        out.print(Text(shown or "(there was none)", style="dim"), soft_wrap=True)

    def _list(self) -> None:
        for number, problem in enumerate(self.problems[:20], 1):
            out.print(f"{number:>4}  {problem.question[:60]!r}", markup=False)
        out.print(f"{len(self.problems)} problems", style="dim")

    def _domain(self, name: str) -> None:
        from acereason.verify import domains

        domains.domain(name)
        self._set("domain", name)

    def _temperature(self, text: str) -> None:
        self._set("temperature", _number(text, 0, 100))

    def _set(self, name: str, value: Any) -> None:
        setattr(self.session.manner, name, value)


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ConfigError(f"expected on or off, found {text!r}")
    return text == "on"


def _number(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise ConfigError(f"expected a number from {low:g} to {high:g}, found {text!r}")
    return value
