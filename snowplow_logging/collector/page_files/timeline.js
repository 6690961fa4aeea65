// Good and bad events over the last minutes, as bars that filter by their span of time.

import { ask, byId, element, moment } from "/micro/ui/dom.js";

const BARS = 60;

export class Timeline {
  // `choose(from, to)` is told the span of a bar in milliseconds, or nulls to choose none.
  constructor(choose) {
    this.choose = choose;
    this.place = byId("bars");
    this.minutes = 10;
    this.chosen = null;
    this.last = null;
    this.bars = Array.from({ length: BARS }, (_, index) => this.bar(index));
    this.place.append(...this.bars);
    this.at(BARS - 1);
    this.place.addEventListener("keydown", (event) => this.press(event));
    this.place.addEventListener("pointerleave", () => this.point(null));
  }

  get step() {
    return (this.minutes * 60_000) / BARS;
  }

  bar(index) {
    const bar = element(
      "button", { type: "button", tabindex: -1 },
      element("span", { class: "bad" }), element("span", { class: "good" }),
    );
    bar.addEventListener("click", () => {
      this.at(index);
      const same = this.chosen === bar.start;
      this.choose(same ? null : bar.start, same ? null : bar.start + this.step);
    });
    bar.addEventListener("pointerenter", () => this.point(bar));
    bar.addEventListener("focus", () => this.point(bar));
    return bar;
  }

  // Show another span. Until its bars are there nobody can choose one, whose time would be another.
  show(minutes) {
    this.minutes = minutes;
    this.last = null;
    this.place.inert = true;
  }

  // Whether time has moved on to another bar since the last look.
  get isOld() {
    return this.last !== this.end();
  }

  end() {
    return (Math.floor(Date.now() / this.step) + 1) * this.step;
  }

  async update() {
    const end = this.end();
    const start = end - BARS * this.step;
    const iso = (index) => new Date(start + index * this.step).toISOString();
    const buckets = this.bars.map((_, index) => ({ start: iso(index), end: iso(index + 1) }));
    const step = this.step;
    const { points } = await ask("/micro/timeline", { buckets });
    if (step !== this.step) return; // another span was chosen meanwhile
    this.last = end;
    const highest = Math.max(1, ...points.map((point) => point.validEvents + point.failedEvents));
    points.forEach((point, index) => this.fill(this.bars[index], start + index * this.step, point, highest));
    byId("axis-start").textContent = moment(start, this.minutes < 60 ? 3 : 2);
    this.mark(this.chosen);
    this.place.inert = false;
  }

  fill(bar, start, { validEvents: good, failedEvents: bad }, highest) {
    const height = (count) => (count ? `max(2px, ${(100 * count) / highest}%)` : "0");
    bar.start = start;
    bar.says = `${moment(start, 3)}: ${good} good, ${bad} bad`;
    bar.setAttribute("aria-label", bar.says);
    bar.firstChild.style.height = height(bad);
    bar.firstChild.classList.toggle("some", bad > 0);
    bar.lastChild.style.height = height(good);
  }

  // Show which bar is chosen, by the start of its span.
  mark(start) {
    this.chosen = start;
    for (const bar of this.bars) bar.setAttribute("aria-pressed", String(bar.start === start));
  }

  point(bar) {
    byId("pointed").textContent = bar?.says ?? "";
  }

  at(index) {
    this.index = index;
    this.bars.forEach((bar, other) => { bar.tabIndex = other === index ? 0 : -1; });
  }

  press(event) {
    const to = {
      ArrowLeft: this.index - 1, ArrowRight: this.index + 1, Home: 0, End: BARS - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.at(Math.min(BARS - 1, Math.max(0, to)));
    this.bars[this.index].focus();
  }
}
