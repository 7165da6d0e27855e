// Asks the service: with the token, if it wants one, and with errors as it says them.

const TOKEN = "streamq.token";

/** What the service refused, or what became of an answer; `record` is its error as JSON. */
export class Refused extends Error {
  constructor(record, status) {
    super(record.message);
    this.record = record;
    this.status = status;
  }
}

/** Asks one service, that which this page is from. `askForToken(why)` resolves to whether there is another token to try. */
export class Service {
  constructor(askForToken) {
    this.askForToken = askForToken;
  }

  get token() {
    return sessionStorage.getItem(TOKEN);
  }

  set token(token) {
    if (token) sessionStorage.setItem(TOKEN, token);
    else sessionStorage.removeItem(TOKEN);
  }

  /** Ask, and give the answer in JSON. A `quiet` question opens no dialog. */
  async ask(path, options = {}) {
    const response = await this.open(path, options);
    return response.json();
  }

  /** Ask, and give the response, whose status is one of success. */
  async open(path, { method = "GET", body, accept = "application/json", signal, quiet = false } = {}) {
    for (;;) {
      const headers = { accept };
      if (body !== undefined) headers["content-type"] = "application/json";
      if (this.token) headers.authorization = `Bearer ${this.token}`;
      const response = await reach(path, { method, headers, signal, cache: "no-store", body: body && JSON.stringify(body) });
      if (response.ok) return response;
      const refused = new Refused(await recordOf(response), response.status);
      if (response.status !== 401 || quiet || !(await this.askForToken(refused.message))) throw refused;
    }
  }

  /** Run a query, and give what the service says of it: `{name, data}`, in order, as fast as they are taken. */
  async *query(body, signal) {
    const response = await this.open("v1/query", { method: "POST", body, accept: "text/event-stream", signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    try {
      for (;;) {
        const { value, done } = await reader.read().catch((error) => {
          throw signal.aborted ? error : new Refused(BROKEN);
        });
        if (done) throw new Refused(BROKEN);
        let from = Math.max(0, held.length - 1);
        held += value;
        for (let end; (end = held.indexOf("\n\n", from)) >= 0; from = 0) {
          const event = parse(held.slice(0, end));
          held = held.slice(end + 2);
          if (event.name === "error") throw new Refused(event.data);
          yield event;
          if (event.name === "end") return;
        }
      }
    } finally {
      // The service hears that nobody reads any more, and ends the query.
      reader.cancel().catch(() => undefined);
    }
  }
}

const BROKEN = { class: "ConnectionLost", message: "The connection broke off before the answer was complete. Run the query again." };
const LOST = { class: "ConnectionLost", message: "The service cannot be reached. Is it running?" };

async function reach(path, options) {
  try {
    return await fetch(new URL(path, document.baseURI), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(LOST);
  }
}

async function recordOf(response) {
  const text = await response.text();
  try {
    const record = JSON.parse(text);
    if (typeof record?.message === "string") return record;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return { class: "StreamqError", message: `The service answered ${response.status} ${response.statusText}.` };
}

function parse(text) {
  const event = { name: "message", data: null };
  for (const line of text.split("\n")) {
    if (line.startsWith("event: ")) event.name = line.slice(7);
    if (line.startsWith("data: ")) event.data = read(line.slice(6));
  }
  return event;
}

/** Read JSON without losing digits: a number that JavaScript would write in another way stays as it was written. */
function read(text) {
  const exact = "rawJSON" in JSON;
  return JSON.parse(text, (_, value, context) =>
    exact && typeof value === "number" && context?.source !== undefined && String(value) !== context.source
      ? JSON.rawJSON(context.source)
      : value,
  );
}
