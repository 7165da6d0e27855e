// The table on the page: shows rows, sorts them, and marks for a moment what has changed.

import { make, time } from "./dom.js";
import { compare, show } from "./rows.js";

const MARK_MS = 900;
const STILL_MARK_MS = 2500;
const LONGEST_TITLE = 2000;
const NUMBERS = /INT|DECIMAL|DOUBLE|FLOAT|^REAL/;
const TIMES = /^(TIMESTAMP|DATE|TIME)/;

export class Grid {
  constructor(table) {
    this.table = table;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.marked = new Map();
  }

  /** Show the rows of another answer. `columns` are `{name, type}`; of `live` rows, what changes is marked. */
  begin(columns, rows, live) {
    this.columns = columns;
    this.rows = rows;
    this.live = live;
    // The first rows of all are no news.
    this.marks = false;
    this.sorted = null;
    this.lines = new Map();
    this.marked.clear();
    const head = make("tr", {}, ...columns.map((column) => this.#head(column)));
    this.table.tHead.replaceChildren(head);
    this.table.tBodies[0].replaceChildren();
  }

  /** Make the page show what the rows are now. */
  draw() {
    const body = this.table.tBodies[0];
    for (const [entry, line] of this.lines) {
      if (!this.rows.kept.has(entry)) {
        line.remove();
        this.lines.delete(entry);
        this.marked.delete(line);
      }
    }
    let next = body.firstElementChild;
    for (const entry of this.#ordered()) {
      const line = this.#line(entry);
      if (line === next) next = next.nextElementSibling;
      else body.insertBefore(line, next);
    }
    this.marks ||= this.live && this.lines.size > 0;
    this.#unmark();
  }

  #ordered() {
    const entries = [...this.rows.kept];
    if (this.sorted === null) return this.live && this.rows.changelog === "append" ? entries.reverse() : entries;
    const { name, descending } = this.sorted;
    return entries.sort((one, other) => compare(one.row[name], other.row[name]) * (descending ? -1 : 1));
  }

  #line(entry) {
    let line = this.lines.get(entry);
    if (line === undefined) {
      line = make("tr", {}, ...this.columns.map((column) => cell(column, entry.row[column.name])));
      entry.changed = null;
      this.lines.set(entry, line);
      if (this.marks) this.#mark(line, line.cells);
    }
    if (entry.changed !== null) {
      const places = this.columns.flatMap(({ name }, place) => (entry.changed.has(name) ? [place] : []));
      for (const place of places) line.cells[place].replaceWith(cell(this.columns[place], entry.row[this.columns[place].name]));
      this.#mark(line, places.map((place) => line.cells[place]));
      entry.changed = null;
    }
    return line;
  }

  #mark(line, cells) {
    for (const one of cells) one.dataset.changed = "";
    this.marked.set(line, performance.now() + (this.still.matches ? STILL_MARK_MS : MARK_MS));
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#unmark(), STILL_MARK_MS);
  }

  #unmark() {
    const now = performance.now();
    for (const [line, until] of this.marked) {
      if (until > now) continue;
      for (const one of line.cells) delete one.dataset.changed;
      this.marked.delete(line);
    }
    clearTimeout(this.timer);
    if (this.marked.size) this.timer = setTimeout(() => this.#unmark(), Math.min(...this.marked.values()) - now);
  }

  #head(column) {
    const name = make("button", { type: "button", title: `Sort by ${column.name}` }, column.name);
    const head = make("th", { scope: "col", className: kindOf(column) }, name, make("span", { className: "type" }, column.type === "null" ? "" : column.type));
    name.addEventListener("click", () => this.#sort(column.name));
    return head;
  }

  /** Sort by a column: up, then down, then as the rows came. */
  #sort(name) {
    const was = this.sorted?.name === name ? this.sorted : null;
    this.sorted = was?.descending ? null : { name, descending: was !== null };
    this.columns.forEach((column, place) => {
      const head = this.table.tHead.rows[0].cells[place];
      if (column.name === this.sorted?.name) head.ariaSort = this.sorted.descending ? "descending" : "ascending";
      else head.removeAttribute("aria-sort");
    });
    this.draw();
  }
}

function cell(column, value) {
  const missing = value === null || value === undefined;
  const text = TIMES.test(column.type) && typeof value === "string" ? time(value) : show(value);
  const title = text.length > 40 ? text.slice(0, LONGEST_TITLE) : undefined;
  return make("td", { className: missing ? `${kindOf(column)} null` : kindOf(column), title }, text);
}

function kindOf(column) {
  return NUMBERS.test(column.type) ? "number" : TIMES.test(column.type) ? "time" : "text";
}
