"""One spelling for many: what Unicode, LaTeX and plain text write differently and mean alike.

`clean` is linear in its argument and knows nothing of values. It turns Unicode signs into LaTeX, drops
spacing, sizing and math delimiters, joins digit groups, unwraps fonts, and writes all commands for text
as `\\text`. `clean_reference` first takes a reference out of its boxes. What a word or a unit means is
read elsewhere (`texts.py`, `units.py`).
"""

from __future__ import annotations

import re
import unicodedata

ROW = "\ue000"  # stands for the LaTeX line break
# Signs of currency, each as one private character, and what they are called in `units.py`.
CURRENCIES = {
    "\ue010": "dollar", "\ue011": "euro", "\ue012": "sterling", "\ue013": "yen", "\ue014": "rupee",
    "\ue015": "cent",
}  # fmt: skip
_CURRENCY_MARKS = {name: mark for mark, name in CURRENCIES.items()}
_SIGNS = {
    **dict.fromkeys("−–—‐‑‒﹣－", "-"),
    **dict.fromkeys("×·⋅∗•", "\\cdot "),
    **dict.fromkeys("⁄∕", "/"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    **dict.fromkeys("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
                    "\u202f\u205f\u3000\t\n\r", " "),
    **dict.fromkeys((ROW, *CURRENCIES), "?"),
    "€": _CURRENCY_MARKS["euro"], "£": _CURRENCY_MARKS["sterling"], "¥": _CURRENCY_MARKS["yen"],
    "₹": _CURRENCY_MARKS["rupee"], "¢": _CURRENCY_MARKS["cent"],
    "÷": "/", "π": "\\pi ", "∞": "\\infty ", "√": "\\sqrt ", "≤": "\\le ", "≥": "\\ge ",
    "⩽": "\\le ", "⩾": "\\ge ", "≠": "\\ne ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ",
    "∅": "\\emptyset ", "°": "^\\circ ", "º": "^\\circ ", "±": "\\pm ", "∓": "\\mp ",
    "′": "'", "’": "'", "‘": "'", "“": '"', "”": '"', "≈": "\\approx ", "∨": "\\vee ", "ℝ": "\\mathbb{R}",
    "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}", "ℚ": "\\mathbb{Q}", "ℂ": "\\mathbb{C}",
    "（": "(", "）": ")", "，": ",", "：": ":", "＝": "=", "＋": "+", "．": ".", "％": "%",
    "⟨": "(", "⟩": ")", "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ",
    "⌉": "\\rceil ", "∣": "|", "∼": "\\sim ", "…": "\\ldots ", "θ": "\\theta ", "α": "\\alpha ",
    "β": "\\beta ", "γ": "\\gamma ", "λ": "\\lambda ", "μ": "\\mu ", "φ": "\\phi ", "ω": "\\omega ",
    "σ": "\\sigma ", "δ": "\\delta ", "ε": "\\epsilon ", "ρ": "\\rho ", "τ": "\\tau ",
    "Δ": "\\Delta ", "Ω": "\\Omega ", "Σ": "\\Sigma ", "Π": "\\Pi ",
}  # fmt: skip
_SUPERSCRIPT = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUBSCRIPT = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SCRIPTS = re.compile(f"[{''.join(_SUPERSCRIPT)}]+|[{''.join(_SUBSCRIPT)}]+")
_VULGAR = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5",
    "⅗": "3/5", "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8",
    "⅝": "5/8", "⅞": "7/8", "⅑": "1/9", "⅒": "1/10",
}  # fmt: skip

