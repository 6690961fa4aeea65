// The table: only the rows in sight exist, and only their part of the list is fetched.

import { ask, byId, element, moment, visible } from "/micro/ui/dom.js";

const CHUNK = 100;
const MOST_CHUNKS = 200; // that are remembered
const AGAIN = 1_000; // milliseconds until rows are asked for again that could not be had
const BEYOND = 8; // rows above and below those in sight

export class Rows {
  // `open(number, how)` is told which row was chosen, and how: "key", "click" or "move".
  constructor(open) {
    this.open = open;
    this.table = byId("events");
    this.body = byId("rows");
    this.head = this.table.tHead;
    this.extras = []; // the names of the columns that were chosen besides the usual ones
    this.query = "";
    this.until = 0;
    this.total = 0;
    this.chunks = new Map();
    this.rows = new Map(); // elements by index
    this.active = null; // the number of the event that the keys are at
    this.wanted = null; // the index that the keys went to before its event was there
    this.opened = null; // the number of the event in the panel
    this.loading = 0;
    this.fetching = false;
    this.table.addEventListener("scroll", () => this.draw(), { passive: true });
    this.body.addEventListener("keydown", (event) => this.press(event));
    this.table.addEventListener("keydown", (event) => {
      if (event.target === this.table) this.press(event);
    });
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

  // On a phone each column that was chosen has a line of its own in the row.
  measure() {
    const style = getComputedStyle(document.documentElement);
    const [row, line] = ["--row", "--extra-line"].map((name) => parseFloat(style.getPropertyValue(name)));
    this.height = row + line * this.extras.length;
    this.table.style.setProperty("--extras", this.extras.length);
    this.room = this.table.clientHeight - this.head.offsetHeight;
  }

  // Show another list; the rows of the old one stay in sight until the new ones are there.
  async load(query, until, extras) {
    const mine = ++this.loading;
    const first = Math.floor(this.firstInSight() / CHUNK);
    this.table.setAttribute("aria-busy", "true");
    const answer = await this.fetch(query, until, first, 1).finally(() => {
      if (mine === this.loading) this.table.removeAttribute("aria-busy");
    });
    if (mine !== this.loading) return false;
    if (extras.join("\n") !== this.extras.join("\n")) this.removeRows();
    this.extras = extras;
    this.measure();
    this.query = query;
    this.until = until;
    this.total = answer.total;
    this.chunks = new Map([[first, answer.rows]]);
    this.fetching = false;
    this.draw();
    return true;
  }

  fetch(query, until, chunk, count) {
    const range = `offset=${chunk * CHUNK}&limit=${count * CHUNK}&until=${until}`;
    return ask(`/micro/ui/rows?${range}&${query}`);
  }

  firstInSight() {
    return Math.max(0, Math.floor(this.table.scrollTop / this.height));
  }

  rowsInSight() {
    return Math.max(1, Math.floor(this.room / this.height));
  }

  at(index) {
    return this.chunks.get(Math.floor(index / CHUNK))?.[index % CHUNK];
  }

  // The first chunks that are missing, and how many in a row: those in sight, then those around.
  missing() {
    if (!this.total) return null;
    const top = this.firstInSight();
    const chunk = (index) => Math.floor(Math.min(this.total - 1, Math.max(0, index)) / CHUNK);
    const [first, last] = [chunk(top - BEYOND), chunk(top + this.rowsInSight() + BEYOND)];
    const isMissing = (one) => one >= 0 && one <= chunk(this.total) && !this.chunks.has(one);
    for (let start = first; start <= last; start++) {
      if (isMissing(start)) return [start, isMissing(start + 1) && start < last ? 2 : 1];
    }
    const around = [last + 1, first - 1].find(isMissing);
    return around === undefined ? null : [around, 1];
  }

  // One request at a time, each for what is in sight when it is made: who scrolls past many rows
  // waits for none of them.
  async fetchMissing() {
    if (this.fetching) return;
    const mine = this.loading;
    this.fetching = true;
    try {
      for (let some = this.missing(); some; some = this.missing()) {
        const [first, count] = some;
        const { rows } = await this.fetch(this.query, this.until, first, count);
        if (mine !== this.loading) return;
        for (let index = 0; index < count; index++) {
          this.chunks.set(first + index, rows.slice(index * CHUNK, (index + 1) * CHUNK));
        }
        for (const old of this.chunks.keys()) {
          if (this.chunks.size <= MOST_CHUNKS) break;
          this.chunks.delete(old);
        }
        this.draw();
      }
    } catch {
      // The page's own looks say where the collector does not answer at all.
      setTimeout(() => this.draw(), AGAIN);
    } finally {
      if (mine === this.loading) this.fetching = false;
    }
  }

  draw() {
    const top = this.firstInSight();
    const first = Math.max(0, Math.min(this.total, top) - BEYOND);
    const last = Math.min(this.total, top + this.rowsInSight() + BEYOND + 2);
    const focused = this.body.contains(document.activeElement);
    // The rows stand one below the other, and only their container says where. A style of its own
    // for each row costs Chromium more with every one it has seen, up to 100 ms a frame.
    const [height, before] = [`${this.total * this.height}px`, `${first * this.height}px`];
    if (this.body.style.height !== height) this.body.style.height = height;
    if (this.body.style.paddingTop !== before) this.body.style.paddingTop = before;
    if (this.counted !== this.total) {
      this.counted = this.total;
      this.table.setAttribute("aria-rowcount", this.total + 1);
    }
    const reachable = this.place(first, last) ?? this.rows.get(Math.min(this.total - 1, top));
    if (reachable) setTab(reachable, "0");
    if (focused && document.activeElement !== reachable) (reachable ?? this.table).focus({ preventScroll: true });
    this.fetchMissing();
  }

  // Have the rows from `first` to before `last`; returns the one that the keys are at.
  place(first, last) {
    // In the order in which they stand, so that after a leap each stays where it stands: to move
    // one makes the browser lay it out anew.
    const spare = [];
    for (const row of this.body.children) {
      if (row.index >= first && row.index < last) continue;
      this.rows.delete(row.index);
      spare.push(row);
    }
    let next = null;
    let reachable = null;
    for (let index = last - 1; index >= first; index--) {
      let row = this.rows.get(index);
      if (!row) {
        row = spare.pop() ?? blankRow(this.extras);
        row.index = index;
        row.setAttribute("aria-rowindex", index + 2);
        this.rows.set(index, row);
        if (!row.isConnected || row.nextSibling !== next) this.body.insertBefore(row, next);
        fillRow(row, this.at(index) ?? NOTHING);
      } else {
        const data = this.at(index);
        if (data) fillRow(row, data);
      }
      const opened = String(row.number !== null && row.number === this.opened);
      if (row.getAttribute("aria-current") !== opened) row.setAttribute("aria-current", opened);
      setTab(row, "-1");
      if (index === this.wanted) {
        reachable = row;
        if (row.number !== null) [this.active, this.wanted] = [row.number, null];
      } else if (this.wanted === null && row.number !== null && row.number === this.active) {
        reachable = row;
      }
      next = row;
    }
    for (const row of spare) row.remove();
    return reachable;
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

  removeRows() {
    this.body.replaceChildren();
    this.rows.clear();
  }

  // Take nothing of the list along: a collector that was started again gives its numbers anew.
  forget() {
    this.removeRows();
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

  move(index) {
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

const NOTHING = { number: null, timestamp: null, event: "", about: "", reason: "", user: "", app: "", good: null, values: [] };

// By the attribute: to read the property makes the browser work out all styles first.
function setTab(row, value) {
  if (row.getAttribute("tabindex") !== value) row.setAttribute("tabindex", value);
}

function blankRow(extras) {
  const cell = (name, ...children) => element("td", { role: "cell", class: name }, ...children);
  const row = element(
    "tr", { role: "row" },
    cell("time"), cell("event"), cell("about", element("span"), element("span", { class: "reason" })),
    cell("user"), cell("app"), cell("good-or-bad", element("span")),
    ...extras.map((name) => element("td", { role: "cell", class: "extra", "data-column": name })),
  );
  row.number = undefined;
  return row;
}

function fillRow(row, data) {
  if (row.number === data.number) return;
  row.number = data.number;
  row.classList.toggle("waiting", data.number === null);
  const [time, event, about, user, app, verdict, ...extras] = row.children;
  time.textContent = data.timestamp === null ? "" : moment(data.timestamp);
  event.textContent = visible(data.event);
  about.firstChild.textContent = visible(data.about);
  about.lastChild.textContent = visible(data.reason);
  about.title = visible([data.about, data.reason].filter(Boolean).join("\n"));
  user.textContent = visible(data.user);
  app.textContent = visible(data.app);
  const word = data.good ? "good" : "bad";
  verdict.firstChild.textContent = data.number === null ? "" : word;
  verdict.firstChild.className = data.number === null ? "" : `verdict ${word}`;
  extras.forEach((cell, index) => {
    cell.textContent = visible(data.values[index] ?? "");
    cell.title = cell.textContent;
  });
}
