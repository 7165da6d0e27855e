// The console: wires the editor, the answer, the plan and the lists to the service.

import { Answer } from "./answer.js";
import { find, make, plural, say } from "./dom.js";
import { Editor } from "./editor.js";
import { Grid } from "./grid.js";
import { Queries, Relations } from "./lists.js";
import { liveOf, planOf } from "./plan.js";
import { Service } from "./service.js";
import { isQuery } from "./sql.js";

const POLL_MS = 1500;
const SOON_MS = 200;
const EXAMPLE = `-- Make a source, put rows into it, and follow what they come to.
CREATE SOURCE orders (shop VARCHAR, amount BIGINT);

INSERT INTO orders VALUES ('Oslo', 20), ('Rome', 5);

SELECT shop, count(*) AS orders, sum(amount) AS total
FROM orders
GROUP BY shop
EMIT CHANGES;
`;

const service = new Service(askForToken);
const editor = new Editor(find("sql"), find("paint"));
const answer = new Answer(service, new Grid(find("table")), {
  state: find("state"),
  facts: find("facts"),
  empty: find("empty"),
  table: find("table"),
  scroller: find("rows"),
  more: find("more"),
  moreText: find("more-text"),
  next: find("next"),
  stop: find("stop"),
}, () => setTimeout(look, SOON_MS, { quiet: true }));
const relations = new Relations(find("relations"), find("no-relations"), (sql) => editor.add(sql));
const queries = new Queries(find("queries"), find("no-queries"), cancel);

// What the buttons do

async function run() {
  const chosen = editor.chosen();
  if (chosen === null) return say(find("notice"), "There is no statement to run.");
  await attempt(chosen, async () => {
    if (!isQuery(chosen.text)) return execute(chosen.text);
    select("result");
    await answer.query(chosen.text);
  });
}

async function explain() {
  const chosen = editor.chosen();
  if (chosen === null) return say(find("notice"), "There is no statement to explain.");
  await attempt(chosen, () => (isQuery(chosen.text) ? plan(chosen.text) : execute(chosen.text)));
}

async function execute(sql) {
  const said = await service.ask("v1/execute", { method: "POST", body: { sql } });
  const lines = said.table?.map((row) => row.explain);
  if (said.kind === "explain" && lines) showPlan(lines.join("\n"));
  else if (said.table) {
    select("result");
    answer.show(said.table);
  }
  const counts = ["insert", "update", "delete"].includes(said.kind);
  say(find("notice"), `Done: ${said.kind.replaceAll("_", " ")}${counts ? `, ${plural(said.rows, "row")}` : ""}.`);
  await look();
}

async function plan(sql) {
  const said = await service.ask("v1/explain", { method: "POST", body: { sql } });
  planned = sql;
  showPlan(said.text);
}

function showPlan(text) {
  find("plan").replaceChildren(...planOf(text));
  select("plan");
}

async function cancel(id) {
  try {
    await service.ask(`v1/queries/${encodeURIComponent(id)}`, { method: "DELETE" });
  } catch (error) {
    // It had ended by itself, just before.
    if (error.status !== 404) fail(error);
  }
  await look();
}

/** Do something with a statement, and say what is wrong with it if it fails. */
async function attempt(chosen, work) {
  say(find("notice"), "");
  find("error").replaceChildren();
  try {
    await work();
  } catch (error) {
    fail(error, chosen);
  }
}

let planned = null;

function fail(error, chosen) {
  if (error.name === "AbortError") return;
  if (error.record === undefined) throw error;
  const { class: kind, message, sql, line, column, hint } = error.record;
  const where = line ? ` (line ${line}, column ${column})` : "";
  const parts = [make("p", {}, make("strong", {}, kind), ` ${message}${where}`)];
  const text = line && sql?.split("\n")[line - 1]?.replaceAll("\t", " ");
  if (text) {
    // Of a very long line, what is around the place.
    const from = Math.max(0, column - 60);
    parts.push(make("pre", {}, `${text.slice(from, from + 120)}\n${" ".repeat(column - 1 - from)}^`));
    if (chosen !== undefined) editor.blame(chosen.start, chosen.text, line, column);
  }
  if (hint) parts.push(make("p", { className: "hint" }, hint));
  find("error").replaceChildren(...parts);
}

