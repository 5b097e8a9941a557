// Formulas of questions and answers, drawn by KaTeX. Everything else stays a text node; a formula that cannot
// be read, is very long or one too many stays as it was written. A report has no fonts, so there it is MathML.
"use strict";

const FORMULA = /\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|\$((?![\s\d.,]+\$)[^\s$](?:[^$\n]*?[^\s$\\])?)\$(?!\d)/g;
const FENCE = /(```[\s\S]*?(?:```|$))/;
const LONGEST = 2000; // characters of a formula
const MOST = 400; // formulas of one text
const reading = { raw: false };

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

/** A text as nodes: what an eye could not see made visible, formulas drawn unless raw text is asked for. */
function prose(value) {
  const text = visible(value);
  if (reading.raw || typeof katex === "undefined" || !/[$\\]/.test(text)) return [text];
  const nodes = [];
  let count = 0;
  for (const part of text.split(FENCE)) {
    if (part.startsWith("```")) {
      nodes.push(el("span", { class: "code" }, part));
      continue;
    }
    let at = 0;
    for (const match of part.matchAll(FORMULA)) {
      const [whole, dollars, brackets, parens, dollar] = match,
        inner = dollars ?? brackets ?? parens ?? dollar;
      if (inner.length > LONGEST || ++count > MOST) continue;
      const drawn = formula(inner, dollars !== undefined || brackets !== undefined);
      if (!drawn) continue;
      nodes.push(part.slice(at, match.index), drawn);
      at = match.index + whole.length;
    }
    nodes.push(part.slice(at));
  }
  return nodes.filter((node) => node !== "");
}
