"use strict";

// Decisions that the project has taken in, the last first. Undoing one is a new row, which the next discovery follows.

const earlier = reversed(grouped(data.applied).filter(([{ kind }]) => kind !== "undo"));

function inWords([{ kind, a, b, value }, ...others]) {
  const names = [a, b].filter(Boolean).map((item) => byKey.get(item)?.file ?? nameOf(item));
  const more = others.length ? ` and ${others.length} more` : "";
  const [short] = kind === "confirm" ? value.split(":") : [value]; // without the keys of its photographs
  return `${kind.replace("_", " ")}: ${[...names, short].filter(Boolean).join(", ")}${more}`;
}

function showEarlier() {
  const undone = undoneRows();
  find("#earlier ul").replaceChildren(...earlier.map((rows) => earlierItem(rows, undone)));
  find("#earlier p").textContent = earlier.length
    ? "An undo is a new decision: download your decisions and give them to the project."
    : "There are none yet.";
  if (!find("#earlier").open) find("#earlier").showModal();
}

function earlierItem(rows, undone) {
  const [{ when: time, who }] = rows;
  const text = inWords(rows);
  const button = make("button", { type: "button", textContent: "Undo", aria: { label: `Undo ${text}` } });
  button.addEventListener("click", () => {
    decide(`${text}: undone at the next discovery.`, ...undoing(rows));
    showEarlier();
    render();
  });
  return make(
    "li", {},
    make("span", { className: "words" }, make("b", { textContent: text }), make("span", { textContent: `${time} ${who}` })),
    undone.has(time) ? make("span", { className: "chip", textContent: "undone" }) : button,
  );
}

find("#earlier-open").addEventListener("click", () => {
  find("#guide").close();
  showEarlier();
});
