"use strict";

// Two photographs side by side: the same animal or not.

const ANSWERS = { same: "Same animal", different: "Different animals", unsure: "Unsure" };

const pairs = {
  at: 0,
  items: data.pairs,
  name: "pair",
  answerOf: (pair) => state.pairs.get(pairOf(...keysOf(pair))),
};

function keysOf(pair) {
  return [data.photographs[pair.a].key, data.photographs[pair.b].key];
}

function showPair() {
  const pair = data.pairs[pairs.at];
  find("#stage").hidden = find(".sliders").hidden = !pair;
  find("#pairs h2").textContent = pair ? "Is this the same animal?" : "There are no pairs to compare.";
  if (!pair) return;
  const photographs = [data.photographs[pair.a], data.photographs[pair.b]];
  const [a, b] = photographs;
  photographs.forEach((photograph, place) => {
    views[place].dataset.key = photograph.key;
    views[place].setAttribute("aria-label", describe(photograph));
    views[place].replaceChildren(picture(photograph, "large", false));
    const animal = merged(state.where.get(photograph.key));
    const chip = animal ? make("span", { className: "chip", textContent: nameOf(animal) }) : "";
    find("figcaption", views[place].parentNode).replaceChildren(caption(photograph, undefined, chip));
  });
  view.points = pair.points ?? [];
  find("#lines-label").hidden = !view.points.length;
  resetView();
  const opposite = [sideOf(a), sideOf(b)].sort().join() === "left,right";
  const answer = pairs.answerOf(pair);
  find("#verdict").replaceChildren(
    make("span", { textContent: `Pair ${pairs.at + 1} of ${data.pairs.length}` }),
    Number.isFinite(pair.score) ? make("span", { textContent: `${scoreIs} ${two(pair.score)}` }) : "",
    matched(pair),
    opposite ? make("span", { className: "warn", textContent: "left and right side" }) : "",
    answer ? make("span", { className: `answer ${answer}`, textContent: ANSWERS[answer] }) : "",
  );
  const next = data.pairs[pairs.at + 1];
  if (next) keysOf(next).forEach((key) => (new Image().src = `large/${key}.jpg`)); // ready when it is asked
}

function answerPair(kind) {
  const pair = data.pairs[pairs.at];
  if (!pair) return;
  const [a, b] = keysOf(pair);
  const before = correcting((row) => row.kind in ANSWERS && pairOf(row.a, row.b) === pairOf(a, b));
  decide(`${ANSWERS[kind]}: ${byKey.get(a).file} and ${byKey.get(b).file}.`, ...before, { kind, a, b });
  goToUnanswered(pairs);
}
