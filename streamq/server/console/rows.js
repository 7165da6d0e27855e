// The rows that the page keeps of an answer: never more than a bound, however many there are.

const OP = "_op";

/**
 * Rows of one answer, put together from its batches.
 *
 * - `append`: the last `bound` rows; `total` counts all that came.
 * - `upsert` and `retract`: what the changes come to. Of a result of more rows the first `bound` are kept, `total` counts them all.
 */
export class Rows {
  constructor(changelog, key, names, bound) {
    this.changelog = changelog;
    this.names = changelog === "append" ? names : names.filter((name) => name !== OP);
    this.bound = bound;
    this.total = 0;
    this.kept = new Set();
    this.#key = changelog === "upsert" ? key : this.names;
  }

  #key;
  #byKey = new Map();

  /** Take the rows of a batch. */
  take(batch) {
    for (const row of batch) {
      if (this.changelog === "append") this.#append(row);
      else this.#change(row, row[OP]);
    }
  }

  /** Let go of all rows, and go on counting. */
  clear() {
    this.kept.clear();
    this.#byKey.clear();
  }

  #append(row) {
    this.total += 1;
    this.kept.add({ row, changed: null });
    if (this.kept.size > this.bound) this.kept.delete(this.kept.values().next().value);
  }

  #change(row, op) {
    const key = JSON.stringify(this.#key.map((name) => row[name]));
    const same = this.#byKey.get(key) ?? [];
    if (op === "delete") {
      this.total -= 1;
      this.kept.delete(same.pop());
      if (same.length === 0) this.#byKey.delete(key);
      return;
    }
    if (op === "insert") this.total += 1;
    if (op === "update" && same.length) {
      const [entry] = same;
      const changed = this.names.filter((name) => JSON.stringify(entry.row[name]) !== JSON.stringify(row[name]));
      entry.changed = new Set([...(entry.changed ?? []), ...changed]);
      entry.row = row;
    } else if (this.kept.size < this.bound) {
      const entry = { row, changed: null };
      this.kept.add(entry);
      this.#byKey.set(key, [...same, entry]);
    }
  }
}

/** Write a value as a cell shows it. */
export function show(value) {
  if (value === null || value === undefined) return "NULL";
  if (typeof value === "string") return value;
  return JSON.stringify(value);
}

/** Order two values as a reader would: NULL last, numbers by size. */
export function compare(one, other) {
  if (one === null || other === null) return (one === null) - (other === null);
  const [left, right] = [toNumber(one), toNumber(other)];
  if (left !== null && right !== null) return left - right;
  return show(one).localeCompare(show(other), "en", { numeric: true });
}

function toNumber(value) {
  if (typeof value === "number") return value;
  return value?.rawJSON === undefined ? null : Number(value.rawJSON);
}
