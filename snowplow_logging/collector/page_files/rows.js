// The table: only the rows in sight exist, and only their part of the list is fetched.

import { ask, byId, clock, element } from "/micro/ui/dom.js";

const CHUNK = 100;
const BEYOND = 8; // rows above and below those in sight

export class Rows {
  // `open(number, how)` is told which row was chosen, and how: "key", "click" or "move".
  constructor(open) {
    this.open = open;
    this.table = byId("events");
    this.body = byId("rows");
    this.head = this.table.tHead;
    this.query = "";
    this.until = 0;
    this.total = 0;
    this.chunks = new Map();
    this.rows = new Map(); // elements by index
    this.active = null; // the number of the event that the keys are at
    this.opened = null; // the number of the event in the panel
    this.loading = 0;
    this.table.addEventListener("scroll", () => this.draw(), { passive: true });
    this.table.addEventListener("keydown", (event) => this.press(event));
    this.body.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.draw()).observe(this.table);
  }

  get height() {
    return parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
  }

  get atTop() {
    return this.table.scrollTop < this.height / 2;
  }

  // Show another list; the rows of the old one stay in sight until the new ones are there.
  async load(query, until) {
    const mine = ++this.loading;
    const first = Math.floor(this.firstInSight() / CHUNK);
    const answer = await this.fetch(query, until, first);
    if (mine !== this.loading) return false;
    this.query = query;
    this.until = until;
    this.total = answer.total;
    this.chunks = new Map([[first, answer.rows]]);
    this.draw();
    return true;
  }

  fetch(query, until, chunk) {
    const range = `offset=${chunk * CHUNK}&limit=${CHUNK}&until=${until}`;
    return ask(`/micro/ui/rows?${range}&${query}`);
  }

  firstInSight() {
    return Math.max(0, Math.floor(this.table.scrollTop / this.height));
  }

  rowsInSight() {
    return Math.max(1, Math.floor((this.table.clientHeight - this.head.offsetHeight) / this.height));
  }

  at(index) {
    const chunk = Math.floor(index / CHUNK);
    const rows = this.chunks.get(chunk);
    if (Array.isArray(rows)) return rows[index % CHUNK];
    if (rows === undefined) this.want(chunk);
    return undefined;
  }

  async want(chunk) {
    const mine = this.loading;
    this.chunks.set(chunk, "on its way");
    try {
      const answer = await this.fetch(this.query, this.until, chunk);
      if (mine !== this.loading) return;
      this.chunks.set(chunk, answer.rows);
    } catch {
      if (mine === this.loading) this.chunks.delete(chunk);
      return;
    }
    this.draw();
  }

  draw() {
    const height = this.height;
    this.body.style.height = `${this.total * height}px`;
    this.table.setAttribute("aria-rowcount", this.total + 1);
    const first = Math.max(0, this.firstInSight() - BEYOND);
    const last = Math.min(this.total, this.firstInSight() + this.rowsInSight() + BEYOND + 2);
    const focused = this.body.contains(document.activeElement);
    for (const [index, row] of this.rows) {
      if (index >= first && index < last) continue;
      row.remove();
      this.rows.delete(index);
    }
    let before = null;
    let reachable = null;
    for (let index = last - 1; index >= first; index--) {
      let row = this.rows.get(index);
      if (!row) {
        row = blankRow(index);
        this.rows.set(index, row);
        this.body.insertBefore(row, before);
      }
      row.style.top = `${index * height}px`;
      fillRow(row, this.at(index));
      row.setAttribute("aria-current", String(row.number !== null && row.number === this.opened));
      row.tabIndex = -1;
      if (row.number !== null && row.number === this.active) reachable = row;
      before = row;
    }
    reachable ??= this.rows.get(Math.min(this.total - 1, this.firstInSight()));
    if (reachable) reachable.tabIndex = 0;
    if (focused && document.activeElement !== reachable) (reachable ?? this.table).focus({ preventScroll: true });
  }

  mark(number) {
    this.opened = number;
    if (number !== null) this.active = number;
    this.draw();
  }

  focus() {
    for (const row of this.rows.values()) if (row.tabIndex === 0) return row.focus({ preventScroll: true });
    return this.table.focus({ preventScroll: true });
  }

  // Take nothing of the list along: a collector that was started again gives its numbers anew.
  forget() {
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.active = null;
    this.toTop();
  }

  toTop() {
    this.table.scrollTop = 0;
  }

  click(event) {
    const row = event.target.closest("tr");
    if (!row || row.number === null) return;
    this.active = row.number;
    row.focus({ preventScroll: true });
    this.open(row.number, "click");
  }

  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || !this.total) return;
    const step = {
      ArrowDown: 1, ArrowUp: -1, PageDown: this.rowsInSight(), PageUp: -this.rowsInSight(),
      Home: -Infinity, End: Infinity,
    }[event.key];
    const current = [...this.rows].find(([, row]) => row === document.activeElement);
    if (step !== undefined) {
      event.preventDefault();
      const from = current ? current[0] : this.firstInSight() - Math.sign(step);
      this.move(Math.min(this.total - 1, Math.max(0, from + step)));
    } else if ((event.key === "Enter" || event.key === " ") && current && current[1].number !== null) {
      event.preventDefault();
      this.active = current[1].number;
      this.open(current[1].number, "key");
    }
  }

  async move(index) {
    const top = index * this.height;
    const room = this.table.clientHeight - this.head.offsetHeight;
    if (top < this.table.scrollTop) this.table.scrollTop = top;
    else if (top + this.height > this.table.scrollTop + room) this.table.scrollTop = top + this.height - room;
    this.draw();
    const row = this.rows.get(index);
    if (!row) return;
    this.active = row.number;
    for (const other of this.rows.values()) other.tabIndex = -1;
    row.tabIndex = 0;
    row.focus({ preventScroll: true });
    if (this.opened !== null && row.number !== null) this.open(row.number, "move");
  }
}

function blankRow(index) {
  const cell = (name, ...children) => element("td", { role: "cell", class: name }, ...children);
  const row = element(
    "tr", { role: "row", "aria-rowindex": index + 2 },
    cell("time"), cell("event"), cell("about", element("span"), element("span", { class: "reason" })),
    cell("user"), cell("app"), cell("good-or-bad", element("span", { class: "verdict" })),
  );
  row.number = null;
  return row;
}

function fillRow(row, data) {
  if (!data || row.number === data.number) return;
  row.number = data.number;
  const [time, event, about, user, app, verdict] = row.children;
  time.textContent = clock(data.timestamp);
  time.title = new Date(data.timestamp).toISOString();
  event.textContent = data.event;
  about.firstChild.textContent = data.about;
  about.lastChild.textContent = data.reason;
  about.title = [data.about, data.reason].filter(Boolean).join("\n");
  user.textContent = data.user;
  app.textContent = data.app;
  verdict.firstChild.textContent = data.good ? "good" : "bad";
  verdict.firstChild.className = `verdict ${data.good ? "good" : "bad"}`;
}
