// The way about: the address after # says what is shown, and once a second what is shown is asked for anew.
//
//   #/                              the overview          #/run/NAME                 a run's curves
//   #/run/NAME/responses?stage=…    its responses         #/run/NAME/group/FILE/PROBLEM/SAMPLE?with=…
//   #/run/NAME/desk                 what was rewarded and is suspicious
//   #/compare?run=…&run=…            the comparison lab   #/studies                  the claims
"use strict";

const EVERY = 1000; // milliseconds between two looks
const page = document.getElementById("page");
let current = { route: null };
const scrolls = new Map(keptScrolls()); // how far down each entry of the browser's history was left, and each address
let entry = 0;
let returning = false; // to an address by its link: where it was left is where it is shown
history.scrollRestoration = "manual"; // what is shown is not there yet when the browser would scroll

/** Where the entries were left before this page was loaded anew. */
function keptScrolls() {
  try {
    return JSON.parse(sessionStorage.getItem("scrolls") ?? "[]");
  } catch {
    return [];
  }
}

function keepScrolls() {
  scrolls.set(entry, scrollY);
  try {
    sessionStorage.setItem("scrolls", JSON.stringify([...scrolls].slice(-100)));
  } catch {
    // where nothing may be kept, loading the page anew begins at its top
  }
}

const HANDS = ["wheel", "touchstart", "pointerdown", "keydown"];

/** Scroll to where it was left, again while the page still grows, until the reader does something. */
function backTo(top) {
  const watch = new ResizeObserver(() => scrollTo(0, top)),
    end = () => {
      watch.disconnect();
      for (const hand of HANDS) removeEventListener(hand, end);
    };
  watch.observe(page);
  for (const hand of HANDS) addEventListener(hand, end);
  setTimeout(end, 3000);
  addEventListener("hashchange", end, { once: true });
}

function address(...parts) {
  return `#/${parts.map((part) => encodeURIComponent(part ?? "")).join("/")}`;
}

/** The present address with another query. */
function withQuery(query) {
  const known = Object.entries(query).filter(([, value]) => hasText(value));
  return `${location.hash.split("?")[0]}${known.length ? `?${new URLSearchParams(known)}` : ""}`;
}

function routeOf(hash) {
  const [path, search = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [where, run, what = "", ...rest] = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  const query = Object.fromEntries(new URLSearchParams(search));
  const route = { query, rest, search: search ? `?${search}` : "", path };
  if (!source.live) return { ...route, run: source.held, view: what in RUN_VIEWS ? what : "" };
  if (where === "run" && run) return { ...route, run, view: what in RUN_VIEWS ? what : "" };
  return { ...route, view: Object.hasOwn(TOP_VIEWS, where) ? where : "overview" };
}

const TOP_VIEWS = { overview: overviewView, compare: compareView, studies: studiesView };
const RUN_VIEWS = { "": curvesView, responses: listView, group: groupView, ...(source.live ? { desk: deskView } : {}) };

function viewOf(route) {
  if (route.run !== undefined) return RUN_VIEWS[route.view];
  return TOP_VIEWS[route.view];
}

const UNTITLED = ["responses", "group"]; // views without a title of their own: the run's name is it

/** The bar at the top: the way up, and the run's other views. */
function bar(route) {
  const ofRun = [["", "curves"], ["responses", "responses"], ...(source.live ? [["desk", "suspicious"]] : [])];
  const tabs = route.run === undefined ? [["overview", "runs"], ["studies", "studies"]] : ofRun;
  return el(
    "div",
    { class: "topbar" },
    source.live ? el("a", { href: "#/", class: "home" }, "acereason") : el("span", { class: "home" }, "acereason"),
    route.run === undefined ? null : el(UNTITLED.includes(route.view) ? "h1" : "span", { class: "where" }, visible(route.run)),
    tabs.map(([view, name]) => {
      const here = (route.view || "") === view || (view === "responses" && route.view === "group");
      const parts = route.run === undefined ? [view] : view ? ["run", route.run, view] : ["run", route.run];
      return el("a", { href: address(...parts), class: "tab", "aria-current": here ? "page" : null }, name);
    }),
    el("span", { class: "alive", role: "status" }),
  );
}

/** The way from `root` to an element: its place among its siblings, level by level. */
function placeOf(root, element) {
  const way = [];
  for (let at = element; at !== root; at = at.parentElement) way.unshift([...at.parentElement.children].indexOf(at));
  return way;
}

/** Replace what `root` shows without the page jumping; what had the focus has it again. */
function redraw(root, draw) {
  const active = root.contains(document.activeElement) && document.activeElement !== root ? document.activeElement : null,
    way = active && placeOf(root, active),
    open = [...root.querySelectorAll("details")].map((one) => one.open);
  root.style.minHeight = `${root.offsetHeight}px`;
  root.replaceChildren();
  draw();
  root.style.minHeight = "";
  [...root.querySelectorAll("details")].forEach((one, at) => open[at] !== undefined && (one.open = open[at]));
  const again = way?.reduce((at, place) => at?.children[place], root);
  if (again?.tagName === active?.tagName) again?.focus({ preventScroll: true });
}

/** Whether the reader holds something there: text that is marked, so that it is not drawn away. */
const marked = (root) => !getSelection().isCollapsed && root.contains(getSelection().anchorNode);

/** What went wrong, above what is still shown; nothing when all is well. */
function tell(error) {
  const place = document.getElementById("trouble");
  if (!place) return;
  if (!error) return place.replaceChildren();
  const gone = error.status === 404;
  const text = gone
    ? `${error.message}. What was read before is still shown.`
    : `No answer from the server (${error.message}). What was read before is still shown; this page goes on asking.`;
  if (place.textContent !== text) place.replaceChildren(el("div", { class: "notes", role: "alert" }, text));
  return null;
}

async function look() {
  const { route, root, view } = current;
  try {
    await view.refresh(root, route);
    if (current.route === route) tell(null);
    withinReach(page);
  } catch (error) {
    if (current.route === route) tell(error);
  }
}

/** Show what the address says. */
async function show() {
  const route = routeOf(location.hash),
    view = viewOf(route);
  const same = current.view === view && current.route?.path === route.path;
  if (!same) {
    if (current.route) scrolls.set(entry, scrollY).set(current.hash, scrollY); // before what is shown shrinks
    clearCharts();
    for (const key of ["told", "key", "fresh"]) delete view[key];
    const root = el("div", { class: "view" });
    entry = history.state?.entry ?? null;
    if (entry === null) history.replaceState({ entry: (entry = Date.now()) }, "");
    page.replaceChildren(bar(route), el("div", { id: "trouble" }), root);
    scrollTo(0, 0);
    current = { route, view, root };
    document.title = [route.run, "acereason"].filter(hasText).map(visible).join(" · ");
  } else current = { ...current, route };
  if (!history.state) history.replaceState({ entry }, "");
  current.hash = location.hash;
  const left = scrolls.get(entry) ?? (returning ? scrolls.get(location.hash) : undefined);
  returning = false;
  await look();
  if (!same && left !== undefined) backTo(left);
  else if (route.query.at) document.getElementById(route.query.at)?.scrollIntoView();
}

async function follow() {
  for (;;) {
    await new Promise((resume) => setTimeout(resume, EVERY));
    if (!document.hidden && !current.view.once) await look();
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  clearCharts();
  for (const key of ["told", "key", "fresh"]) delete current.view[key];
  current.root.replaceChildren();
  look();
});
addEventListener("hashchange", show);
addEventListener("pagehide", keepScrolls);
show();
if (source.live) follow();
