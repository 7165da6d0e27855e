// One answer at a time: runs a query, keeps its rows, and lets it wait while the page is full.

import { duration, plural, say, time } from "./dom.js";
import { Rows } from "./rows.js";
import { tokens } from "./sql.js";

const PAGE = 500;
const BUSY_MS = 12;
const STATES = {
  running: "Running",
  following: "Following",
  waiting: "Waiting for you",
  complete: "Complete",
  stopped: "Stopped",
  cancelled: "Cancelled",
  failed: "Failed",
};

export class Answer {
  /** `changed` is called whenever the answer is in another state. */
  constructor(service, grid, parts, changed) {
    this.changed = changed;
    this.service = service;
    this.grid = grid;
    this.parts = parts;
    this.run = null;
    this.sql = null;
    parts.next.addEventListener("click", () => this.run?.resume?.());
  }

  /** The id of the query that runs, null if none does. */
  get id() {
    return this.run?.id ?? null;
  }

  /** Run a query until its end; gives when it has ended, however it did. What goes wrong is thrown. */
  async query(sql) {
    this.stop();
    const isLive = tokens(sql).some(({ kind, text }) => kind === "keyword" && text.toLowerCase() === "emit");
    const run = { id: null, isLive, leaving: new AbortController(), started: performance.now(), rows: null, resume: null, progress: null };
    this.run = run;
    this.sql = sql;
    this.#state("running");
    say(this.parts.facts, "");
    let state = "failed";
    try {
      for await (const event of this.service.query({ sql, batch_rows: PAGE }, run.leaving.signal)) {
        if (event.name === "query") this.#begin(run, event.data);
        else if (event.name === "rows") await this.#take(run, event.data);
      }
      state = "complete";
    } catch (error) {
      if (run.leaving.signal.aborted) state = "stopped";
      else if (error.record?.class === "QueryCancelled") state = "cancelled";
      else throw error;
    } finally {
      if (this.run === run) {
        this.run = null;
        this.parts.more.hidden = true;
        if (run.rows === null) this.#clear();
        else this.#draw(run);
        this.#state(state);
      }
    }
  }

  /** End the query that runs, if one does. */
  stop() {
    this.run?.leaving.abort();
    this.run?.resume?.();
  }

  /** Show a table that is there as a whole. */
  show(table) {
    this.stop();
    this.run = null;
    const columns = Object.keys(table[0] ?? {}).map((name) => {
      return { name, type: table.every((row) => typeof row[name] === "number") ? "BIGINT" : "" };
    });
    const rows = new Rows("append", null, columns.map(({ name }) => name), PAGE);
    rows.take(table);
    this.#fresh(columns, rows, false);
    this.grid.draw();
    this.#state("complete");
    say(this.parts.facts, plural(table.length, "row"));
  }

  #begin(run, { id, changelog, key, columns }) {
    run.id = id;
    run.rows = new Rows(changelog, key, columns.map(({ name }) => name), PAGE);
    run.form = changelog === "upsert" ? (key.length ? `by ${key.join(", ")}` : "one row") : changelog === "retract" ? "without a key" : "";
    const shown = columns.filter(({ name }) => run.rows.names.includes(name)).map(({ name, sql_type: type }) => ({ name, type }));
    this.#fresh(shown, run.rows, run.isLive);
    this.#state(run.isLive ? "following" : "running");
  }

  async #take(run, { rows, progress }) {
    run.progress = progress;
    if (!run.isLive && run.rows.kept.size && run.rows.kept.size + rows.length > PAGE) await this.#wait(run);
    run.rows.take(rows);
    this.#schedule(run);
    // What comes faster than it can be shown waits in the service.
    if (performance.now() - this.drawn > BUSY_MS) await painted();
    run.leaving.signal.throwIfAborted();
  }

  /** Wait until the reader wants more rows than fit on the page: meanwhile nothing is read, and the query rests. */
  async #wait(run) {
    const { more, moreText } = this.parts;
    const last = run.rows.total;
    say(moreText, `Rows ${(last - run.rows.kept.size + 1).toLocaleString("en")} to ${last.toLocaleString("en")}. The query rests until you ask for more.`);
    more.hidden = false;
    this.#draw(run);
    this.#state("waiting");
    await new Promise((resolve) => (run.resume = resolve));
    run.resume = null;
    more.hidden = true;
    run.leaving.signal.throwIfAborted();
    run.rows.clear();
    this.parts.scroller.scrollTop = 0;
    this.#state("running");
  }

  #fresh(columns, rows, isLive) {
    this.grid.begin(columns, rows, isLive);
    this.parts.table.hidden = false;
    this.parts.empty.hidden = true;
    this.parts.scroller.scrollTop = 0;
    this.drawn = performance.now();
  }

  #clear() {
    this.parts.table.hidden = true;
    this.parts.empty.hidden = false;
    say(this.parts.empty, "The query did not start.");
    say(this.parts.facts, "");
  }

  #schedule(run) {
    if (this.scheduled) return;
    this.scheduled = true;
    painted().then(() => {
      this.scheduled = false;
      if (this.run === run) this.#draw(run);
    });
  }

  #draw(run) {
    this.grid.draw();
    this.drawn = performance.now();
    const { rows, progress, form } = run;
    const some = rows.kept.size < rows.total ? `${run.isLive && !form ? "latest " : ""}${rows.kept.size.toLocaleString("en")} of ` : "";
    const facts = [some + plural(rows.total, "row"), form];
    if (progress?.epoch) facts.push(`epoch ${progress.epoch.toLocaleString("en")}`);
    for (const [name, mark] of Object.entries(progress?.watermarks ?? {})) if (mark) facts.push(`watermark of ${name} ${time(mark)}`);
    if (!run.isLive) facts.push(duration((performance.now() - run.started) / 1000));
    say(this.parts.facts, facts.filter(Boolean).join(" · "));
    this.parts.empty.hidden = rows.kept.size > 0;
    say(this.parts.empty, run.isLive ? "No rows yet." : "No rows.");
  }

  #state(state) {
    this.parts.state.dataset.state = state;
    say(this.parts.state, STATES[state]);
    this.parts.stop.disabled = !["running", "following", "waiting"].includes(state);
    this.changed();
  }
}

/** Wait for the next frame; not for ever where nobody looks. */
function painted() {
  return new Promise((resolve) => {
    const late = setTimeout(resolve, 250);
    requestAnimationFrame(() => {
      clearTimeout(late);
      resolve();
    });
  });
}