_SIZES = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|nolimits)"
    r"(?![A-Za-z])\s*\.?(?![\d])|\\(?:left|right)\."
)
_SPACES = re.compile(r"\\(?:quad|qquad|hspace\{[^{}]*\}|hfill|thinspace|enspace)(?![A-Za-z])|~")
_ALIASES = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom",
    "leq": "le", "geq": "ge", "leqslant": "le", "geqslant": "ge", "lt": "<", "gt": ">",
    "neq": "ne", "times": "cdot", "ast": "cdot", "bullet": "cdot", "div": "/",
    "varnothing": "emptyset", "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "lbrace": "\\{",
    "rbrace": "\\}", "lbrack": "[", "rbrack": "]", "lparen": "(",
    "rparen": ")", "langle": "(", "rangle": ")",
    "simeq": "approx", "doteq": "approx", "equiv": "=", "colon": ":",
    "degree": "^\\circ", "deg": "^\\circ", "lor": "vee",
    "land": "wedge", "R": "mathbb{R}", "Re": "mathbb{R}", "varphi": "phi", "varepsilon": "epsilon",
    "vartheta": "theta", "prime": "'", "percent": "%", "arccos": "acos", "arcsin": "asin",
    "arctan": "atan", "dots": "ldots", "cdots": "ldots", "ne": "ne", "overrightarrow": "vec",
    "backslash": "setminus",
}  # fmt: skip
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_FONT = r"(?:mathbf|mathrm|mathit|mathsf|mathtt|mathcal|boldsymbol|bm|pmb|operatorname\*?|rm|bf|it)"
_POWER = r"(?:\s*\^\s*\{?-?\d\}?)?"
_LETTERS = re.compile(
    rf"[A-Za-z]{{2}}|^\s*[A-Za-z]{_POWER}\s*$|^\s*[mgsNJ]{_POWER}\s*(?:/|\s)\s*[mgshL]{_POWER}\s*$"
)
_INSIDE = r"\s*\{((?:[^{}]|\{[^{}]*\})*)\}"  # of a group, with braces one level deep
_FONT_GROUP = re.compile(r"\\" + _FONT + _INSIDE)
_TEXT_GROUP = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|sc|sl|md|up|normal)?|[mhf]box|emph)(?![A-Za-z])" + _INSIDE
)
_DIGIT_GROUPS = re.compile(r"(?<![\d.])(?<!\d,)\d{1,3}(?:(?:\{,\}|\\text\{,\}|\\[,!;: ]|[ ~])\d{3})+(?![\d])")
_REPEATING = re.compile(r"(\d*)\.(\d*)\s*\\(?:overline|bar|dot)\s*\{?(\d+)\}?")
_BRACE_COMMA = re.compile(r"(?<=\d)\{,\}(?=\d{3})")
_CURRENCY = re.compile(
    r"\\\$|(?<![A-Za-z])US\$|(?P<rupee>(?<![A-Za-z])Rs\.?(?=\s*\d))|\\(?:text|math)?dollar(?![A-Za-z])"
    r"|(?P<euro>\\(?:text)?euro(?![A-Za-z]))|(?P<sterling>\\(?:pounds|textsterling)(?![A-Za-z]))"
    r"|(?P<yen>\\(?:text)?yen(?![A-Za-z]))|(?P<dollar>(?<![A-Za-z])USD(?![A-Za-z]))"
)
_TYPED_DOLLAR = re.compile(r"\$(?=\s*-?[\d.])")
_TEXT_MARK = re.compile("\\\\text\\{\\s*([\ue010-\ue015])\\s*\\}")
_GROUP_COMMA = re.compile(r"(?<![\d.])(?<!\d,)\d{1,3}(?:\s*,\s*(?:\\!\s*|~)\d{3})+(?!\d)")
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z]{2}|[{}%$,;!:])")
_COLOR = re.compile(r"\\(?:text)?color\s*(?:\[\w*\])?\s*\{[^{}]*\}")
_FRAMED = re.compile(r"\\(?:fbox|underline)\s*\{([^{}A-Za-z]*)\}")
_SWITCH = re.compile(
    r"\\(?:(?:bf|it|rm|sf|tt|em|cal|bfseries|boldmath)(?![A-Za-z]|\s*\{)"
    r"|(?:tiny|small|normalsize|large|Large|LARGE|huge|Huge)(?![A-Za-z]))\s*"
)
_ROW_GAP = re.compile(f"{ROW}\\s*\\[-?[\\d.]+(?:pt|em|ex|mm|cm)\\]|\\\\cr(?![A-Za-z])")
_POWER_SIGN = re.compile(r"(?<=[\w)}\]])\s*\*\*\s*(?=[\w({\\+-])")
_TYPED_TIMES = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)")
_UNIT_QUOTIENT = re.compile(r"\\frac\{\s*(\\text\{[^{}]*\})\s*\}\{\s*(\\text\{[^{}]*\})\s*\}")
_QUOTED = re.compile(r"([\"`])([^\"`]+)\1")
_ROOT_SIGN = re.compile(r"√\s*(\d+(?:\.\d+)?|[A-Za-z])")
_TYPED_ROOT = re.compile(r"(?<![A-Za-z\\])sqrt\s*(\d+(?:\.\d+)?)")
_BLACKBOARD = re.compile(r"\\mathbb\s+([A-Z])")
_UNIT_LETTER = re.compile(rf"(?<=[\d}}])\s*\\mathrm\s*\{{\s*([mgshlLtNJWVAK]{_POWER})\s*\}}")
_LABEL = re.compile(
    r"^\s*\\text\{\s*(?:the )?(?:final )?answer(?: is)?:?\s*\}\s*[:=]?\s*(?=.)", re.IGNORECASE
)
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BETWEEN = re.compile(r"[\s$\\()\[\],;.+]*|[\s$]*(?:[A-Za-z]+\s+){0,2}(?:and|or)[\s$]*")
_THIN = re.compile(r"\\[,!;: ]")
_TRAILING = re.compile(r"[\s.,;\ue000]+$")
_OPERATORS = frozenset(
    ["sin", "cos", "tan", "cot", "sec", "csc", "ln", "log", "exp", "arcsin", "arccos", "arctan"]
)


