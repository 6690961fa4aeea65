// The table: only the rows in sight exist, and only their part of the list is fetched.

import { ask, byId, clock, element } from "/micro/ui/dom.js";

const CHUNK = 100;
const BEYOND = 8; // rows above and below those in sight
const PAUSE = 50; // milliseconds

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
    this.wanted = null; // the index that the keys went to before its event was there
    this.opened = null; // the number of the event in the panel
    this.loading = 0;
    this.table.addEventListener("scroll", () => this.draw(), { passive: true });
    this.table.addEventListener("keydown", (event) => this.press(event));
    this.body.addEventListener("click", (event) => this.click(event));
    this.measure();
    new ResizeObserver(() => {
      this.measure();
      this.draw();
    }).observe(this.table);
  }

  get atTop() {
    return this.table.scrollTop < this.height / 2;
  }

  measure() {
    this.height = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
    this.room = this.table.clientHeight - this.head.offsetHeight;
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
    return Math.max(1, Math.floor(this.room / this.height));
  }

  at(index) {
    const chunk = Math.floor(index / CHUNK);
    const rows = this.chunks.get(chunk);
    if (Array.isArray(rows)) return rows[index % CHUNK];
    if (rows === undefined) this.waiting ||= setTimeout(() => this.wantInSight(), PAUSE);
    return undefined;
  }

  // Fetch what is in sight once it stays there: who scrolls past many rows waits for none of them.
  wantInSight() {
    this.waiting = 0;
    const last = Math.min(this.total - 1, this.firstInSight() + this.rowsInSight() + BEYOND);
    if (last < 0) return;
    for (const index of [this.firstInSight(), last]) this.want(Math.floor(index / CHUNK));
  }

  async want(chunk) {
    if (this.chunks.has(chunk)) return;
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
    const top = this.firstInSight();
    const first = Math.max(0, top - BEYOND);
    const last = Math.min(this.total, top + this.rowsInSight() + BEYOND + 2);
    const focused = this.body.contains(document.activeElement);
    this.body.style.height = `${this.total * this.height}px`;
    this.table.setAttribute("aria-rowcount", this.total + 1);
    const spare = [];
    for (const [index, row] of this.rows) {
      if (index >= first && index < last) continue;
      this.rows.delete(index);
      spare.push(row);
    }
    let before = null;
    let reachable = null;
    for (let index = last - 1; index >= first; index--) {
      let row = this.rows.get(index);
      if (!row) {
        row = spare.pop() ?? blankRow();
        row.setAttribute("aria-rowindex", index + 2);
        this.rows.set(index, row);
        this.body.insertBefore(row, before);
        fillRow(row, this.at(index) ?? NOTHING);
      } else {
        const data = this.at(index);
        if (data) fillRow(row, data);
      }
      row.style.top = `${index * this.height}px`;
      const opened = String(row.number !== null && row.number === this.opened);
      if (row.getAttribute("aria-current") !== opened) row.setAttribute("aria-current", opened);
      setTab(row, "-1");
      if (index === this.wanted) {
        reachable = row;
        if (row.number !== null) [this.active, this.wanted] = [row.number, null];
      } else if (this.wanted === null && row.number !== null && row.number === this.active) {
        reachable = row;
      }
      before = row;
    }
    for (const row of spare) row.remove();
    reachable ??= this.rows.get(Math.min(this.total - 1, top));
    if (reachable) setTab(reachable, "0");
    if (focused && document.activeElement !== reachable) (reachable ?? this.table).focus({ preventScroll: true });
  }

  mark(number) {
    this.opened = number;
    if (number !== null) [this.active, this.wanted] = [number, null];
    this.draw();
  }

  focus() {
    for (const row of this.rows.values()) if (row.getAttribute("tabindex") === "0") return row.focus({ preventScroll: true });
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
    const { room } = this;
    if (top < this.table.scrollTop) this.table.scrollTop = top;
    else if (top + this.height > this.table.scrollTop + room) this.table.scrollTop = top + this.height - room;
    this.draw();
    const row = this.rows.get(index);
    if (!row) return;
    this.active = row.number;
    this.wanted = row.number === null ? index : null;
    for (const other of this.rows.values()) setTab(other, "-1");
    setTab(row, "0");
    row.focus({ preventScroll: true });
    if (this.opened !== null && row.number !== null) this.open(row.number, "move");
  }
}

const NOTHING = { number: null, timestamp: null, event: "", about: "", reason: "", user: "", app: "", good: null };

// By the attribute: to read the property makes the browser work out all styles first.
function setTab(row, value) {
  if (row.getAttribute("tabindex") !== value) row.setAttribute("tabindex", value);
}

function blankRow() {
  const cell = (name, ...children) => element("td", { role: "cell", class: name }, ...children);
  const row = element(
    "tr", { role: "row" },
    cell("time"), cell("event"), cell("about", element("span"), element("span", { class: "reason" })),
    cell("user"), cell("app"), cell("good-or-bad", element("span")),
  );
  row.number = undefined;
  return row;
}

function fillRow(row, data) {
  if (row.number === data.number) return;
  row.number = data.number;
  const [time, event, about, user, app, verdict] = row.children;
  time.textContent = data.timestamp === null ? "" : clock(data.timestamp);
  event.textContent = data.event;
  about.firstChild.textContent = data.about;
  about.lastChild.textContent = data.reason;
  about.title = [data.about, data.reason].filter(Boolean).join("\n");
  user.textContent = data.user;
  app.textContent = data.app;
  const word = data.good ? "good" : "bad";
  verdict.firstChild.textContent = data.number === null ? "" : word;
  verdict.firstChild.className = data.number === null ? "" : `verdict ${word}`;
}
