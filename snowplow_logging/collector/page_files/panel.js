// One event in full: what is wrong with it, its data by the schemas, its payload, its columns.

import { ask, byId, clock, element } from "/micro/ui/dom.js";

const MOST_LINES = 3_000;
const MOST_TEXT = 20_000; // characters of one value

const start = (text) => (
  text.length <= MOST_TEXT ? text : `${text.slice(0, MOST_TEXT)}… (${(text.length - MOST_TEXT).toLocaleString("en")} more characters)`
);

export class Panel {
  // `closed(back)` is told when it is closed; `back`: whether the table is to have the focus.
  constructor(closed) {
    this.closed = closed;
    this.place = byId("panel");
    this.number = null;
    this.place.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.close(true);
    });
  }

  async show(number, focus) {
    this.number = number;
    let event;
    try {
      event = await ask(`/micro/ui/event/${number}`);
    } catch (error) {
      if (this.number !== number) return;
      const gone = error.status === 404 ? "This event is no longer kept" : "The collector does not answer";
      this.fill(this.top(gone, null, null), focus);
      return;
    }
    if (this.number === number) this.fill(this.parts(event), focus);
  }

  fill(parts, focus) {
    this.place.replaceChildren(...parts.flat().filter(Boolean));
    this.place.hidden = false;
    this.place.scrollTop = 0;
    document.body.classList.add("narrow");
    if (focus) byId("panel-heading").focus();
  }

  close(back) {
    if (this.number === null) return;
    this.number = null;
    this.place.hidden = true;
    this.place.replaceChildren();
    document.body.classList.remove("narrow");
    this.closed(back);
  }

  top(title, verdict, rest) {
    return [element(
      "div", { class: "panel-top" },
      element(
        "div", { class: "line" },
        element("h2", { id: "panel-heading", tabindex: -1 }, title), verdict,
        element("button", { type: "button", class: "quiet close", "aria-label": "Close", onclick: () => this.close(true) }, "×"),
      ),
      ...(rest ?? []),
    )];
  }

  parts(event) {
    const when = [new Date(event.timestamp).toLocaleDateString("en-CA"), clock(event.timestamp)].join(" ");
    const about = [when, event.user && `user ${event.user}`, event.app && `application ${event.app}`, event.eventId];
    const kind = event.good ? "good" : "bad";
    return [
      this.top(event.event, element("span", { class: `verdict ${kind}` }, kind), [
        element("p", { class: "when" }, about.filter(Boolean).join("  ·  ")),
        copies(event),
      ]),
      mend(event.errors),
      event.data.map((data) => described("Event data", data)),
      event.entities.map((data, index) => described(`Entity ${index + 1}`, data)),
      event.parameters && section("Payload", `${Object.keys(event.parameters).length} names, as sent`, true, pairs("Name", event.parameters)),
      section("Enriched columns", `${Object.keys(event.columns).length} that are not null`, true, pairs("Column", event.columns)),
      request(event.request),
    ];
  }
}

function copies(event) {
  const status = element("span", { role: "status" });
  const button = (label, text) => text && element(
    "button",
    {
      type: "button",
      onclick: async () => {
        status.textContent = (await copy(text)) ? `Copied as ${label}` : "The browser does not let it be copied";
      },
    },
    label,
  );
  return element(
    "div", { class: "copy", role: "group", "aria-label": "Copy the event as" }, "Copy as",
    button("Python", event.python), button("JSON", event.json), button("curl", event.curl), status,
  );
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without https browsers have no clipboard for pages but those of this machine.
    const field = element("textarea", { class: "hidden" });
    field.value = text;
    const before = document.activeElement;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    before?.focus();
    return done;
  }
}

function mend(errors) {
  if (!errors.length) return null;
  return element(
    "section", { class: "mend", "aria-labelledby": "mend-heading" },
    element("h3", { id: "mend-heading" }, "What to mend"),
    element("ul", {}, ...errors.map((error) => element("li", {}, error))),
  );
}

function section(title, extra, open, ...content) {
  return element(
    "details", { open },
    element("summary", {}, element("h3", {}, title), element("span", { class: "extra" }, extra ?? "")),
    ...content,
  );
}

