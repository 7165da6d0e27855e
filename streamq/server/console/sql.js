// Cuts SQL into tokens: for its colours, and to find the statement at the cursor.

const KEYWORDS = new Set(
  `all alter analyze and any array as asc asof between by cascade case cast changes changelog column connector create cross
  day default delete desc describe descriptor distinct drop else emit end escape every except exclude exists explain false fetch filter
  final following for from full group having hour if ilike in inner insert intersect interval into is join key late lateral left
  like limit materialized microsecond millisecond minute month natural not null nulls of offset on or order outer over partition preceding
  primary proctime qualify queries range recursive relations replace right row rows second select semi anti set show sink source system_time
  table then to true try_cast unbounded union unnest update using values view views watermark when where window with within year`
    .split(/\s+/),
);

const TOKEN = new RegExp(
  [
    /(?<comment>--[^\n]*|\/\*[^]*?(?:\*\/|$))/,
    /(?<string>'(?:[^']|'')*'?|\$\$[^]*?(?:\$\$|$))/,
    /(?<name>"(?:[^"]|"")*"?)/,
    /(?<number>\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?)/,
    /(?<parameter>\$\w+|\?)/,
    /(?<word>[\p{L}_][\p{L}\p{N}_]*)/u,
    /(?<space>\s+)/,
    /(?<other>[^])/,
  ]
    .map((part) => part.source)
    .join("|"),
  "gu",
);

/** Cut a text into tokens `{kind, text, start}` that are all of it. */
export function tokens(text) {
  return Array.from(text.matchAll(TOKEN), (match) => {
    const [kind] = Object.entries(match.groups).find(([, part]) => part !== undefined);
    const isKeyword = kind === "word" && KEYWORDS.has(match[0].toLowerCase());
    return { kind: isKeyword ? "keyword" : kind, text: match[0], start: match.index };
  });
}

/** Find the statements of a text: `{start, end}` of each, from its first token to its last. */
export function statements(text) {
  const found = [];
  let start = null;
  let end = 0;
  for (const token of tokens(text)) {
    if (token.text === ";" && token.kind === "other") {
      if (start !== null) found.push({ start, end, until: token.start + 1 });
      start = null;
    } else if (token.kind !== "space" && token.kind !== "comment") {
      start ??= token.start;
      end = token.start + token.text.length;
    }
  }
  if (start !== null) found.push({ start, end, until: text.length });
  return found;
}

/** Find the statement at a place: the one around it, else the one before, else the first; null if there is none. */
export function statementAt(text, place) {
  const found = statements(text);
  const around = found.find(({ until }) => place <= until);
  if (around === undefined) return found.at(-1) ?? null;
  // On the empty line after a statement it is still that one which was just written.
  const before = found[found.indexOf(around) - 1];
  return before !== undefined && place < around.start && !text.slice(before.until, place).includes("\n") ? before : around;
}

/** Tell whether a statement gives rows by itself, and is no command. */
export function isQuery(text) {
  const first = tokens(text).find(({ kind }) => kind !== "space" && kind !== "comment");
  return first !== undefined && /^(select|with|from|values|table|pivot|unpivot|\()$/i.test(first.text);
}

/** Write a relation's name such that SQL reads it. */
export function quoted(name) {
  return /^[a-z_]\w*$/i.test(name) && !KEYWORDS.has(name.toLowerCase()) ? name : `"${name.replaceAll('"', '""')}"`;
}
