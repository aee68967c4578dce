"use strict";

// One animal at a time, its least alike photographs first: confirm, take out, split, merge, name.

const EVERYTHING = "*"; // all photographs, as an entry of the list
const NONE = ""; // photographs without an animal
const chosen = new Map(); // key of each selected photograph -> of the one that was pressed, whose sequence comes with it
let oneByOne = false; // photographs are selected without their sequences, until the selection is acted on

const animals = {
  at: 0,
  other: null, // an entry of the list that is no animal of the project: new ones, NONE, EVERYTHING
  items: data.individuals.filter(({ status }) => status !== "merged"),
  name: "animal",
  answerOf: ({ id }) => {
    const { merged: into, status } = state.animals.get(id);
    return into || (status === "confirmed" && status) || (!members(id).length && "empty");
  },
};

const currentAnimal = () => animals.other ?? animals.items[animals.at]?.id ?? EVERYTHING;

// Photographs by animal, as they stand after the decisions.
function members(id) {
  if (id === EVERYTHING) return data.photographs;
  if (!state.members) {
    state.members = new Map();
    // Those of an animal in the queue's order, then all others; a set keeps the first place of each.
    for (const index of new Set([...data.individuals.flatMap(({ photographs }) => photographs), ...data.photographs.keys()])) {
      const photograph = data.photographs[index];
      const owner = merged(state.where.get(photograph.key));
      if (!state.members.has(owner)) state.members.set(owner, []);
      state.members.get(owner).push(photograph);
    }
  }
  return state.members.get(id) ?? [];
}

const newAnimals = () => [...new Set(state.where.values())].filter((id) => id.startsWith("new:"));

function nameOf(id) {
  if (id === EVERYTHING) return "All photographs";
  if (id === NONE) return "Without an animal";
  if (id.startsWith("new:")) return `New animal ${newAnimals().indexOf(id) + 1}`;
  const name = state.animals.get(id)?.name;
  return name ? `${id} ${name}` : id;
}

function entries() {
  const ids = [...animals.items.map(({ id }) => id).filter((id) => !state.animals.get(id).merged), ...newAnimals(), NONE, EVERYTHING];
  const wanted = find("#search").value.trim().toLowerCase();
  return ids.filter((id) => nameOf(id).toLowerCase().includes(wanted));
}

function showList() {
  const list = find("#list");
  const [top, shown] = [list.scrollTop, list.shown ?? 0];
  grow(list, entries(), entry, Math.max(shown, 60));
  list.scrollTop = top;
}

function entry(id) {
  const own = members(id);
  const last = own.at(-1); // the most alike, hence the most typical
  const status = state.animals.get(id)?.status;
  const button = make(
    "button", { type: "button", className: "entry", data: { id } },
    last ? Object.assign(picture(last, "thumbnails"), { alt: "" }) : make("span", { className: "blank" }),
    make("span", { className: "words" }, make("b", { textContent: nameOf(id) }), make("span", { textContent: plural(own.length, "photograph") })),
    status === "confirmed" ? make("span", { className: "tick", textContent: "✓", title: "confirmed", aria: { label: "confirmed" } }) : "",
  );
  if (id === currentAnimal()) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => selectAnimal(id));
  return button;
}

function selectAnimal(id) {
  const place = animals.items.findIndex((individual) => individual.id === id);
  if (place >= 0) animals.at = place;
  animals.other = place >= 0 ? null : id;
  if (matchMedia("(max-width: 48rem)").matches) find(".side").open = false;
  clearChosen();
  render();
  scrollTo(0, 0);
  find("#animal").focus({ preventScroll: true });
}

function showTitle() {
  const id = currentAnimal();
  const known = state.animals.get(id);
  const own = members(id);
  find("#animal").textContent = nameOf(id);
  const stations = new Set(own.map(({ station }) => station).filter(Boolean)).size;
  const status = known?.merged ? `merged into ${nameOf(merged(id))}` : (known?.status ?? "");
  const facts = [plural(own.length, "photograph"), stations ? plural(stations, "station") : "", status];
  find("#about").replaceChildren(
    ...facts.filter(Boolean).map((text) => make("span", { textContent: text, className: text === "confirmed" ? "answer" : "" })),
  );
  find("#animals .fields").hidden = !known;
  find("#name").value = known?.name ?? "";
  find("#sex").value = known?.sex ?? "";
  if (find("#sex").value !== (known?.sex ?? "")) find("#sex").value = "";
}

