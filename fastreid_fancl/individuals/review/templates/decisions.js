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
const bySequence = groupBy(byKey.keys(), (key) => byKey.get(key).sequence);
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

// Whether a row is of photographs and animals that the project has.
function isOurs(row) {
  const photographs = { same: "ab", different: "ab", unsure: "ab", is: "a", is_not: "a", new: "a", not_animal: "a", side: "a" };
  const animals = { is: "b", is_not: "b", merge: "ab", name: "a", sex: "a", confirm: "a" };
  return KINDS.includes(row.kind) && !Number.isNaN(Date.parse(row.when)) &&
    [...(photographs[row.kind] ?? "")].every((column) => byKey.has(row[column])) &&
    [...(animals[row.kind] ?? "")].every((column) => byId.has(row[column]));
}

// The rows that can be kept, without those that the project has taken in; the others are named on the page.
function ours(rows) {
  const left = rows.filter((row) => !applied.has(row.when));
  const lost = left.filter((row) => !isOurs(row));
  find("#lost").hidden = !lost.length;
  find("#lost").textContent = lost.length
    ? `Not kept, as the project lacks their photographs or animals: ${lost.map((row) => inWords([row])).join("; ")}.`
    : "";
  return left.filter(isOurs);
}

// Rows as actions, by their times.
function grouped(rows) {
  const groups = [];
  let last;
  for (const row of [...rows].sort((a, b) => (a.when < b.when ? -1 : a.when > b.when ? 1 : 0))) {
    if (last && Date.parse(row.when) - Date.parse(last.when) <= 1) groups[groups.length - 1].push(row);
    else groups.push([row]);
    last = row;
  }
  return groups;
}

function restore() {
  actions = [];
  state = derive(); // for the words of what is lost
  try {
    actions = grouped(ours(JSON.parse(recall("rows") ?? "[]")));
  } catch {
    find("#lost").hidden = false;
    find("#lost").textContent = "The decisions that this browser kept cannot be read; those of downloaded files can be loaded.";
  }
  state = derive();
}

function save() {
  remember("rows", JSON.stringify(actions.flat()));
  state = derive();
}

// Add an action, and tell what it was.
function decide(text, ...rows) {
  const [last] = reversed(actions.flat());
  const start = Math.max(Date.now(), last ? Date.parse(last.when) + 2 : 0);
  const empty = { who: find("#who").value.trim(), a: "", b: "", value: "" };
  actions.push(rows.map((row, place) => ({ ...empty, ...row, when: new Date(start + place).toISOString() })));
  save();
  say(text);
}

// Times of the rows that are undone; an undo that was undone itself counts no more.
function undoneRows() {
  const undone = new Set();
  const undos = [...data.applied, ...actions.flat()].filter((row) => row.kind === "undo");
  for (const row of reversed(undos)) if (!undone.has(row.when)) undone.add(row.a);
  return undone;
}

const undoing = (rows) => reversed(rows).map((row) => ({ kind: "undo", a: row.when }));

// Rows that undo the earlier answers of this page to a question, so that the project follows the last one only.
function correcting(answers) {
  const undone = undoneRows();
  const own = actions.map((rows) => rows.filter(({ kind }) => kind !== "undo"));
  return undoing(own.filter((rows) => rows.length === 1 && answers(rows[0]) && !undone.has(rows[0].when)).flat());
}

function undo() {
  const undone = undoneRows();
  const answers = (row) => row.kind !== "undo" || applied.has(row.a); // not an undo of what the page itself holds
  const last = reversed(actions).find((rows) => rows.some((row) => answers(row) && !undone.has(row.when)));
  if (!last) return say(`There is nothing to undo.${earlier.length ? " Shift Z lists what the project has taken in." : ""}`), null;
  decide("Undone.", ...undoing(last));
  return last.filter(answers);
}

// What the decisions make of the queue.

const pairOf = (a, b) => (a < b ? `${a} ${b}` : `${b} ${a}`);

const fileOf = (key) => key.slice(0, 16); // which several boxes of a photograph share
const byFile = groupBy(byKey.keys(), fileOf);
const MOVING = ["same", "is", "is_not", "new"]; // kinds of which the value "alone" leaves the rest of a sequence

// Where a photograph is: its animal, or its likeliest one. What is left out is alone.
function placeOf({ where, likely, animals }, key) {
  return where.get(key) ? resolved(animals, where.get(key)) : `? ${likely.has(key) ? resolved(animals, likely.get(key)) : key}`;
}

// Decisions that set photographs apart: one that moved alone, or two that differ.
function note({ alone, different }, { kind, a, b, value }) {
  if (MOVING.includes(kind) && value === "alone") alone.add(a);
  if (kind === "different") different.add(pairOf(a, b));
}

