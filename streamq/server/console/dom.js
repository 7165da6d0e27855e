// Makes and finds elements. Text is only ever set as text: nothing that comes from a database is read as HTML.

export const find = (id) => document.getElementById(id);

/** Make an element; properties that are no properties of it become attributes, those that are undefined nothing. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set an element's text if it is another one, so that a status is not read out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const plural = (count, thing) => `${count.toLocaleString("en")} ${thing}${count === 1 ? "" : "s"}`;

export function duration(seconds) {
  if (seconds < 1) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = count < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(count) / 3));
  return `${power ? (count / 1000 ** power).toPrecision(3) : count} ${units[power]}`;
}

/** Write a time as people read it: without the T, and without a fraction that is zero. */
export const time = (text) => text.replace("T", " ").replace(/\.0+(?=\D|$)/, "").replace("+00:00", "Z");