function showAnimal() {
  const id = currentAnimal();
  const own = members(id);
  const keys = new Set(own.map(({ key }) => key));
  for (const key of chosen.keys()) if (!keys.has(key)) chosen.delete(key);
  showTitle();
  find("#merge").replaceChildren(make("option", { value: "", textContent: "choose an animal" }));
  const grid = find("#grid");
  grow(grid, own, photographCard, grid.dataset.id === id ? Math.max(grid.shown, 60) : 60);
  grid.dataset.id = id;
  showList();
  showChosen();
}

function photographCard(photograph, place) {
  const toggle = make(
    "button", { type: "button", className: "toggle", data: { key: photograph.key }, aria: { pressed: pressedAs(photograph.key) } },
    picture(photograph, "thumbnails"),
    place < 9 ? make("kbd", { textContent: place + 1 }) : "",
  );
  toggle.addEventListener("click", () => choose(photograph.key));
  const zoom = make("button", { type: "button", className: "enlarge", textContent: "⤢", aria: { label: `Enlarge ${photograph.file}` } });
  zoom.addEventListener("click", () => enlarge(photograph));
  const owner = merged(state.where.get(photograph.key));
  const chip = owner && owner !== currentAnimal() ? make("span", { className: "chip", textContent: nameOf(owner) }) : "";
  return make("figure", { className: "card" }, toggle, zoom, make("figcaption", {}, caption(photograph, photograph.score, chip)));
}

function clearChosen() {
  chosen.clear();
  oneByOne = false;
}

const pressedAs = (key) => (chosen.get(key) === key ? "true" : chosen.has(key) ? "mixed" : "false");
const pressedOnes = () => [...chosen.keys()].filter((key) => chosen.get(key) === key);

// Select a photograph, with the rest of its sequence unless photographs are selected one by one; or neither any more.
function choose(key) {
  const leader = chosen.get(key);
  if (oneByOne) {
    if (!chosen.delete(key)) chosen.set(key, key);
  } else if (leader) {
    for (const [mate, by] of chosen) if (by === leader) chosen.delete(mate);
  } else addBurst(key);
  showChosen();
}

function addBurst(key) {
  chosen.set(key, key);
  for (const mate of burst(state, key)) if (!chosen.has(mate)) chosen.set(mate, key);
}

function switchOneByOne() {
  oneByOne = !oneByOne;
  const pressed = pressedOnes();
  chosen.clear();
  for (const key of pressed) {
    if (oneByOne) chosen.set(key, key);
    else if (!chosen.has(key)) addBurst(key);
  }
  showChosen();
}

function showChosen() {
  for (const toggle of all("#grid .toggle")) toggle.setAttribute("aria-pressed", pressedAs(toggle.dataset.key));
  const [pressed, alone] = [pressedOnes().length, moving().some(({ value }) => value)];
  const more = chosen.size - pressed;
  const order = currentAnimal() === EVERYTHING ? "" : "The least alike come first. ";
  find("#chosen").textContent = pressed
    ? `${pressed} selected${more ? `; ${more} more of ${pressed === 1 ? "its" : "their"} sequence${more === 1 ? " moves" : " move"} with it` : ""}${alone ? ", without the rest of the sequence" : ""}.`
    : `${order}Select photographs that do not belong here.`;
  find("#one-by-one").hidden = !more && !oneByOne;
  find("#one-by-one").setAttribute("aria-pressed", oneByOne);
}

function chooseNumber(place) {
  const photograph = members(currentAnimal())[place];
  if (photograph) choose(photograph.key);
}

// The chosen photographs as rows have them: one of each sequence that is chosen as a whole, else each of them alone.
function moving() {
  const [found, covered] = [[], new Set()];
  for (const a of chosen.keys()) {
    if (covered.has(a)) continue;
    const mates = burst(state, a);
    const whole = mates.every((mate) => chosen.has(mate));
    for (const mate of whole ? mates : [a]) covered.add(mate);
    found.push({ a, value: whole ? "" : "alone" });
  }
  return found;
}

// Rows that part photographs from the animals of the project that they are in.
function partings(rows) {
  const kept = rows.map((row) => ({ ...row, kind: "is_not", b: merged(state.where.get(row.a)) }));
  return kept.filter(({ b }) => byId.has(b));
}

