r"""What counts as the same text: one tokenisation for duplicates and for contamination.

A token is a word, a number or a LaTeX command *together with the operators and brackets that stand
before it*: `Find $x^2 + y = 5$` is `find x ^2 +y =5`. So n-grams are counted over operands, as
people count words, while `3 + 5` and `3 - 5` stay different. The normalisation, in order:

1. lower case; Unicode by NFKC after `x²` became `x^2`; minus signs, primes and quotes to ASCII;
2. LaTeX by meaning: `\dfrac`, `\tfrac` → `\frac`, `\frac{1}{2}` → `1/2`, `\left( … \right)` →
   `( … )`, `\cdot`, `\times` → `*`, `\le` → `<=`, `\text{…}` → its content, spacing commands →
   a space, `x^{2}` → `x^2`;
3. `1,000`, `1{,}000` and `1\,000` → `1000`; a hyphen between words → a space; Markdown emphasis
   dropped; a numbering such as `12.` or `Problem 3:` at the start dropped;
4. `. , : ; ? ' " $ # @` and backticks vanish; `!` stays after an operand (a factorial).

Chinese, Japanese and Korean characters are one token each. Token hashes are the first 8 bytes of
BLAKE2b, so decisions are equal on every machine; the lowest bit says whether the token is
*decisive*: anything but an ordinary word. Two texts whose decisive tokens differ ask different
things.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from array import array
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from acereason.draws import STEP, finalise

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_SHORT = "am an as at be by do go he if in is it me my of oh on or so to up us we et de la le"
_SHORT_WORDS = frozenset(_SHORT.split())
_DECISIVE = """
    no not none never without all any every each zero one two three four five six seven eight nine
    ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty
    forty fifty sixty seventy eighty ninety hundred thousand million billion half third quarter
    first second fourth fifth sixth seventh eighth ninth tenth last once twice thrice double triple
    even odd prime positive negative nonnegative maximum minimum maximal minimal maximize minimize
    max min least most greatest smallest largest lowest highest longest shortest less more fewer
    greater smaller larger increasing decreasing ascending descending before after left right above
    below inside outside sum difference product quotient plus minus times perimeter area volume
    sine cosine tangent sin cos tan true false distinct same adjacent row column rows columns mean
    median mode"""
_DECISIVE_WORDS = frozenset(_DECISIVE.split())

_COMMANDS = {
    "dfrac": "\\frac", "tfrac": "\\frac", "cfrac": "\\frac", "cdot": "*", "times": "*", "ast": "*",
    "div": "/", "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=", "geq": ">=",
    "geqslant": ">=", "ne": "!=", "neq": "!=", "lt": "<", "gt": ">", "to": "->", "rightarrow": "->",
    "mid": "|", "vert": "|", "lvert": "|", "rvert": "|", "lbrace": "{", "rbrace": "}",
    "ldots": "...", "dots": "...", "cdots": "...", "degree": "\\circ", "pmod": "\\mod",
    "bmod": "\\mod", "%": "%",
}  # fmt: skip
_LAYOUT = """
    left right big bigg bigl bigr biggl biggr displaystyle textstyle limits nolimits quad qquad text
    textbf textit textrm texttt mathrm mathbf mathit mathsf mathtt mbox hbox operatorname emph
    underline hspace vspace noindent item begin end ( ) [ ] , ; : ! > space newline"""
_NOTHING = frozenset(_LAYOUT.split())
_COMMAND = re.compile(r"\\([a-z]+|.)", re.DOTALL)
_BRACED = re.compile(r"\{\s*(\\?[a-z]+|\d+)\s*\}")
_FRACTION = re.compile(r"\\frac\s*(?:([a-z]|\d+)[/ ]([a-z]|\d+)|(\d)(\d))(?![a-z\d])")
_NUMBERING = re.compile(
    r"\s*(?:#+\s*)?(?:(?:problem|task|exercise|question|example)\s*\d+\s*[.:)-]?"
    r"|\d{1,3}[.)](?:(?=\s*[a-z]{2})|\s+(?=\W{0,3}[a-z]|\d+\s)))\s*"
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?![\d,])")
_HYPHEN = re.compile(r"(?<=[a-z]{2})-(?=[a-z]{2})")
_EMPHASIS = re.compile(r"(?<![\w)\]])\*{1,3}(?=[a-z]{2}[^*\n]{0,200}\*)|(?<=[a-z:.?!)])\*{2,3}(?!\d)")
_PRIME = re.compile(r"(?:(?<=\b[a-z])|(?<=\)))'+(?!s\b)")
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴-⁹⁺⁻ⁿⁱ]+")
_ASCII = str.maketrans(
    {"−": "-", "–": "-", "—": " ", "×": "*", "·": "*", "÷": "/", "≤": "<=", "≥": ">=", "≠": "!=",
     "“": " ", "”": " ", "‘": " ", "’": "'", "…": "...",
     "°": "\\circ ", "√": "\\sqrt ", "π": "\\pi ",
     "\u200b": "", "\ufeff": "", "\u00ad": ""}
)  # fmt: skip
_SEPARATORS = str.maketrans("", "", "'`$#@\"")
_OPERATOR = r"[-+*/^=<>%|&~()\[\]{}_\\]|(?<=[\d)\]}])!|(?<=\b[a-z])!"
_WORD = r"(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+(?:\.\d+)?|[a-z]+)"
_TOKEN = re.compile(rf"(?:(?:{_OPERATOR})\s*)++{_WORD}?|{_WORD}")
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WIDE_WORD = rf"(?:\d{{1,3}}(?:,\d{{3}})+(?![\d,])|\d+(?:\.\d+)?|[{_CJK}]|[^\W\d_{_CJK}]+)"
_WIDE_TOKEN = re.compile(rf"(?:(?:{_OPERATOR})\s*)++{_WIDE_WORD}?|{_WIDE_WORD}")
_PLAIN = re.compile(rf"[^\W\d_{_CJK}]+")
_SPACES = re.compile(r"[\s,]+")


def _command(match: re.Match[str]) -> str:
    name = match[1]
    if name in _COMMANDS:
        return f"{_COMMANDS[name]} "
    if name in _NOTHING or name.isspace():
        return " "
    return f"\\{name} " if name.isalpha() else name


def _fraction(match: re.Match[str]) -> str:
    return f" {match[1] or match[3]}/{match[2] or match[4]}"


def _latex(text: str) -> str:
    """LaTeX rewritten by meaning; text without a backslash needs none of it."""
    text = _COMMAND.sub(_command, text)
    if "{" in text:
        text = _BRACED.sub(r" \1 ", text)
    if "\\frac" in text:
        text = _FRACTION.sub(_fraction, re.sub(r"(\\frac)\s+(\w+)\s+(\w+)", r"\1 \2/\3", text))
    return text


def _unicode(text: str) -> str:
    text = _SUPERSCRIPTS.sub(lambda match: "^" + match[0], text.translate(_ASCII))
    return unicodedata.normalize("NFKC", text).replace("⁄", "/").replace("−", "-")


def normalise(text: str) -> str:
    """The text after steps 1 to 3 of the module's description, ready to be cut into tokens."""
    if not text.isascii():
        text = _unicode(text)
    text = text.lower()
    if numbering := _NUMBERING.match(text):
        text = text[numbering.end() :] or text
    if "," in text:
        text = _THOUSANDS.sub(lambda m: re.sub(r"[^\d]", "", m[0]), text)
    if "\\" in text:
        text = _latex(text)
    elif "{" in text:
        text = _BRACED.sub(r" \1 ", text)
    if "-" in text:
        text = _HYPHEN.sub(" ", text)
    if "*" in text:
        text = _EMPHASIS.sub(" ", text)
    if "'" in text:
        text = _PRIME.sub(lambda match: "^\\prime " * len(match[0]), text)
    return text.translate(_SEPARATORS)