function described(title, data) {
  const name = data.schema?.split("/")[1] ?? "";
  const faults = new Map(data.faults.map((fault) => [fault.path, fault]));
  return section(
    title, name, true,
    element("p", { class: "schema mono" }, data.schema ?? "no schema"),
    element("pre", { class: "json" }, ...json(parse(data.data), "", "", faults, { lines: MOST_LINES })),
    data.note && element("p", { class: "note" }, data.note),
    data.rules.length ? rules(data.rules) : null,
  );
}

function rules(list) {
  const row = (rule) => element(
    "tr", { class: rule.fault === null ? null : "broken" },
    element(
      "th", { scope: "row", class: "name" }, rule.path.replace(/^\./, "") || "the data",
      rule.required ? element("span", { class: "required" }, " required") : null,
    ),
    element(
      "td", {}, rule.rule,
      rule.fault === null ? null : element("span", { class: "fault" }, rule.fault),
      rule.description ? element("span", { class: "says" }, rule.description) : null,
    ),
  );
  return element(
    "table", { class: "tables rules" },
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Property"), element("th", { scope: "col" }, "What the schema wants"))),
    element("tbody", {}, ...list.map(row)),
  );
}

function pairs(heading, values) {
  return element(
    "table", { class: "tables" },
    element("thead", { class: "hidden" }, element("tr", {}, element("th", { scope: "col" }, heading), element("th", { scope: "col" }, "Value"))),
    element("tbody", {}, ...Object.entries(values).map(([name, value]) => element(
      "tr", {}, element("th", { scope: "row", class: "name" }, name), element("td", { class: "value" }, start(value)),
    ))),
  );
}

function request(sent) {
  const headers = sent.headers.map((header) => {
    const colon = header.indexOf(":");
    return [header.slice(0, colon), header.slice(colon + 1).trim()];
  });
  return section(
    "Request", sent.contentType ?? "", sent.body !== null,
    sent.body === null ? null : element("pre", {}, start(sent.body) || "(an empty body)"),
    pairs("Header", { "(from)": sent.ipAddress, ...Object.fromEntries(headers) }),
  );
}

// A number as it was written: one with many digits would lose some as a number of JavaScript's.
class Literal {
  constructor(text) { this.text = text; }
}

function parse(text) {
  return JSON.parse(text, (_, value, context) => (
    typeof value === "number" ? new Literal(context?.source ?? String(value)) : value
  ));
}

// JSON with line breaks; what breaks a rule is marked, and says so to who cannot see the mark.
// `room.lines` is how many lines it may still have: a browser takes seconds for 100,000 of them.
function json(value, path, indent, faults, room) {
  const parts = plain(value, path, indent, faults, room);
  const fault = faults.get(path);
  if (!fault) return parts;
  const words = element("span", { class: "hidden" }, ` (breaks a rule: ${fault.problem})`);
  return [element("mark", { class: "broken", title: fault.problem }, ...parts), words];
}

function plain(value, path, indent, faults, room) {
  if (value instanceof Literal) return [element("span", { class: "literal" }, value.text)];
  if (typeof value === "string") return [element("span", { class: "text" }, start(JSON.stringify(value)))];
  if (value === null || typeof value !== "object") return [element("span", { class: "literal" }, String(value))];
  const list = Array.isArray(value);
  const entries = list ? value.map((item, index) => [`[${index}]`, item]) : Object.entries(value);
  const [open, close] = list ? "[]" : "{}";
  if (!entries.length) return [open + close];
  const deeper = `${indent}  `;
  const lines = [open];
  for (const [index, [key, item]] of entries.entries()) {
    if (room.lines <= 0) {
      lines.push(`\n${deeper}… ${(entries.length - index).toLocaleString("en")} more, which the copy as JSON has`);
      break;
    }
    room.lines -= 1;
    lines.push(index ? `,\n${deeper}` : `\n${deeper}`);
    if (!list) lines.push(element("span", { class: "key" }, JSON.stringify(key)), ": ");
    lines.push(...json(item, list ? path + key : `${path}.${key}`, deeper, faults, room));
  }
  lines.push(`\n${indent}${close}`);
  return lines;
}
