// The page as a whole: the filters and the address, and the look at the collector now and then.

import { Columns } from "/micro/ui/columns.js";
import { ask, byId, element, moment } from "/micro/ui/dom.js";
import { Panel } from "/micro/ui/panel.js";
import { Rows } from "/micro/ui/rows.js";
import { Timeline } from "/micro/ui/timeline.js";

// A look costs the collector less than a millisecond where nothing has changed, and needs no
// connection that stays open.
const LOOK_EVERY = 500; // milliseconds
const TYPING = 120;
const NAMES = ["q", "status", "event", "about", "user", "app", "from", "to"];

const filters = Object.fromEntries(NAMES.map((name) => [name, ""]));
const form = byId("filters");
let state = null; // what the collector said last
let changed = true; // whether the list in sight is not that of the filters
let suggested = null;
let typing = 0;

const rows = new Rows((number, how) => show(number, how === "key"));
const columns = new Columns(() => filter({}));
const timeline = new Timeline((from, to) => filter({ from: from ?? "", to: to ?? "" }));
const panel = new Panel((back) => {
  rows.mark(null);
  writeAddress();
  if (back) rows.focus();
});

// What the list in sight is asked for by; the columns come in their order, with a filter or without.
function query(sorted = true) {
  return new URLSearchParams([
    ...NAMES.filter((name) => filters[name] !== "").map((name) => [name, filters[name]]),
    ...columns.extras.map((name) => [`column.${name}`, filters[`column.${name}`] ?? ""]),
    ...(columns.sort === "" || !sorted ? [] : [["sort", columns.sort]]),
  ]).toString();
}

const isFiltered = () => [...NAMES, ...columns.extras.map((name) => `column.${name}`)].some((name) => (filters[name] ?? "") !== "");

// The address holds filters and event, so that it can be kept or handed on.
function readAddress() {
  const given = new URLSearchParams(location.search);
  for (const name of NAMES) filters[name] = given.get(name) ?? "";
  for (const name of ["from", "to"]) if (!/^\d{1,15}$/.test(filters[name])) filters[name] = "";
  columns.read(given);
  for (const name of columns.extras) filters[`column.${name}`] = given.get(`column.${name}`);
  if (!["good", "bad"].includes(filters.status)) filters.status = "";
  if (["10", "60", "1440", "10080"].includes(given.get("span"))) byId("span").value = given.get("span");
  timeline.show(Number(byId("span").value));
  const number = given.get("show") ?? "";
  return /^\d{1,15}$/.test(number) ? Number(number) : null;
}

function writeAddress() {
  const address = new URLSearchParams(query());
  if (byId("span").value !== "10") address.set("span", byId("span").value);
  if (panel.number !== null) address.set("show", panel.number);
  const search = address.toString();
  history.replaceState(null, "", location.pathname + (search ? `?${search}` : ""));
}

function showFilters() {
  for (const input of form.querySelectorAll("input")) {
    if (input !== document.activeElement) input.value = filters[input.name] ?? "";
  }
  for (const button of document.querySelectorAll("[data-status]")) {
    button.setAttribute("aria-pressed", String(button.dataset.status === filters.status));
  }
  const timed = filters.from !== "" || filters.to !== "";
  const ends = [filters.from, filters.to].map((end) => (end === "" ? "…" : moment(Number(end), 3)));
  byId("time-filter").hidden = !timed;
  byId("time-filter").textContent = `${ends.join(" – ")} ×`;
  byId("time-filter").setAttribute("aria-label", `From ${ends.join(" to ")}; press to show all times`);
  byId("clear").hidden = !isFiltered();
  timeline.mark(filters.from === "" ? null : Number(filters.from));
}

function filter(some) {
  clearTimeout(typing);
  // What was typed a moment ago counts, too.
  for (const input of form.querySelectorAll("input")) filters[input.name] = input.value.trim();
  Object.assign(filters, some);
  changed = true;
  rows.toTop();
  showFilters();
  writeAddress();
  look();
}

function clearFilters() {
  for (const input of form.querySelectorAll("input")) input.value = "";
  filter(Object.fromEntries(Object.keys(filters).map((name) => [name, ""])));
}

function show(number, focus) {
  rows.mark(number);
  panel.show(number, focus);
  writeAddress();
}

