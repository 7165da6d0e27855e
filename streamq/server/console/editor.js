// The editor: a text area, behind which the same text lies in colours. The page scrolls both as one.

import { make } from "./dom.js";
import { statementAt, statements, tokens } from "./sql.js";

const TEXT = "streamq.sql";
const LARGEST_PAINTED = 60_000;

export class Editor {
  constructor(area, paint) {
    this.area = area;
    this.paint = paint;
    this.wrong = null;
    area.addEventListener("input", () => {
      this.wrong = null;
      sessionStorage.setItem(TEXT, area.value);
      this.draw();
    });
    area.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("selectionchange", () => document.activeElement === area && this.draw());
  }

  /** Show the text of before, or this one. */
  begin(text) {
    this.area.value = sessionStorage.getItem(TEXT) ?? text;
    this.draw();
  }

  /** Give what is to be run: what is selected, else the statement at the cursor; null if there is none. */
  chosen() {
    const { value, selectionStart: start, selectionEnd: end } = this.area;
    if (value.slice(start, end).trim() !== "") return { start, text: value.slice(start, end) };
    const at = statementAt(value, start);
    return at && { start: at.start, text: value.slice(at.start, at.end) };
  }

  /** Put a statement behind the others, and select it. */
  add(statement) {
    const before = this.area.value.trimEnd();
    const gap = before === "" ? "" : before.endsWith(";") ? "\n\n" : ";\n\n";
    this.area.focus();
    // So that the browser's undo knows of it.
    this.area.setSelectionRange(before.length, this.area.value.length);
    this.#type(`${gap}${statement};`);
    const start = before.length + gap.length;
    this.area.setSelectionRange(start + statement.length, start + statement.length);
    this.draw();
  }

  /** Mark the place of an error, a line and column of a text that begins at `start`. */
  blame(start, text, line, column) {
    const before = text.split("\n").slice(0, line - 1);
    this.wrong = start + before.reduce((length, one) => length + one.length + 1, 0) + column - 1;
    this.draw();
  }

  /** Paint the text as it is now. */
  draw() {
    const text = this.area.value;
    this.area.rows = Math.min(Math.max(text.split("\n").length, 5), 5000);
    if (text.length > LARGEST_PAINTED) {
      this.paint.replaceChildren(text);
      return;
    }
    const here = statements(text).length > 1 ? statementAt(text, this.area.selectionStart) : null;
    const current = make("span", { className: "current" });
    const pieces = [];
    for (const token of tokens(text)) {
      const isWrong = this.wrong !== null && token.start <= this.wrong && this.wrong < token.start + token.text.length;
      const className = `sql-${token.kind}${isWrong ? " wrong" : ""}`;
      const piece = token.kind === "space" ? token.text : make("span", { className }, token.text);
      if (here !== null && token.start >= here.start && token.start < here.end) {
        if (token.start === here.start) pieces.push(current);
        current.append(piece);
      } else pieces.push(piece);
    }
    // A last line without text has no height of its own.
    this.paint.replaceChildren(...pieces, "\n");
  }

  #key(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey) {
      const { value, selectionStart } = this.area;
      const line = value.slice(value.lastIndexOf("\n", selectionStart - 1) + 1, selectionStart);
      const indent = /^[ \t]*/.exec(line)[0];
      if (indent === "") return;
      event.preventDefault();
      this.#type(`\n${indent}`);
    } else if (event.key === "/" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.#comment();
    }
  }

  /** Make the selected lines comments, or no comments if they all are. */
  #comment() {
    const { value, selectionStart, selectionEnd } = this.area;
    const start = value.lastIndexOf("\n", selectionStart - 1) + 1;
    const end = value.indexOf("\n", selectionEnd) < 0 ? value.length : value.indexOf("\n", selectionEnd);
    const lines = value.slice(start, end).split("\n");
    const all = lines.every((line) => /^\s*(--|$)/.test(line));
    const changed = lines.map((line) => (all ? line.replace(/^(\s*)-- ?/, "$1") : line.replace(/^/, "-- "))).join("\n");
    this.area.setSelectionRange(start, end);
    this.#type(changed);
    this.area.setSelectionRange(start, start + changed.length);
  }

  /** Type a text in place of what is selected, such that it can be undone. */
  #type(text) {
    if (!document.execCommand("insertText", false, text)) {
      this.area.setRangeText(text, this.area.selectionStart, this.area.selectionEnd, "end");
      this.area.dispatchEvent(new InputEvent("input"));
    }
  }
}
