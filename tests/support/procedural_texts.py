"""What the tests of the procedural families share: the tokens of a text, and a naive judge."""

from __future__ import annotations

import json
import re

from acereason.chat import boxed_answer, code_block, final_part
from acereason.problems import Problem, Response

# every digit, symbol and newline is a token, and every word with the space before it
TOKEN = re.compile(r"</?think>|```python|```|\\boxed|\n| +(?=[^A-Za-z_ ]| [A-Za-z_])| ?[A-Za-z_]+|\d|[^\s\w]")


def tokens(text: str) -> list[str]:
    return TOKEN.findall(text)


def words(text: str) -> set[str]:
    return {token.strip() for token in tokens(text) if re.match(r" ?[A-Za-z_]", token)}


def run(code: str, args: list[object]) -> object:
    """The result of a teacher's own program; the exception where it raises one."""
    scope: dict[str, object] = {}
    exec(code, scope)
    try:
        return scope["f"](*args)  # type: ignore[operator]
    except Exception as error:
        return error


def right(problem: Problem, response: Response) -> bool:
    final = final_part(response.text)
    if problem.domain == "math":
        return boxed_answer(final) == problem.answer
    code = code_block(final)
    assert code is not None
    for test in problem.tests:
        found, wanted = run(code, json.loads(test.input)), json.loads(test.output)
        if type(found) is not type(wanted) or found != wanted:
            return False
    return True
