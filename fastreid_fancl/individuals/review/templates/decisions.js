"use strict";

// Decisions: rows of decisions.csv, kept in the browser. Rows are only ever added; an undo is a row, too.
// An action of the person is one or more rows, a millisecond apart; two actions are at least two apart.

const COLUMNS = ["when", "who", "kind", "a", "b", "value"];
const KINDS = [
  "same", "different", "unsure", "is", "is_not", "new", "not_animal", "side", "merge", "name", "sex", "confirm", "undo",
];
const COUNTS = ["confirmed", "proposed", "single"]; // an unsure photograph names its likeliest animal, and is not in it
const applied = new Set(data.applied.map((row) => row.when));
// An open photograph's best candidate; "unsure" of the two answers the open photograph.
const bestOf = new Map(
  data.open.map(({ photograph, candidates: [best] }) => [data.photographs[photograph].key, data.photographs[best?.photograph]?.key]),
);
const bySequence = Map.groupBy(byKey.keys(), (key) => byKey.get(key).sequence);
let actions = [];
let state; // of `derive`, which `restore` calls first

const stored = (name) => `${data.storage}/${name}`;

function remember(name, value) {
  try {
    localStorage.setItem(stored(name), value);
  } catch {
    say("This browser does not keep decisions: download them before you close the page.");
  }
}

function recall(name) {
  try {
    return localStorage.getItem(stored(name));
  } catch {
    return null;
  }
}

// Rows that the project has taken in are dropped, and so are those of photographs and animals that it does not have.
function isOurs(row) {
  const photographs = { same: "ab", different: "ab", unsure: "ab", is: "a", is_not: "a", new: "a", not_animal: "a", side: "a" };
  const animals = { is: "b", is_not: "b", merge: "ab", name: "a", sex: "a", confirm: "a" };
  return !applied.has(row.when) && KINDS.includes(row.kind) &&
    [...(photographs[row.kind] ?? "")].every((column) => byKey.has(row[column])) &&
    [...(animals[row.kind] ?? "")].every((column) => byId.has(row[column]));
}

// Rows as actions, by their times.
function grouped(rows) {
  const groups = [];
  for (const row of rows.toSorted((a, b) => (a.when < b.when ? -1 : a.when > b.when ? 1 : 0))) {
    const last = groups.at(-1)?.at(-1);
    if (last && Date.parse(row.when) - Date.parse(last.when) <= 1) groups.at(-1).push(row);
    else groups.push([row]);
  }
  return groups;
}

function restore() {
  try {
    actions = grouped(JSON.parse(recall("rows") ?? "[]").filter(isOurs));
  } catch {
    actions = [];
  }
  state = derive();
}

function save() {
  remember("rows", JSON.stringify(actions.flat()));
  state = derive();
}

// Add an action, and tell what it was.
function decide(text, ...rows) {
  const last = Date.parse(actions.at(-1)?.at(-1).when ?? "1970-01-01");
  const start = Math.max(Date.now(), last + 2);
  const empty = { who: find("#who").value.trim(), a: "", b: "", value: "" };
  actions.push(rows.map((row, place) => ({ ...empty, ...row, when: new Date(start + place).toISOString() })));
  save();
  say(text);
}

// Times of the rows that are undone; an undo that was undone itself counts no more.
function undoneRows() {
  const undone = new Set();
  const undos = [...data.applied, ...actions.flat()].filter((row) => row.kind === "undo");
  for (const row of undos.toReversed()) if (!undone.has(row.when)) undone.add(row.a);
  return undone;
}

const undoing = (rows) => rows.toReversed().map((row) => ({ kind: "undo", a: row.when }));

function undo() {
  const undone = undoneRows();
  const answers = (row) => row.kind !== "undo" || applied.has(row.a); // not an undo of what the page itself holds
  const last = actions.findLast(([row]) => answers(row) && !undone.has(row.when));
  if (!last) return say(`There is nothing to undo.${earlier.length ? " Shift Z lists what the project has taken in." : ""}`), null;
  decide("Undone.", ...undoing(last));
  return last;
}

// What the decisions make of the queue.

const pairOf = (a, b) => (a < b ? `${a} ${b}` : `${b} ${a}`);

const fileOf = (key) => key.slice(0, 16); // which several boxes of a photograph share
const byFile = Map.groupBy(byKey.keys(), fileOf);

// A photograph and the rest of its burst, if they are where it is: they move together. Other boxes of it stay, and so
// do those of a photograph with several boxes there.
function burst(where, key) {
  const { sequence } = byKey.get(key);
  const others = sequence ? bySequence.get(sequence).filter((other) => fileOf(other) !== fileOf(key)) : [];
  const mates = others.filter((other) => where.get(other) === where.get(key));
  return [key, ...mates.filter((mate) => mates.every((other) => other === mate || fileOf(other) !== fileOf(mate)))];
}

