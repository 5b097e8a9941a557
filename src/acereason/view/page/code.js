// Programs in answers, coloured: a reader of Python's words, small on purpose. It changes no character, so what is found, copied and
// counted is the text itself. What is no Python, and what is very long, stays as it is.
"use strict";

const PYTHON =
  /(#[^\n]*)|([rbfuRBFU]{0,2}(?:"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?))|(\b(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*\.?[\d_]*(?:[eE][+-]?\d+)?)[jJ]?)|(@[A-Za-z_][\w.]*)|([A-Za-z_]\w*)/g;
const LOOKS_LIKE_PYTHON = /^[ \t]*(?:def|class|import|from|for|while|if|print|return|with)\b/m; // blanks of one line: \s would try every line from every line
const KEYWORDS = new Set(
  ("False None True and as assert async await break class continue def del elif else except finally for from global if import in is " +
    "lambda nonlocal not or pass raise return try while with yield match case").split(" "),
);
const BUILTINS = new Set(
  ("abs all any bin bool bytes chr dict divmod enumerate eval exec filter float frozenset hash hex id input int isinstance iter len " +
    "list map max min next object open ord pow print range repr reversed round set setattr getattr slice sorted str sum super tuple " +
    "type zip").split(" "),
);
const LONGEST_CODE = 200_000; // characters
const MOST_WORDS = 20_000; // coloured words of one text

/** Python as text nodes and spans. */
function python(text) {
  if (text.length > LONGEST_CODE) return [text];
  const nodes = [];
  let at = 0,
    before = "",
    count = 0;
  for (const match of text.matchAll(PYTHON)) {
    const [said, comment, string, number, decorator, word] = match;
    const kind = comment ? "comment" : string ? "string" : number ? "number" : decorator ? "builtin" : wordKind(word, before);
    before = word ?? "";
    if (!kind) continue;
    if (++count > MOST_WORDS) break;
    nodes.push(text.slice(at, match.index), el("span", { class: `py-${kind}` }, said));
    at = match.index + said.length;
  }
  return [...nodes, text.slice(at)].filter((node) => node !== "");
}

function wordKind(word, before) {
  if (KEYWORDS.has(word)) return "keyword";
  if (before === "def" || before === "class") return "name";
  return BUILTINS.has(word) ? "builtin" : "";
}

/** A fenced block with its fences; coloured where it says Python, or says nothing and looks like it. */
function fenced(part) {
  const [, open, language, body, close] = /^(```[ \t]*([\w+-]*)[^\n]*\n?)([\s\S]*?)((?:```)?)$/.exec(part);
  const named = /^(python|py)\d*$/i.test(language),
    looks = !language && LOOKS_LIKE_PYTHON.test(body.slice(0, LONGEST_CODE));
  const fence = (text) => (text ? el("span", { class: "soft" }, text) : "");
  return el("span", { class: "code" }, fence(open), named || looks ? python(body) : body, fence(close));
}
