// The table's columns: which there are, in which order, filtered by what, and sorted by which.

import { ask, byId, element } from "/micro/ui/dom.js";

const USUAL = { time: "Time", event: "Event", about: "About", user: "User", app: "Application", verdict: "Verdict" };
const WIDTHS = {
  time: "96px", event: "minmax(110px, 205px)", about: "minmax(80px, 3fr)", user: "minmax(60px, 130px)",
  app: "minmax(60px, 110px)", verdict: "62px", extra: "minmax(60px, 1fr)",
};
const NARROW = { ...WIDTHS, time: "92px", event: "minmax(100px, 150px)", user: "minmax(36px, 60px)", verdict: "54px" };

export class Columns {
  // `changed()` is told when other columns, or another order of the rows, are wanted.
  constructor(changed) {
    this.changed = changed;
    this.extras = []; // names of columns of the events, in their order
    this.sort = "";
    this.known = null; // the names that there are, once they were asked for
    this.button = byId("choose");
    this.place = byId("chooser");
    this.find = byId("find-column");
    this.button.addEventListener("click", () => this.toggle(this.place.hidden));
    this.find.addEventListener("input", () => this.list());
    this.place.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.toggle(false);
      this.button.focus();
    });
    document.addEventListener("click", (event) => {
      const inside = event.composedPath();
      if (!this.place.hidden && !inside.includes(this.place) && !inside.includes(this.button)) this.toggle(false);
    });
    this.draw();
  }

  // Take columns and order from an address.
  read(address) {
    this.extras = [...new Set([...address.keys()].filter((name) => /^column\../.test(name)).map((name) => name.slice(7)))];
    this.sort = address.get("sort") ?? "";
    const name = this.sort.replace(/^-/, "");
    if (!Object.hasOwn(USUAL, name) && !this.extras.some((extra) => name === `column.${extra}`)) this.sort = "";
    this.draw();
  }

  async toggle(open) {
    this.place.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    if (!open) return;
    this.find.value = "";
    this.list();
    this.find.focus();
    this.known = await ask("/micro/ui/columns").catch(() => []);
    this.list();
  }

  list() {
    const part = this.find.value.trim().toLowerCase();
    const focused = document.activeElement?.dataset.name;
    const line = (name) => {
      const at = this.extras.indexOf(name);
      const box = element("input", { type: "checkbox", "data-name": name, onchange: () => this.choose(name) });
      box.checked = at >= 0;
      return element(
        "li", {}, element("label", {}, box, name),
        at > 0 ? element(
          "button",
          { type: "button", class: "quiet", "data-name": `${name} earlier`, "aria-label": `Move ${name} to the left`, onclick: () => this.choose(name, at - 1) },
          "←",
        ) : null,
      );
    };
    const others = (this.known ?? []).filter((name) => !this.extras.includes(name));
    const fit = [...this.extras, ...others].filter((name) => name.toLowerCase().includes(part));
    byId("column-names").replaceChildren(...fit.map(line));
    byId("no-column").hidden = fit.length > 0 || this.known === null;
    if (!focused) return;
    const same = [...this.place.querySelectorAll("[data-name]")].find((one) => one.dataset.name === focused);
    (same ?? this.find).focus();
  }

  // Show a column, or, where it is shown, take it away; or have it at a place.
  choose(name, place = null) {
    const shown = this.extras.includes(name);
    this.extras = this.extras.filter((other) => other !== name);
    if (place !== null) this.extras.splice(place, 0, name);
    else if (!shown) this.extras.push(name);
    else if (this.sort.replace(/^-/, "") === `column.${name}`) this.sort = "";
    this.draw();
    this.list();
    this.changed();
  }

  // Sort by a column; where that is so already the other way round, and then no more.
  sortBy(name) {
    this.sort = { [name]: `-${name}`, [`-${name}`]: "" }[this.sort] ?? name;
    this.draw();
    this.changed();
  }

  draw() {
    const extras = this.extras.map((name) => [`column.${name}`, name]);
    const heads = [...Object.entries(USUAL), ...extras];
    const focused = document.activeElement?.dataset.sort;
    byId("heads").replaceChildren(...heads.map(([name, words]) => element(
      "th",
      {
        role: "columnheader", scope: "col", class: Object.hasOwn(USUAL, name) ? name : "extra",
        "aria-sort": { [name]: "ascending", [`-${name}`]: "descending" }[this.sort] ?? "none",
      },
      element("button", { type: "button", "data-sort": name, title: `Sort by ${words}`, onclick: () => this.sortBy(name) }, words),
    )));
    for (const head of byId("heads").querySelectorAll("button")) if (head.dataset.sort === focused) head.focus();
    this.drawFilters();
    const table = byId("events");
    const template = (widths, without) => [
      ...Object.keys(USUAL).filter((name) => !without.includes(name)).map((name) => widths[name]),
      ...(without.includes("extra") ? [] : extras.map(() => widths.extra)),
    ].join(" ");
    table.style.setProperty("--wide", template(WIDTHS, []));
    table.style.setProperty("--narrow", template(NARROW, ["app", "extra"]));
  }

  drawFilters() {
    const place = byId("columns");
    for (const field of place.querySelectorAll("label.extra")) {
      if (!this.extras.includes(field.dataset.column)) field.remove();
    }
    for (const name of this.extras) {
      const there = [...place.querySelectorAll("label.extra")].find((field) => field.dataset.column === name);
      place.append(there ?? element(
        "label", { class: "extra", "data-column": name }, element("span", { class: "hidden" }, name),
        element("input", { type: "search", name: `column.${name}`, placeholder: name }),
      ));
    }
  }
}