// A photograph and the rest of its burst, if they are where it is: they move together. Other boxes of it stay, and so
// do those of a photograph with several boxes there, and what a decision set apart.
function burst(found, key) {
  const { sequence } = byKey.get(key);
  if (!sequence || found.alone.has(key)) return [key];
  const here = placeOf(found, key);
  const mates = bySequence.get(sequence).filter((other) => fileOf(other) !== fileOf(key) && placeOf(found, other) === here);
  const boxes = groupBy(mates, fileOf);
  const apart = (mate) => found.alone.has(mate) || found.different.has(pairOf(key, mate));
  return [key, ...mates.filter((mate) => boxes.get(fileOf(mate)).length === 1 && !apart(mate))];
}

function move(found, key, animal) {
  const { where, likely } = found;
  const there = (mate) => animal && byFile.get(fileOf(mate)).some((box) => box !== mate && where.get(box) === animal);
  for (const mate of burst(found, key)) {
    if (mate !== key && there(mate)) continue;
    where.set(mate, animal);
    likely.set(mate, `not ${key}`); // as one, to an animal that the page does not know
  }
}

const EFFECTS = {
  same: (found, { a, b }) => {
    found.pairs.set(pairOf(a, b), "same");
    if (found.where.get(b)?.startsWith("new:")) move(found, a, found.where.get(b));
  },
  different: ({ pairs }, { a, b }) => pairs.set(pairOf(a, b), "different"),
  unsure: ({ pairs, open }, { a, b }) => {
    pairs.set(pairOf(a, b), "unsure");
    if (bestOf.get(a) === b) open.set(a, "unsure");
  },
  is: (found, { a, b }) => {
    move(found, a, b);
    found.open.set(a, b);
  },
  is_not: (found, { a, b }) => placeOf(found, a) === resolved(found.animals, b) && move(found, a, ""),
  new: (found, { a }) => {
    move(found, a, `new:${a}`);
    found.open.set(a, "new");
  },
  not_animal: ({ where, likely, open }, { a }) => {
    where.set(a, "");
    likely.delete(a);
    open.set(a, "not_animal");
  },
  side: ({ sides }, { a, value }) => sides.set(a, value),
  merge: ({ animals }, { a, b }) => {
    const [gone, kept] = [resolved(animals, a), resolved(animals, b)];
    if (gone === kept) return;
    animals.get(gone).merged = kept;
    for (const trait of ["name", "sex"]) animals.get(kept)[trait] ||= animals.get(gone)[trait];
  },
  name: ({ animals }, { a, value }) => (animals.get(resolved(animals, a)).name = value),
  sex: ({ animals }, { a, value }) => (animals.get(resolved(animals, a)).sex = value),
  confirm: ({ animals }, { a }) => (animals.get(resolved(animals, a)).status = "confirmed"),
};

// The project calls an animal confirmed once one of its photographs is; here, once all are.
function statusOf({ status, photographs }) {
  const whole = photographs.every((place) => data.photographs[place].status === "confirmed");
  return status === "confirmed" && !whole ? "confirmed in part" : status;
}

function derive() {
  const usable = data.photographs.filter(({ status }) => status === "unsure" || COUNTS.includes(status));
  const individuals = data.individuals.map(({ id, name, sex, merged_into: merged, ...rest }) => [id, { name: name ?? "", sex: sex ?? "", status: statusOf(rest), merged }]);
  const found = {
    where: new Map(data.photographs.map(({ key, individual, status }) => [key, COUNTS.includes(status) ? (individual ?? "") : ""])),
    likely: new Map(usable.map(({ key, individual }) => [key, individual])), // of those without an animal
    animals: new Map(individuals),
    sides: new Map(),
    pairs: new Map(),
    open: new Map(),
    alone: new Set(),
    different: new Set(),
  };
  const undone = undoneRows();
  for (const row of data.applied) if (!undone.has(row.when)) note(found, row);
  for (const row of actions.flat()) {
    if (undone.has(row.when)) continue;
    note(found, row);
    EFFECTS[row.kind]?.(found, row);
  }
  return found;
}

// The animal that an animal was merged into, over several steps.
function resolved(known, id) {
  while (known.get(id)?.merged) id = known.get(id).merged;
  return id;
}

const merged = (id) => resolved(state.animals, id);

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
  let row = rows[0];
  const pattern = /("(?:[^"]|"")*"?|[^,\r\n"]*)(,|\r?\n|$)/gy;
  for (const [, raw, end] of text.replace(/^\uFEFF/, "").matchAll(pattern)) {
    const value = raw.startsWith('"') ? raw.slice(1, raw.endsWith('"') ? -1 : undefined).replaceAll('""', '"') : raw;
    row[row.length - 1] = value.startsWith("'") && FORMULA.test(value) ? value.slice(1) : value;
    if (end === ",") row.push("");
    else if (end) rows.push((row = [""]));
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
  const added = ours(read).filter((row) => !known.has(row.when));
  actions = grouped([...actions.flat(), ...added]);
  save();
  const others = read.length - added.length;
  const rest = others ? ` The other ${others} were here already or belong to another project.` : "";
  say(`Loaded ${plural(added.length, "decision")}.${rest}`);
}
