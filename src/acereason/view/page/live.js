// Where answers come from when a server is there. Every question goes to this page's own origin.
"use strict";

async function get(path, parameters = {}) {
  const pairs = Array.isArray(parameters) ? parameters : Object.entries(parameters),
    known = pairs.filter(([, value]) => hasText(value));
  const answer = await fetch(`/api/${path}?${new URLSearchParams(known)}`, { signal: AbortSignal.timeout(20000) });
  const value = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(value.error ?? `status ${answer.status}`), { status: answer.status });
  return value;
}

/** The one question that is no reading: only a page of this server can ask it. */
async function post(path, body) {
  const answer = await fetch(`/api/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: AbortSignal.timeout(20000) });
  const value = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(value.error ?? `status ${answer.status}`), { status: answer.status });
  return value;
}

const source = {
  live: true,
  overview: () => get("runs"),
  studies: () => get("studies"),
  run: (run, version) => get("run", { run, version }),
  responses: (run, filter) => get("responses", { run, ...filter }),
  group: (run, file, problem) => get("group", { run, file, problem }),
  text: (run, file, problem, sample) => get("text", { run, file, problem, sample }),
  desk: (run) => get("desk", { run }),
  judge: (run, responses) => post("judge", { run, responses }),
  lab: (runs) => get("lab", runs.map((run) => ["run", run])),
};