def _raw_tokens(text: str) -> list[str]:
    text = normalise(text)
    return (_TOKEN if text.isascii() else _WIDE_TOKEN).findall(text)


def tokens(text: str) -> list[str]:
    """The tokens of a text, operators attached to the operand that they stand before."""
    return [_SPACES.sub("", token) for token in _raw_tokens(text)]


def decisive(token: str) -> bool:
    """Whether exchanging this token for another may change what is asked: not an ordinary word."""
    if not _PLAIN.fullmatch(token) or token in _DECISIVE_WORDS:
        return True
    return token != "a" and len(token) <= 2 and token.isascii() and token not in _SHORT_WORDS


def token_hash(token: str) -> int:
    """64 bits of BLAKE2b whose lowest bit is `decisive(token)`."""
    digest = hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") & ~1 | decisive(token)


class _Hashes(dict[str, int]):
    """Token hashes by raw token, up to a bound: the cache changes speed, never a result."""

    def __missing__(self, raw: str) -> int:
        value = token_hash(_SPACES.sub("", raw))
        if len(self) < 1 << 18:
            self[raw] = value
        return value


_hashes = _Hashes()


class Encoded(NamedTuple):
    """Texts as token hashes: text i is `ids[starts[i] : starts[i + 1]]`."""

    ids: U64
    starts: I64

    def __len__(self) -> int:
        return len(self.starts) - 1


def encode(texts: Iterable[str]) -> Encoded:
    """The token hashes of several texts, one after the other."""
    ids, starts = array("Q"), array("q", [0])
    lookup = _hashes.__getitem__
    for text in texts:
        ids.extend(map(lookup, _raw_tokens(text)))
        starts.append(len(ids))
    return Encoded(np.frombuffer(ids, np.uint64), np.frombuffer(starts, np.int64))


_powers = np.cumprod(np.full(1 << 16, STEP, np.uint64), dtype=np.uint64)


def ngrams(encoded: Encoded, n: int) -> tuple[U64, I64]:
    """Hashes of all n-grams and the text each one stands in; texts under n tokens have none."""
    ids, starts = encoded
    count = len(ids) - n + 1
    if count <= 0:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    hashes = np.zeros(count, np.uint64)
    for k in range(n):
        hashes *= STEP
        hashes += ids[k : k + count]
    owner = np.repeat(np.arange(len(encoded)), np.diff(starts))
    inside = owner[:count] == owner[n - 1 :]
    return finalise(hashes[inside]), owner[:count][inside]


def sequence_hashes(encoded: Encoded, only_decisive: bool = False) -> U64:
    """One hash per text of its whole token sequence, or of its decisive tokens in their order."""
    ids, starts = encoded
    if only_decisive:
        flags = (ids & np.uint64(1)).astype(bool)
        starts = np.concatenate([[0], np.cumsum(flags)])[starts]
        ids = ids[flags]
    lengths = np.diff(starts)
    position = np.arange(len(ids)) - np.repeat(starts[:-1], lengths)
    terms = np.append(ids * _powers[position % len(_powers)], np.uint64(0))
    sums = np.add.reduceat(terms, starts[:-1]) if len(lengths) else np.zeros(0, np.uint64)
    sums[lengths == 0] = 0
    return finalise(sums + lengths.astype(np.uint64) * STEP)