function withChosen(act) {
  if (chosen.size) act(moving());
  else say("Select photographs first: click them, or press 1 to 9.");
}

function finishAnimal(text, ...rows) {
  clearChosen();
  decide(text, ...rows);
  render();
}

function takeOut() {
  withChosen((moved) => {
    const rows = partings(moved);
    if (rows.length === moved.length) finishAnimal(`${plural(chosen.size, "photograph")} taken out of ${nameOf(currentAnimal())}.`, ...rows);
    else say("Only photographs of animals of the project can be taken out. Press Z to undo your last answer.");
  });
}

function split() {
  withChosen((moved) => {
    if (moved.some(({ a }) => merged(state.where.get(a)).startsWith("new:"))) {
      return say("The project does not have this new animal yet: download your decisions for it first, or press Z to undo.");
    }
    const [first, ...others] = moved;
    const rows = [...partings(moved), { ...first, kind: "new" }, ...others.map((row) => ({ ...row, kind: "same", b: first.a }))];
    finishAnimal(`${plural(chosen.size, "photograph")} made a new animal.`, ...rows);
  });
}

function notAnimals() {
  withChosen(() => {
    const keys = pressedOnes(); // the others of a sequence may show one
    finishAnimal(`${plural(keys.length, "photograph")} without an animal.`, ...keys.map((a) => ({ kind: "not_animal", a })));
  });
}

function confirmAll() {
  const id = currentAnimal();
  if (!byId.has(id)) return say("Only animals of the project can be confirmed; a new one gets its ID from the next discovery.");
  if (chosen.size) return say("Take the selected photographs out first, or clear the selection.");
  const rows = confirmations(id);
  if (!rows.length) return say("No photographs are left to confirm.");
  decide(`${nameOf(id)} confirmed.`, ...rows);
  goToUnanswered(animals);
}

// Rows that confirm the photographs that are shown, which they name; a cell of a spreadsheet holds no more of them.
function confirmations(a) {
  const keys = members(a).map(({ key }) => key);
  const starts = keys.map((_, place) => place).filter((place) => place % 500 === 0);
  const parts = starts.map((start) => keys.slice(start, start + 500));
  return parts.map((part) => ({ kind: "confirm", a, value: `${plural(part.length, "photograph")}: ${part.join(" ")}` }));
}

function mergeChosen() {
  const [id, into] = [currentAnimal(), find("#merge").value];
  if (!into) return say("Choose the animal that it is merged into first.");
  decide(`${nameOf(id)} merged into ${nameOf(into)}.`, { kind: "merge", a: id, b: into });
  goToUnanswered(animals);
}

const clean = (text) => text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, "").trim();

const leaveFields = () => find("#animal").focus({ preventScroll: true });

// A click elsewhere ends the typing: what is under the pointer must stay, else the click is lost.
find("#name").addEventListener("change", ({ target }) => {
  const [id, value] = [currentAnimal(), clean(target.value)];
  decide(value ? `${id} is named ${value}.` : `${id} has no name.`, { kind: "name", a: id, value });
  showTitle();
  const named = all("#list .entry").find(({ dataset }) => dataset.id === merged(id));
  if (named) find("b", named).textContent = nameOf(merged(id));
});
find("#sex").addEventListener("change", ({ target }) => {
  decide(`${nameOf(currentAnimal())}: ${target.value || "sex unknown"}.`, { kind: "sex", a: currentAnimal(), value: target.value });
  render();
  if (!target.matches(":focus-visible")) leaveFields(); // chosen by the mouse: keys are answers again
});
find("#animals .fields").addEventListener("keydown", (event) => ["Enter", "Escape"].includes(event.key) && event.target.id !== "merge-now" && leaveFields());
find("#merge").addEventListener("focus", ({ target }) => {
  const others = animals.items.map(({ id }) => id).filter((id) => id !== merged(currentAnimal()) && !state.animals.get(id).merged);
  const options = ["", ...others].map((id) => make("option", { value: id, textContent: id ? nameOf(id) : "choose an animal" }));
  target.replaceChildren(...options);
});
find("#merge-now").addEventListener("click", mergeChosen);
find("#one-by-one").addEventListener("click", switchOneByOne);
find("#search").addEventListener("input", showList);
