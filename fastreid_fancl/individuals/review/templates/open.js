"use strict";

// A photograph without a sure animal, with up to five candidates.

const opened = {
  at: 0,
  items: data.open,
  name: "photograph",
  answerOf: (item) => state.open.get(data.photographs[item.photograph].key),
};

function showOpen() {
  const item = data.open[opened.at];
  find(".ask").hidden = !item;
  find("#open h2").textContent = item ? "Which animal is this?" : "There are no open photographs.";
  if (!item) return;
  const asked = data.photographs[item.photograph];
  const zoom = make("button", { type: "button", className: "zoomable", aria: { label: `Enlarge ${describe(asked)}` } }, picture(asked, "large", false));
  zoom.addEventListener("click", () => enlarge(asked));
  find("#asked").dataset.key = asked.key;
  find("#asked").replaceChildren(zoom, make("figcaption", {}, caption(asked, asked.score)));
  find("#candidates").replaceChildren(...candidatesOf(item).map(candidateCard));
  if (!item.candidates.length) find("#candidates").append(make("p", { className: "hint", textContent: "No known animal is similar." }));
  const answer = opened.answerOf(item);
  const mates = answer ? 0 : burst(state, asked.key).length - 1;
  const words = { new: "New animal", unsure: "Unsure", not_animal: "Not an animal" };
  find("#answer").replaceChildren(
    make("span", { textContent: `Photograph ${opened.at + 1} of ${data.open.length}` }),
    mates ? make("span", { textContent: `stands for ${mates + 1} of its sequence` }) : "",
    answer ? make("span", { className: "answer", textContent: words[answer] ?? nameOf(merged(answer)) }) : "",
  );
}

// The likeliest animals under the IDs that they have on the page, each once.
function candidatesOf(item) {
  const own = item.candidates.map((candidate) => ({ ...candidate, individual: merged(candidate.individual) }));
  return own.filter(({ individual }, place) => own.findIndex((other) => other.individual === individual) === place);
}

function candidateCard(candidate, place) {
  const photograph = data.photographs[candidate.photograph];
  const name = nameOf(candidate.individual);
  const choose = make(
    "button",
    { type: "button", className: "choose", data: { individual: candidate.individual }, aria: { label: `${place + 1}: ${name}, ${describe(photograph)}` } },
    picture(photograph, "large"),
    make("span", { className: "candidate" }, make("kbd", { textContent: place + 1 }), make("b", { textContent: name })),
  );
  choose.setAttribute("aria-pressed", merged(opened.answerOf(data.open[opened.at])) === candidate.individual);
  choose.addEventListener("click", () => chooseCandidate(place));
  const zoom = make("button", { type: "button", className: "enlarge", textContent: "⤢", aria: { label: `Enlarge ${photograph.file}` } });
  zoom.addEventListener("click", () => enlarge(photograph));
  return make("figure", { className: "card" }, choose, zoom, make("figcaption", {}, caption(photograph, candidate.score, matched(candidate))));
}

function answerOpen(text, row) {
  const item = data.open[opened.at];
  if (!item) return;
  const { key, file } = data.photographs[item.photograph];
  const mates = MOVING.includes(row.kind) ? burst(state, key).length - 1 : 0;
  const before = correcting(({ kind, a, b }) => a === key && (["is", "new", "not_animal"].includes(kind) || (kind === "unsure" && b === bestOf.get(a))));
  decide(`${file}${mates ? ` and ${mates} more of its sequence` : ""}: ${text}.`, ...before, { ...row, a: key });
  goToUnanswered(opened);
}

function chooseCandidate(place) {
  const item = data.open[opened.at];
  const candidate = item && candidatesOf(item)[place];
  if (candidate) answerOpen(nameOf(candidate.individual), { kind: "is", b: candidate.individual });
}

function openUnsure() {
  const best = data.open[opened.at]?.candidates[0];
  if (best) answerOpen("unsure", { kind: "unsure", b: data.photographs[best.photograph].key });
  else step(opened, 1);
}
