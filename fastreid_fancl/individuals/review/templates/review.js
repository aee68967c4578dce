"use strict";

// Tabs, keys and progress. A key and its button are one entry of KEYS, which the help shows, too. An entry that ends in
// "held" repeats while its key is held; the others would answer question after question.

const TABS = { animals, pairs, open: opened };
const SHOW = { animals: showAnimal, pairs: showPair, open: showOpen };
let tab = recall("tab") in TABS ? recall("tab") : "animals";

const KEYS = {
  animals: [
    ["s", "Confirm all", confirmAll, "good"],
    ["d", "Take out", takeOut, "bad"],
    ["f", "New animal", split, ""],
    ["x", "Not an animal", notAnimals, ""],
  ],
  pairs: [
    ["s", "Same", () => answerPair("same"), "good"],
    ["d", "Different", () => answerPair("different"), "bad"],
    ["f", "Unsure", () => answerPair("unsure"), ""],
  ],
  open: [
    ["s", "First match", () => chooseCandidate(0), "good"],
    ["d", "New animal", () => answerOpen("new animal", { kind: "new" }), "bad"],
    ["f", "Unsure", openUnsure, ""],
    ["x", "Not an animal", () => answerOpen("not an animal", { kind: "not_animal" }), ""],
  ],
};
const FURTHER = {
  animals: [
    ["r", "Write a name", () => find("#name").focus()],
    ["c", "Select photographs one by one, without their sequences", switchOneByOne],
    ["v", "Enlarge the selected, else the first photograph", () => {
      const photograph = byKey.get(pressedOnes()[0]) ?? members(currentAnimal())[0];
      if (photograph) enlarge(photograph);
    }],
  ],
  pairs: [
    ["c", "Zoom in", () => zoomAt(1.5), "held"],
    ["x", "Zoom out", () => zoomAt(1 / 1.5), "held"],
    ["b", "Brighter", () => look({ brightness: view.brightness + 0.2 }), "held"],
    ["B", "Darker", () => look({ brightness: view.brightness - 0.2 }), "held"],
    ["v", "Reset the view", resetView],
    ["r", "Lines between matched points", () => view.points.length && find("#lines-on").click()],
  ],
  open: [["v", "Enlarge the photograph", () => data.open[opened.at] && enlarge(data.photographs[data.open[opened.at].photograph])]],
};
const COMMON = [
  ["a", "Previous", () => step(TABS[tab], -1), "held"],
  ["g", "Next", () => step(TABS[tab], 1), "held"],
  ["q", "Animals", () => turnTo("animals")],
  ["w", "Pairs", () => turnTo("pairs")],
  ["e", "Open photographs", () => turnTo("open")],
  ["z", "Undo", undoLast],
  ["Z", "Undo what the project has taken in", showEarlier],
  ["t", "Download decisions", download],
  ["?", "This help", () => find("#guide").showModal()],
];
const MORE = { // what has no button of its own
  animals: [["1 to 9", "Select one of the first nine photographs"]],
  pairs: [["+ −", "Zoom (or use the wheel, two fingers or a double click); drag to move"]],
  open: [["1 to 5", "Choose a candidate"]],
};

function step(list, by) {
  if (!list.items.length) return;
  list.at = (list.at + by + list.items.length) % list.items.length;
  if (list === animals) animals.other = null;
  clearChosen();
  say("");
  render();
  scrollTo(0, 0);
}

// The next item without an answer, from the one in view on and then from the start.
function goToUnanswered(list) {
  const places = list.items.map((_, by) => (list.at + by + 1) % list.items.length);
  const next = places.find((place) => !list.answerOf(list.items[place]));
  if (next === undefined) say(`${find("#said").textContent} All are answered: download your decisions.`);
  else list.at = next;
  if (list === animals) animals.other = null;
  clearChosen();
  render();
  scrollTo(0, 0);
}

function undoLast() {
  const rows = undo();
  if (!rows) return;
  const [{ kind, a, b }] = rows;
  const owner = kind === "not_animal" ? merged(state.where.get(a)) : "";
  const places = {
    pairs: data.pairs.findIndex((pair) => pairOf(...keysOf(pair)) === pairOf(a, b)),
    open: data.open.findIndex((item) => data.photographs[item.photograph].key === a),
    animals: animals.items.findIndex(({ id }) => [a, b, owner].includes(id)),
  };
  const where = kind === "side" ? undefined : [tab, "pairs", "open", "animals"].find((name) => places[name] >= 0);
  if (where) TABS[where].at = places[where];
  if (where === "animals") animals.other = null;
  openTab(where ?? tab);
}

function openTab(name) {
  tab = name;
  remember("tab", name);
  render();
}

function turnTo(name) {
  say("");
  openTab(name);
  scrollTo(0, 0);
}

function render() {
  for (const name of Object.keys(TABS)) {
    const button = find(`#tab-${name}`);
    button.setAttribute("aria-selected", name === tab);
    button.tabIndex = name === tab ? 0 : -1;
    find(`#${name}`).hidden = name !== tab;
    const left = TABS[name].items.filter((item) => !TABS[name].answerOf(item)).length;
    find(".count", button).textContent = left || "✓";
  }
  SHOW[tab]();
  showProgress();
  showActions();
  if (document.activeElement === document.body) find("#work").focus({ preventScroll: true });
}

