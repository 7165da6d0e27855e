// Shows how a query runs: EXPLAIN's text as cards, a stage each, and how far a running query is.

import { bytes, duration, make, plural, time } from "./dom.js";
import { tokens } from "./sql.js";

/** Make the elements that show what EXPLAIN says. What is not known by its form is shown as it is. */
export function planOf(text) {
  const blocks = text.trimEnd().split(/\n\n+/);
  const stages = [];
  for (const block of blocks) {
    const [, number, title] = /^stage (\d+): (.*)/.exec(block) ?? [];
    if (number === undefined) {
      // What is said before, between and after the stages stays there.
      stages.push(factsOf(block));
      continue;
    }
    const body = block.split("\n").slice(1);
    stages.push(
      make(
        "li",
        { className: "stage" },
        make("h3", {}, make("span", { className: "number" }, `Stage ${number}`), title),
        ...parts(body),
      ),
    );
  }
  return [make("ol", { className: "stages" }, ...stages)];
}

function factsOf(block) {
  const list = make("dl", { className: "facts-list" });
  for (const [name, value] of pairs(block.split("\n"))) {
    list.append(make("div", {}, make("dt", {}, name), make("dd", {}, value)));
  }
  return make("li", { className: "between" }, list);
}

/** Read lines `name: value`, which go on in lines that are indented. */
function pairs(lines) {
  const found = [];
  for (const line of lines) {
    const [, name, value] = /^([^\s:][^:]*): (.*)$/.exec(line) ?? [];
    const last = found.at(-1);
    if (name !== undefined) found.push([name, value]);
    else if (last !== undefined && /^\s/.test(line)) last[1] += `${/^\s*because /.test(line) ? ", " : " "}${line.trim()}`;
    else found.push(["", line]);
  }
  return found;
}

/** Cut the lines of a stage into texts and SQL, which is behind a bar. */
function parts(lines) {
  const found = [];
  for (const line of lines) {
    const [, sql] = /^\s*\| ?(.*)$/.exec(line) ?? [];
    const kind = sql === undefined ? "said" : "sql";
    if (found.at(-1)?.kind !== kind) found.push({ kind, lines: [] });
    found.at(-1).lines.push(sql ?? line.replace(/^ {2}/, ""));
  }
  return found.map(({ kind, lines: some }) => {
    const text = some.join("\n");
    if (kind === "said") return make("pre", { className: "said" }, text);
    const painted = tokens(text).map((token) => (token.kind === "space" ? token.text : make("span", { className: `sql-${token.kind}` }, token.text)));
    return make("pre", { className: "code" }, ...painted);
  });
}

/** Make the elements that show how far a running query is. */
export function liveOf(query) {
  const shown = [make("h3", {}, `Now: ${query.query_id}`), make("dl", { className: "facts-list wide" }, ...summary(query))];
  const { continuous } = query;
  if (continuous?.partition_watermarks.length) shown.push(watermarks(continuous));
  if (continuous?.operators.length) {
    shown.push(
      tableOf(
        "What each operator does and keeps",
        ["operator", "in", "out", "rows kept", "state", "busy"],
        continuous.operators.map((one) => [one.node, count(one.rows_in), count(one.rows_out), count(one.state_rows), bytes(one.state_bytes), duration(one.busy_s)]),
      ),
    );
  }
  if (query.scans.length) {
    shown.push(
      tableOf(
        "What is read",
        ["relation", "splits", "ruled out", "rows", "read"],
        query.scans.map((one) => [one.relation, count(one.splits), count(one.pruned), count(one.rows), count(one.rows_done)]),
      ),
    );
  }
  return shown;
}

function summary(query) {
  const { continuous } = query;
  const facts = [
    ["running for", duration(query.elapsed_s)],
    ["rows given", count(query.rows_out)],
  ];
  const waits = Object.entries(query.waited ?? {}).filter(([name, seconds]) => name.endsWith("_s") && seconds > 0);
  for (const [name, seconds] of waits) facts.push([`waited for the ${name.slice(0, -2)}`, duration(seconds)]);
  if (continuous !== null) {
    const read = Object.values(continuous.rows_in).reduce((sum, rows) => sum + rows, 0);
    facts.push(["epochs", count(continuous.epochs)], ["rows read", count(read)], ["late rows", count(continuous.late_rows)]);
    if (continuous.watermark !== null) facts.push(["watermark", time(continuous.watermark)]);
    if (continuous.held_back_by !== null && continuous.partition_watermarks.length > 1) facts.push(["held back by", partition(continuous.held_back_by)]);
  }
  return facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)));
}

function watermarks(continuous) {
  const idle = new Set(continuous.idle.map(partition));
  const slowest = continuous.partition_watermarks.length > 1 ? partition(continuous.held_back_by ?? []) : null;
  const rows = continuous.partition_watermarks.map(([place, mark]) => [
    partition(place),
    mark === null ? "none yet" : time(mark),
    idle.has(partition(place)) ? "idle" : partition(place) === slowest ? "holds the others back" : "",
  ]);
  return tableOf("Watermarks of partitions", ["partition", "watermark", ""], rows);
}

function tableOf(title, heads, rows) {
  const head = make("tr", {}, ...heads.map((text, place) => make("th", { scope: "col", className: place ? "" : "first" }, text)));
  const lines = rows.map((row) => make("tr", {}, ...row.map((text, place) => make(place ? "td" : "th", place ? {} : { scope: "row" }, text))));
  const table = make("table", {}, make("caption", {}, title), make("thead", {}, head), make("tbody", {}, ...lines));
  return make("div", { className: "sheet", tabIndex: 0, role: "region", ariaLabel: `${title}: ${plural(rows.length, "row")}` }, table);
}

const count = (number) => number.toLocaleString("en");
const partition = ([relation, number]) => `${relation}, partition ${number}`;