function say(kind, words) {
  const place = byId("connection");
  if (place.className === kind && place.lastChild.textContent === words) return;
  place.className = kind;
  place.lastChild.textContent = words;
}

let looking = false;
let again = false;
let timer = 0;

async function look() {
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  clearTimeout(timer);
  const start = performance.now();
  try {
    do {
      again = false;
      await lookOnce();
    } while (again);
    say("live", location.origin);
  } catch {
    changed = true;
    say("lost", "The collector does not answer; trying again");
  }
  looking = false;
  // A list that takes long to find and sort is looked at more rarely.
  timer = setTimeout(look, Math.max(LOOK_EVERY, 4 * (performance.now() - start)));
}

async function lookOnce() {
  // A page that nobody sees asks for nothing; it looks as soon as it is seen again.
  if (document.hidden && state) return;
  const now = await ask("/micro/ui/state");
  const other = !state || now.run !== state.run || now.resets !== state.resets;
  const arrived = other || now.last !== state.last;
  state = now;
  if (arrived) count();
  if (other) rows.forget();
  if (changed || other || (arrived && rows.atTop)) {
    changed = false;
    if (await rows.load(query(), now.last, [...columns.extras])) byId("new").hidden = true;
    showList();
  } else if (arrived) {
    const { total } = await ask(`/micro/ui/rows?limit=0&${query(false)}`);
    const more = total - rows.total;
    byId("new").hidden = more <= 0;
    byId("new").textContent = `${more.toLocaleString("en")} new event${more === 1 ? "" : "s"} ↑`;
  }
  if (arrived || timeline.isOld) await timeline.update();
}

function count() {
  const words = (number) => number.toLocaleString("en");
  byId("count-all").textContent = words(state.good + state.bad);
  byId("count-good").textContent = words(state.good);
  byId("count-bad").textContent = words(state.bad);
  document.title = `${state.bad ? `(${words(state.bad)} bad) ` : ""}Snowplow collector`;
}

function showList() {
  byId("empty").hidden = state.kept > 0;
  byId("none").hidden = state.kept === 0 || rows.total > 0;
  const words = !isFiltered() ? "" : `${rows.total.toLocaleString("en")} events match the filters`;
  if (byId("matches").textContent !== words) byId("matches").textContent = words;
}

async function suggest() {
  if (!state || suggested === state.last) return;
  suggested = state.last;
  const values = await ask("/micro/ui/suggestions").catch(() => ({}));
  for (const [name, list] of Object.entries(values)) {
    byId(`${name}-values`).replaceChildren(...list.map((value) => element("option", { value })));
  }
}

form.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => filter({}), TYPING);
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("focusin", suggest);
for (const button of document.querySelectorAll("[data-status]")) {
  button.addEventListener("click", () => filter({ status: button.dataset.status }));
}
byId("clear").addEventListener("click", clearFilters);
byId("clear-too").addEventListener("click", clearFilters);
byId("time-filter").addEventListener("click", () => filter({ from: "", to: "" }));
byId("more").addEventListener("click", () => {
  const shown = byId("columns").classList.toggle("shown");
  byId("more").setAttribute("aria-expanded", String(shown));
});
byId("new").addEventListener("click", () => {
  rows.toTop();
  changed = true;
  look();
  rows.focus();
});
byId("reset").addEventListener("click", async () => {
  panel.close(false);
  await ask("/micro/reset", {}).catch(() => null);
  look();
});
byId("span").addEventListener("change", () => {
  timeline.show(Number(byId("span").value));
  writeAddress();
  look();
});
document.addEventListener("visibilitychange", () => look());
document.addEventListener("keydown", (event) => {
  const typed = event.target.closest("input, select, textarea");
  if (event.key === "/" && !typed && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    form.q.focus();
  } else if (event.key === "Escape" && !typed) {
    panel.close(true);
  } else if (event.key === "ArrowDown" && typed?.name === "q") {
    event.preventDefault();
    rows.focus();
  }
});

byId("example").textContent = `import logging
from snowplow_logging import SnowplowHandler

handler = SnowplowHandler("${location.origin}")
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel("INFO")
logging.info("hello", extra={"snowplow": {
    "event": "page_view", "page_url": "https://shop.example.com/",
}})`;
const first = readAddress();
showFilters();
look();
if (first !== null) show(first, false);