function move(where, key, animal) {
  const there = (mate) => animal && byFile.get(fileOf(mate)).some((box) => box !== mate && where.get(box) === animal);
  for (const mate of burst(where, key)) if (mate === key || !there(mate)) where.set(mate, animal);
}

const EFFECTS = {
  same: ({ where, pairs }, { a, b }) => {
    pairs.set(pairOf(a, b), "same");
    if (where.get(b)?.startsWith("new:")) move(where, a, where.get(b));
  },
  different: ({ pairs }, { a, b }) => pairs.set(pairOf(a, b), "different"),
  unsure: ({ pairs, open }, { a, b }) => {
    pairs.set(pairOf(a, b), "unsure");
    if (bestOf.get(a) === b) open.set(a, "unsure");
  },
  is: ({ where, open }, { a, b }) => {
    move(where, a, b);
    open.set(a, b);
  },
  is_not: ({ where }, { a, b }) => where.get(a) === b && move(where, a, ""),
  new: ({ where, open }, { a }) => {
    move(where, a, `new:${a}`);
    open.set(a, "new");
  },
  not_animal: ({ where, open }, { a }) => {
    where.set(a, "");
    open.set(a, "not_animal");
  },
  merge: ({ animals }, { a, b }) => (animals.get(a).merged = b),
  name: ({ animals }, { a, value }) => (animals.get(a).name = value),
  sex: ({ animals }, { a, value }) => (animals.get(a).sex = value),
  confirm: ({ animals }, { a }) => (animals.get(a).status = "confirmed"),
};

function derive() {
  const found = {
    where: new Map(data.photographs.map(({ key, individual, status }) => [key, COUNTS.includes(status) ? (individual ?? "") : ""])),
    animals: new Map(data.individuals.map(({ id, name, sex, status }) => [id, { name: name ?? "", sex: sex ?? "", status }])),
    pairs: new Map(),
    open: new Map(),
  };
  const undone = undoneRows();
  for (const row of actions.flat()) if (!undone.has(row.when)) EFFECTS[row.kind]?.(found, row);
  return found;
}

// The animal that an animal was merged into, over several steps; a circle ends where it began.
function merged(id) {
  const seen = new Set();
  while (state.animals.get(id)?.merged && !seen.has(id)) {
    seen.add(id);
    id = state.animals.get(id).merged;
  }
  return id;
}

// The file.

// What spreadsheets take for a formula, and the same behind apostrophes: one more is written, and taken away again.
const FORMULA = /^'*\s*[=+\-@＝＋－＠]/;

function cell(text) {
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

const csv = () =>
  [COLUMNS, ...actions.flat().map((row) => COLUMNS.map((name) => cell(row[name])))].map((row) => `${row.join(",")}\n`).join("");

// A file of its own for each download: of equal names the browser keeps the older one, which would be given again.
function download() {
  const time = new Date().toLocaleString("sv").replaceAll(":", "").replace(" ", "-"); // 2024-06-03-141205
  const name = `decisions-${time}.csv`;
  const link = make("a", { download: name, href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(`Downloaded ${name} with ${plural(actions.flat().length, "row")}.`);
}

function parse(text) {
  const rows = [[""]];
  const pattern = /("(?:[^"]|"")*"?|[^,\r\n"]*)(,|\r?\n|$)/gy;
  for (const [, raw, end] of text.replace(/^\uFEFF/, "").matchAll(pattern)) {
    const value = raw.startsWith('"') ? raw.slice(1, raw.endsWith('"') ? -1 : undefined).replaceAll('""', '"') : raw;
    rows.at(-1)[rows.at(-1).length - 1] = value.startsWith("'") && FORMULA.test(value) ? value.slice(1) : value;
    if (end === ",") rows.at(-1).push("");
    else if (end) rows.push([""]);
    else break;
  }
  return rows.filter((row) => row.length > 1 || row[0]);
}

// Add the rows of a file of decisions that are not here yet.
function loadText(text) {
  const [header, ...rows] = parse(text);
  if (!header || COLUMNS.some((name) => !header.includes(name))) {
    return say(`Expected a file of decisions with the columns ${COLUMNS.join(", ")}; nothing was loaded.`);
  }
  const known = new Set(actions.flat().map((row) => row.when));
  const read = rows.map((row) => Object.fromEntries(COLUMNS.map((name) => [name, row[header.indexOf(name)] ?? ""])));
  const added = read.filter((row) => isOurs(row) && !Number.isNaN(Date.parse(row.when)) && !known.has(row.when));
  actions = grouped([...actions.flat(), ...added]);
  save();
  const others = read.length - added.length;
  const rest = others ? ` The other ${others} were here already or belong to another project.` : "";
  say(`Loaded ${plural(added.length, "decision")}.${rest}`);
}
