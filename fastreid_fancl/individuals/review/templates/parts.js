"use strict";

// What the page shows, and small helpers that build it. Text from outside goes into text nodes and attributes only.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byKey = new Map(data.photographs.map((photograph) => [photograph.key, photograph]));
const byId = new Map(data.individuals.map((individual) => [individual.id, individual])); // merged ones, too

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  const { data: marks, aria, ...rest } = properties;
  Object.assign(element, rest);
  Object.assign(element.dataset, marks);
  for (const [name, value] of Object.entries(aria ?? {})) element.setAttribute(`aria-${name}`, value);
  element.append(...children.filter((child) => child !== ""));
  return element;
}

const scoreIs = data.score_is ?? "score"; // a probability once enough is decided

function groupBy(items, of) {
  const groups = new Map();
  for (const item of items) {
    if (!groups.has(of(item))) groups.set(of(item), []);
    groups.get(of(item)).push(item);
  }
  return groups;
}

const reversed = (items) => [...items].reverse();

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const two = (value) => value.toFixed(2);
const when = (text) => (text ?? "").replace("T", " ").slice(0, 16);

const sideOf = ({ key, side }) => state.sides.get(key) ?? side ?? "unknown";

// A photograph's place, date and side in words; what is not known is left out.
function facts(photograph) {
  const words = { left: "left side", right: "right side", both: "both sides" };
  const side = words[sideOf(photograph)] ?? "";
  return [photograph.station, when(photograph.date_time), side].filter(Boolean);
}

const describe = (photograph) => [photograph.file, ...facts(photograph)].join(", ");

function picture(photograph, folder, lazy = true) {
  return make("img", {
    loading: lazy ? "lazy" : "eager", decoding: "async", draggable: false,
    alt: describe(photograph), src: `${folder}/${photograph.key}.jpg`,
  });
}

// File, station, date, side and score beside a photograph.
function caption(photograph, score, ...more) {
  const values = [
    ...facts(photograph),
    Number.isFinite(score) ? `${scoreIs} ${two(score)}` : "",
    Number.isFinite(photograph.certainty) ? `certainty ${Math.round(100 * photograph.certainty)}%` : "",
  ].filter(Boolean);
  return make(
    "span", { className: "caption" },
    make("b", { title: photograph.path, textContent: photograph.file }),
    ...values.map((value) => make("span", { textContent: value })),
    ...more,
  );
}

// How many spots two photographs share, where they do.
function matched(item) {
  return item.matched_points ? make("span", { textContent: `${item.matched_points} matched points` }) : "";
}

// A part of a container has whole rows by up to eight columns, so only the last row of all can be incomplete.
const PART = 840;

// Fill a container with elements for items, a few at a time as they come near the view. They lie in parts, and the browser
// passes over those that are far from the view: 10,000 photographs stay smooth.
function grow(container, items, render, least = 60) {
  container.observer?.disconnect();
  const end = make("div", { className: "end" });
  container.replaceChildren(end);
  container.shown = 0;
  const more = (count) => {
    for (const item of items.slice(container.shown, container.shown + count)) {
      if (container.shown % PART === 0) {
        end.previousSibling?.classList.add("full");
        end.before(make("div", { className: "part" }));
      }
      end.previousSibling.append(render(item, container.shown++));
    }
    if (container.shown >= items.length) end.remove();
  };
  more(least);
  if (!end.isConnected) return;
  container.observer = new IntersectionObserver(
    (entries) => entries.some((entry) => entry.isIntersecting) && more(120),
    { root: container.classList.contains("scrolls") ? container : null, rootMargin: "1500px" },
  );
  container.observer.observe(end);
}

function say(text) {
  find("#said").textContent = text;
}

// The large view of a photograph, in which its side is given.

const SIDES = [["a", "Left", "left"], ["s", "Both", "both"], ["d", "Right", "right"], ["f", "Unknown", "unknown"]];
let enlarged; // the photograph in the large view

function enlarge(photograph) {
  enlarged = photograph;
  find("#enlarged figure").replaceChildren(picture(photograph, "large", false), make("figcaption"));
  showSide();
  find("#enlarged").showModal();
}

function showSide() {
  find("#enlarged figcaption").replaceChildren(caption(enlarged, enlarged.score));
  for (const button of all("#sides button")) button.setAttribute("aria-pressed", button.value === sideOf(enlarged));
}

function setSide(value) {
  if (value === sideOf(enlarged)) return;
  decide(`${enlarged.file}: ${value === "both" ? "both sides" : `${value} side`}.`, { kind: "side", a: enlarged.key, value });
  showSide();
  render();
}

for (const [key, text, value] of SIDES) {
  const button = make("button", { type: "button", value }, make("kbd", { textContent: key.toUpperCase() }), ` ${text}`);
  button.addEventListener("click", () => setSide(value));
  find("#sides").append(button);
}

// A picture that is not there becomes an empty frame with its name.
document.addEventListener("error", ({ target }) => target.classList?.add("missing"), true);