// The token

let asking = null;

/** Ask for a token, whoever wants it; resolves to whether there is one now. */
function askForToken(why) {
  find("token-button").hidden = false;
  asking ??= new Promise((resolve) => {
    const dialog = find("token-dialog");
    say(find("token-title"), service.token ? "The token was refused" : "This service asks for a token");
    if (why) find("token-why").title = why;
    find("token").value = "";
    dialog.returnValue = "";
    dialog.showModal();
    dialog.addEventListener(
      "close",
      () => {
        const token = find("token").value.trim();
        if (dialog.returnValue === "use" && token) service.token = token;
        find("token").value = "";
        asking = null;
        resolve(dialog.returnValue === "use" && token !== "");
      },
      { once: true },
    );
  });
  return asking;
}

// What is looked at again and again

/** Look at the service: what runs there, and what relations it has. */
async function look({ quiet = false } = {}) {
  try {
    const running = await service.ask("v1/queries", { quiet });
    queries.show(running, answer.id);
    const own = running.find((query) => query.query_id === answer.id);
    const live = find("live");
    live.hidden = own === undefined;
    if (own !== undefined && !live.contains(document.activeElement)) live.replaceChildren(...liveOf(own));
    relations.show(await service.ask("v1/relations", { quiet }));
    tell("connected", "Connected");
  } catch (error) {
    if (error.record === undefined) throw error;
    if (error.status === 401) find("token-button").hidden = false;
    tell("lost", error.status === 401 ? "A token is needed" : error.message);
  }
}

function tell(state, text) {
  find("service").dataset.state = state;
  say(find("service"), text);
}

async function watch() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (!document.hidden && asking === null) await look({ quiet: true });
  }
}

// Tabs and keys

function select(name) {
  for (const one of ["result", "plan"]) {
    const tab = find(`${one}-tab`);
    tab.ariaSelected = String(one === name);
    tab.tabIndex = one === name ? 0 : -1;
    find(`${one}-panel`).hidden = one !== name;
  }
}

/** Show a tab; the plan of the query that was run is asked for if it is another one. */
async function open(name) {
  select(name);
  const { sql } = answer;
  if (name === "plan" && sql !== null && sql !== planned) await attempt(undefined, () => plan(sql));
}

function tabs(event) {
  if (!["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
  event.preventDefault();
  const other = event.target.id === "result-tab" ? "plan" : "result";
  const name = event.key === "Home" ? "result" : event.key === "End" ? "plan" : other;
  find(`${name}-tab`).focus();
  open(name);
}

function keys(event) {
  if (event.isComposing || find("token-dialog").open) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (event.shiftKey) explain();
    else run();
  } else if (event.key === "Escape") answer.stop();
}

function begin() {
  const control = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘" : "Ctrl";
  const key = (...names) => names.flatMap((name, place) => [place ? "+" : "", make("kbd", {}, name)]);
  find("keys").replaceChildren(...key(control, "Enter"), " runs the statement at the cursor, with ", ...key("Shift"), " explains it, ", ...key("Esc"), " stops");
  find("run").addEventListener("click", run);
  find("explain").addEventListener("click", explain);
  find("stop").addEventListener("click", () => answer.stop());
  find("token-button").addEventListener("click", async () => (await askForToken("")) && look());
  find("token-cancel").addEventListener("click", () => find("token-dialog").close(""));
  for (const name of ["result", "plan"]) {
    find(`${name}-tab`).addEventListener("click", () => open(name));
    find(`${name}-tab`).addEventListener("keydown", tabs);
  }
  document.addEventListener("keydown", keys);
  document.addEventListener("visibilitychange", () => document.hidden || look({ quiet: true }));
  find("token-button").hidden = !service.token;
  editor.begin(EXAMPLE);
  look();
  watch();
}

begin();