def _character(c: str) -> str:
    if c in _SIGNS:
        return _SIGNS[c]
    if c in _VULGAR:
        top, bottom = _VULGAR[c].split("/")
        return f"\\frac{{{top}}}{{{bottom}}}"
    if c.isdecimal():
        return str(unicodedata.decimal(c))
    return unicodedata.normalize("NFKC", c) if "\uff00" <= c <= "\uffef" else c


def _scripts(text: str) -> str:
    def plain(match: re.Match[str]) -> str:
        mark, table = ("^", _SUPERSCRIPT) if match[0][0] in _SUPERSCRIPT else ("_", _SUBSCRIPT)
        return mark + "{" + "".join(table[c] for c in match[0]) + "}"

    return _SCRIPTS.sub(plain, text)


def _alias(match: re.Match[str]) -> str:
    name = _ALIASES.get(match[1])
    if name is None:
        return match[0]
    return name if not name[0].isalpha() else "\\" + name


def _joined(match: re.Match[str]) -> str:
    return re.sub(r"\D", "", match[0])


def _ungrouped(match: re.Match[str]) -> str:
    return re.sub(r"\D", "", match[0])


def _repeating(match: re.Match[str]) -> str:
    """0.1\\overline{6} as the fraction (16 − 1)/90."""
    whole, start, cycle = match[1] or "0", match[2], match[3]
    top = int(whole + start + cycle) - int(whole + start)
    bottom = (10 ** len(cycle) - 1) * 10 ** len(start)
    return f"({top}/{bottom})"


def clean_reference(text: str) -> str:
    """The canonical spelling of a reference: of what is in its boxes, where it has any."""
    if "boxed" in text or "fbox" in text:
        text = unboxed(text)
    return clean(text)


def unboxed(text: str) -> str:
    """The content of the last box; of several as a list when only punctuation or a short "and" parts
    them; the text itself when no box closes."""
    boxes: list[str] = []
    end = 0
    for match in _BOX.finditer(text):
        close = _closing(text, match.end())
        if match.start() < end or close < 0:
            continue
        if not _BETWEEN.fullmatch(text[end : match.start()]):
            boxes.clear()
        boxes.append(text[match.end() : close].strip())
        end = close + 1
    return ", ".join(boxes) if boxes else text


def _closing(text: str, start: int) -> int:
    """Where the brace that was opened before `start` closes; −1 when it does not."""
    depth = 1
    for match in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.start()
    return -1


