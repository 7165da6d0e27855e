// The lists beside the editor: the relations with their columns, and the queries that run.

import { duration, find, make, plural, say } from "./dom.js";
import { quoted } from "./sql.js";

/** The relations that queries can name. `write(sql)` puts a statement into the editor. */
export class Relations {
  constructor(list, none, write) {
    this.list = list;
    this.none = none;
    this.write = write;
    this.said = "";
  }

  show(relations) {
    const said = JSON.stringify(relations);
    if (said === this.said) return;
    this.said = said;
    const open = new Set(Array.from(this.list.querySelectorAll("details[open]"), (one) => one.dataset.name));
    const focused = document.activeElement.closest?.("#relations details")?.dataset.name;
    this.list.replaceChildren(...relations.map((relation) => this.#item(relation, open.has(relation.name))));
    if (focused !== undefined) this.list.querySelector(`details[data-name="${CSS.escape(focused)}"] summary`)?.focus();
    this.none.hidden = relations.length > 0;
  }

  #item(relation, isOpen) {
    const name = quoted(relation.name);
    const keys = new Set(relation.primary_key);
    const columns = relation.columns.map((column) => {
      const note = keys.has(column.name) ? "key" : relation.watermark?.column === column.name ? "event time" : "";
      return make(
        "li",
        {},
        make("span", { className: "column" }, column.name),
        make("span", { className: "type" }, column.type),
        note && make("span", { className: "note" }, note),
      );
    });
    const watermark = relation.watermark && make("p", { className: "watermark" }, "watermark ", make("code", {}, relation.watermark.expression));
    const read = this.#button("Select", `SELECT * FROM ${name} LIMIT 100`, relation.name);
    const follow = this.#button("Follow", `SELECT * FROM ${name} EMIT CHANGES`, relation.name);
    const details = make(
      "details",
      { open: isOpen },
      make("summary", {}, make("span", { className: "name" }, relation.name), make("span", { className: "kind" }, relation.kind)),
      make("ul", { className: "columns", ariaLabel: `Columns of ${relation.name}` }, ...columns),
      watermark,
      make("div", { className: "actions" }, read, relation.kind === "view" ? null : follow),
    );
    details.dataset.name = relation.name;
    return make("li", {}, details);
  }

  #button(label, sql, relation) {
    const button = make("button", { type: "button", className: "small", title: sql, ariaLabel: `${label} ${relation}` }, label);
    button.addEventListener("click", () => this.write(sql));
    return button;
  }
}

/** The queries that run. `cancel(id)` ends one. */
export class Queries {
  constructor(list, none, cancel) {
    this.list = list;
    this.none = none;
    this.cancel = cancel;
    this.items = new Map();
  }

  show(queries, own) {
    const running = new Set(queries.map((query) => query.query_id));
    for (const [id, item] of this.items) {
      if (running.has(id)) continue;
      // Who had just cancelled it finds the next one, or the title of the list.
      const next = item.element.contains(document.activeElement) ? (item.element.nextElementSibling?.querySelector("button") ?? find("queries-title")) : null;
      item.element.remove();
      this.items.delete(id);
      next?.focus();
    }
    for (const query of queries) {
      const item = this.items.get(query.query_id) ?? this.#item(query);
      const mine = query.query_id === own ? "this page · " : "";
      const given = query.view === null ? plural(query.rows_out, "row") : `keeps ${query.view}`;
      say(item.facts, `${mine}${given} · ${duration(query.elapsed_s)}`);
    }
    this.none.hidden = queries.length > 0;
  }

  #item(query) {
    const id = query.query_id;
    const facts = make("span", { className: "query-facts" });
    // Without its query a view fails: that is no matter of one click.
    const button = query.view === null ? make("button", { type: "button", className: "small danger", ariaLabel: `Cancel query ${id}` }, "Cancel") : null;
    const element = make(
      "li",
      {},
      make("div", { className: "query-head" }, make("span", { className: "name" }, id), button),
      make("code", { className: "query-sql", title: query.sql.slice(0, 2000) }, query.sql.replace(/\s+/g, " ").slice(0, 300)),
      facts,
    );
    button?.addEventListener("click", () => {
      // Not disabled: it would lose the focus before the query has ended.
      if (button.ariaDisabled === "true") return;
      button.ariaDisabled = "true";
      this.cancel(id).finally(() => (button.ariaDisabled = null));
    });
    this.list.append(element);
    const item = { element, facts };
    this.items.set(id, item);
    return item;
  }
}