function showProgress() {
  const { items, answerOf } = TABS[tab];
  const done = items.filter((item) => answerOf(item)).length;
  Object.assign(find("#done"), { max: Math.max(items.length, 1), value: done });
  find("#progress").textContent = `${done} of ${items.length} answered`;
}

function keyed([key, text, act, kind], className = "") {
  const button = make("button", { type: "button", className: `${className} ${kind ?? ""}`, data: { key } }, make("kbd", { textContent: key.toUpperCase() }), ` ${text}`);
  button.addEventListener("click", act);
  return button;
}

function showActions() {
  const bar = find("#actions");
  bar.hidden = !TABS[tab].items.length;
  if (bar.dataset.tab === tab) return;
  bar.dataset.tab = tab;
  const [previous, next] = COMMON;
  bar.replaceChildren(keyed(previous, "step"), ...KEYS[tab].map((key) => keyed(key)), keyed(next, "step"));
}

function showKeys() {
  const titles = { animals: "Animals", pairs: "Pairs", open: "Open photographs" };
  const table = (title, keys) =>
    make("section", {}, make("h3", { textContent: title }), make("dl", {}, ...keys.flatMap(([key, text]) => [
      make("dt", {}, make("kbd", { textContent: /^[A-Z]$/.test(key) ? `Shift ${key}` : key.toUpperCase() })), make("dd", { textContent: text }),
    ])));
  find("#keys").replaceChildren(
    table("Everywhere", [...COMMON, ["← →", "Previous, next"]]),
    ...Object.keys(titles).map((name) => table(titles[name], [...KEYS[name], ...FURTHER[name], ...MORE[name]])),
    table("Enlarged photograph", [...SIDES.map(([key, text]) => [key, `Side: ${text.toLowerCase()}`]), ["v", "Close"]]),
  );
}

function typing({ target, key }) {
  if (target.matches?.("input[type=range]")) return key.startsWith("Arrow");
  return target.matches?.("input:not([type=checkbox]), select, textarea");
}

// Keys of the large view: the side, and what leaves it.
function pressedEnlarged(key) {
  if (!find("#keys-on").checked) return;
  const side = SIDES.find(([name]) => name === key.toLowerCase());
  if (side) return setSide(side[2]);
  if (!["v", "V", "z"].includes(key)) return;
  find("#enlarged").close();
  if (key === "z") undoLast();
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event)) return;
  const { key, target, repeat } = event;
  if (repeat && key === "Enter") return event.preventDefault(); // it would press a button again
  const dialog = find("dialog[open]");
  if (dialog) return dialog.id === "enlarged" && !repeat ? pressedEnlarged(key) : undefined;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (by && target.role === "tab") {
    const names = Object.keys(TABS);
    turnTo(names[(names.indexOf(tab) + by + names.length) % names.length]);
    return find(`#tab-${tab}`).focus();
  }
  if (by) return step(TABS[tab], by);
  if (!find("#keys-on").checked && key !== "?") return;
  const factor = { "+": 1.5, "=": 1.5, "-": 1 / 1.5 }[key];
  if (factor && tab === "pairs") return zoomAt(factor);
  const known = [...KEYS[tab], ...FURTHER[tab], ...COMMON];
  const hit = known.find(([name]) => name === key) ?? known.find(([name]) => name === key.toLowerCase());
  if (repeat && hit?.[3] !== "held") return;
  if (/^[1-9]$/.test(key)) return tab === "open" ? chooseCandidate(key - 1) : tab === "animals" && chooseNumber(key - 1);
  if (!hit) return;
  event.preventDefault();
  hit[2]();
}

document.addEventListener("keydown", pressed);
for (const name of Object.keys(TABS)) find(`#tab-${name}`).addEventListener("click", () => turnTo(name));
for (const button of all("dialog .close")) button.addEventListener("click", () => button.closest("dialog").close());
for (const dialog of all("dialog")) dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
find("#undo").addEventListener("click", undoLast);
find("#download").addEventListener("click", download);
find("#help").addEventListener("click", () => find("#guide").showModal());
find("#load").addEventListener("click", () => find("#file").click());
find("#file").addEventListener("change", async ({ target }) => {
  if (target.files[0]) loadText(await target.files[0].text());
  target.value = "";
  render();
});
find("#who").value = recall("who") ?? "";
find("#who").addEventListener("change", ({ target }) => remember("who", (target.value = clean(target.value))));
find("#keys-on").checked = recall("keys") !== "off";
find("#keys-on").addEventListener("change", ({ target }) => remember("keys", target.checked ? "on" : "off"));
addEventListener("storage", ({ key }) => {
  if (key !== stored("rows")) return;
  restore(); // another tab of the browser has answered
  render();
});

restore();
if (matchMedia("(max-width: 48rem)").matches) find(".side").open = false;
for (const list of Object.values(TABS)) list.at = Math.max(list.items.findIndex((item) => !list.answerOf(item)), 0);
showKeys();
look({});
render();
