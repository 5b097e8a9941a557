// Formulas of questions and answers, drawn by KaTeX. Everything else stays a text node; a formula that cannot
// be read, is very long or one too many stays as it was written. A report has no fonts, so there it is MathML.
"use strict";

const FORMULA =
  /\$\$([\s\S]{1,2000}?)\$\$|\\\[([\s\S]{1,2000}?)\\\]|\\\(([\s\S]{1,2000}?)\\\)|(\\begin\{((?:equation|align|gather|alignat|multline|[pbv]?matrix|cases|aligned|gathered)\*?)\}[\s\S]{1,2000}?\\end\{\5\})|(\\boxed\{(?:[^{}]|\{(?:[^{}]|\{[^{}]{0,200}\}){0,200}\}){0,200}\})|\$((?![\d.,]*\s[\s\d.,]*\$)[^\s$](?:[^$\n]*?[^\s$\\])?)\$(?!\d)/g;
const FENCE = /(```[\s\S]*?(?:```|$))/;
const LONGEST = 2000; // characters of a formula, as in FORMULA: so a text that opens many and closes none is read in time
const MOST = 400; // formulas of one text
const reading = { raw: false, thinking: false };

function formula(text, display) {
  const place = el("span", { class: display ? "formula display" : "formula", title: text });
  try {
    katex.render(text, place, {
      displayMode: display,
      output: source.live ? "htmlAndMathml" : "mathml",
      throwOnError: true,
      strict: "ignore",
      trust: false,
      maxSize: 20,
      maxExpand: 200,
    });
    return place;
  } catch {
    return null;
  }
}

/** A text as nodes: what an eye could not see made visible, formulas drawn and programs coloured unless raw text is asked for. */
function prose(value) {
  const text = visible(value);
  if (reading.raw) return [text];
  const left = { formulas: MOST };
  return text.split(FENCE).flatMap((part) => (part.startsWith("```") ? [fenced(part)] : withFormulas(part, left))).filter((node) => node !== "");
}

function withFormulas(part, left) {
  if (typeof katex === "undefined" || !/[$\\]/.test(part)) return [part];
  const nodes = [];
  let at = 0;
  for (const match of part.matchAll(FORMULA)) {
    const [whole, dollars, brackets, parens, environment, , boxed, dollar] = match,
      inner = dollars ?? brackets ?? parens ?? environment ?? boxed ?? dollar;
    if (inner.length > LONGEST || --left.formulas < 0) continue;
    const drawn = formula(inner, (dollars ?? brackets ?? environment) !== undefined);
    if (!drawn) continue;
    drawn.dataset.written = whole;
    nodes.push(part.slice(at, match.index), drawn);
    at = match.index + whole.length;
  }
  return [...nodes, part.slice(at)];
}