def clean(text: str) -> str:
    """The canonical spelling of a boxed answer or a reference."""
    if not text.isascii():
        text = _ROOT_SIGN.sub(r"\\sqrt{\1}", text)
        text = "".join(map(_character, _scripts(text)))
    text = _BLACKBOARD.sub(r"\\mathbb{\1}", _TYPED_ROOT.sub(r"\\sqrt{\1}", text)).strip()
    if text.startswith("**") and text.endswith("**") and len(text) > 4:
        text = text[2:-2].strip()
    quoted = _QUOTED.fullmatch(text)
    text = _POWER_SIGN.sub("^", quoted[2].strip() if quoted else text)
    if "\\" in text:
        text = _plain_commands(text)
    text = _currencies(text)
    text = _DIGIT_GROUPS.sub(_joined, text)
    if "\\" in text or "~" in text:
        text = _plain_spacing(text)
    text = _TYPED_TIMES.sub("\\\\cdot ", text)
    text = _TRAILING.sub("", text)
    return _unwrapped(text).strip().removeprefix("=").lstrip()


def _plain_commands(text: str) -> str:
    """Escaped signs, line breaks, colours and delimiters of mathematics."""
    if "\\\\" in text and "begin" not in text:
        text = _DOUBLED.sub(lambda m: "\\", text)
    text = _CURRENCY.sub(_currency, text)
    text = text.replace("\\%", "%").replace("\\&", "&")
    text = _ROW_GAP.sub(ROW, text.replace("\\\\", ROW))
    text = _COLOR.sub("", text)
    for delimiter in ("\\(", "\\)", "\\[", "\\]"):
        text = text.replace(delimiter, " ")
    return text


def _currency(match: re.Match[str]) -> str:
    return _CURRENCY_MARKS[match.lastgroup or "dollar"]


def _currencies(text: str) -> str:
    """A dollar sign that no other one closes stands for money; others delimit mathematics."""
    if "$" in text:
        if text.count("$") % 2:
            text = _TYPED_DOLLAR.sub(_CURRENCY_MARKS["dollar"], text, count=1)
        text = text.replace("$", "")
    return _CURRENCY.sub(_currency, text) if "USD" in text or "Rs" in text else text


def _plain_spacing(text: str) -> str:
    """Sizes, spaces and repeated digits; one name for every command."""
    text = _BRACE_COMMA.sub("", _GROUP_COMMA.sub(_ungrouped, text))
    text = _SWITCH.sub("", _SIZES.sub("", text))
    text = _SPACES.sub(" ", text)
    text = _THIN.sub(lambda m: "" if m[0] == "\\!" else " ", text)
    text = _FRAMED.sub(r"\1", _COMMAND.sub(_alias, text)).replace("^{\\circ}", "^\\circ ")
    return _REPEATING.sub(_repeating, text).rstrip("\\")


def _unwrapped(text: str) -> str:
    """Fonts dropped; a text group around the whole is dropped too."""
    if "\\" not in text:
        return re.sub(r"\s+", " ", text)
    text = _TEXT_MARK.sub(r"\1", text)
    text = _LABEL.sub("", text)
    text = _UNIT_LETTER.sub(r"\\text{\1}", text)
    for _ in range(3):
        text = _FONT_GROUP.sub(_font, text)
        text = _TEXT_GROUP.sub(_text, text)
        whole = _TEXT_GROUP.fullmatch(text.strip())
        if whole:
            text = whole[1]
        text = _TRAILING.sub("", text)
    return re.sub(r"\s+", " ", _UNIT_QUOTIENT.sub(r"\1/\2", text))


def _font(match: re.Match[str]) -> str:
    """Letters in a font: a function's name, a text of several letters, or one symbol."""
    inside = match[1].strip()
    if inside in _OPERATORS:
        return f"\\{inside} "
    return f"\\text{{{inside}}}" if re.search("[A-Za-z]{2}", inside) else inside


def _text(match: re.Match[str]) -> str:
    return f"\\text{{{match[1]}}}" if _LETTERS.search(match[1]) else f" {match[1]} "


def without_texts(text: str) -> str:
    """The text with its text groups unwrapped in place."""
    return re.sub(r"\s+", " ", _TEXT_GROUP.sub(lambda m: f" {m[1]} ", text)).strip()
