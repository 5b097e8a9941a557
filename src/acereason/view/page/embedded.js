// Where answers come from in a report: the run that stands in the file, with some of its responses.
"use strict";

const held = JSON.parse(document.getElementById("run").textContent);
const heldRows = held.responses.flatMap(({ file, stage, step, groups }) =>
  groups.flatMap((one) =>
    one.responses.map((row) => ({
      ...row,
      file,
      stage,
      step,
      problem_id: one.problem_id,
      family: one.family,
      level: one.level,
      said: row.extracted ?? (row.answer ?? row.thinking ?? "").trimEnd().slice(-120),
    })),
  ),
);

function heldMatches(row, wanted) {
  const texts = [row.thinking, row.answer, row.extracted, row.detail, row.problem_id];
  return (
    (!wanted.stage || row.stage === wanted.stage) &&
    (!wanted.step || row.step === Number(wanted.step)) &&
    (!wanted.outcome || row.outcome === wanted.outcome) &&
    (!wanted.truncated || (row.finish === "length") === (wanted.truncated === "yes")) &&
    (!wanted.family || row.family === wanted.family) &&
    (!wanted.text || texts.some((text) => text?.includes(wanted.text)))
  );
}

const source = {
  live: false,
  held: held.name,
  run: async () => held,
  responses: async (_, wanted) => {
    const rows = heldRows.filter((row) => heldMatches(row, wanted)),
      start = Number(wanted.start) || 0;
    return {
      rows: rows.slice(start, start + 50),
      matching: rows.length,
      more: rows.length > start + 50,
      searched: 1,
      indexed: 1,
      total: heldRows.length,
      of: held.responses.reduce((sum, stage) => sum + stage.total, 0),
      stages: Object.fromEntries(held.responses.map(({ stage, step }) => [stage, [step]])),
      outcomes: unique(heldRows.map((row) => String(row.outcome))),
      families: unique(heldRows.map((row) => row.family).filter(hasText)),
    };
  },
  group: async (_, file, problem) => {
    const stage = held.responses.find((one) => one.file === file),
      found = stage?.groups.find((one) => one.problem_id === problem);
    if (!found) throw Object.assign(new Error("this report does not hold that group"), { status: 404 });
    const others = held.responses.flatMap((one) => {
      const same = one.file !== file && one.groups.find((group) => group.problem_id === problem);
      const right = same && same.responses.filter((row) => row.reward === 1).length;
      return same ? [{ file: one.file, stage: one.stage, step: one.step, of: same.responses.length, right }] : [];
    });
    return { file, stage: stage.stage, step: stage.step, others, ...found };
  },
};
