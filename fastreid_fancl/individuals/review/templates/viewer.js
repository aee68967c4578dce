"use strict";

// Two photographs that zoom, move and brighten together. x and y are in shares of a view, so views may differ in size.

const view = { zoom: 1, x: 0, y: 0, brightness: 1, points: [] };
const stage = find("#stage");
const views = all(".view", stage);
const pointers = new Map();

function limit(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

function look(changes) {
  Object.assign(view, changes);
  view.zoom = limit(view.zoom, 1, 8);
  view.brightness = limit(view.brightness, 0.4, 3);
  const reach = (view.zoom - 1) / 2;
  view.x = limit(view.x, -reach, reach);
  view.y = limit(view.y, -reach, reach);
  for (const each of views) {
    each.style.setProperty("--zoom", view.zoom);
    each.style.setProperty("--x", `${100 * view.x}%`);
    each.style.setProperty("--y", `${100 * view.y}%`);
    each.style.setProperty("--brightness", view.brightness);
    each.style.touchAction = view.zoom > 1 ? "none" : "pan-y"; // a finger moves the photographs, else the page
  }
  find("#zoom").value = view.zoom;
  find("#brightness").value = view.brightness;
  drawLines();
}

const resetView = () => look({ zoom: 1, x: 0, y: 0, brightness: 1 });

// Where a relative point of a photograph is on the stage; null if it is outside its view.
function onStage(frame, x, y) {
  const image = find("img", frame);
  if (!image?.naturalWidth) return null;
  const [outer, box] = [stage.getBoundingClientRect(), frame.getBoundingClientRect()];
  const fit = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight) * view.zoom;
  const left = box.width * (0.5 + view.x) + (x - 0.5) * image.naturalWidth * fit;
  const top = box.height * (0.5 + view.y) + (y - 0.5) * image.naturalHeight * fit;
  if (left < 0 || top < 0 || left > box.width || top > box.height) return null;
  return [box.left - outer.left + left, box.top - outer.top + top];
}

function drawLines() {
  const lines = find("#lines");
  lines.replaceChildren();
  if (!find("#lines-on").checked) return;
  for (const [xa, ya, xb, yb] of view.points) {
    const [a, b] = [onStage(views[0], xa, ya), onStage(views[1], xb, yb)];
    if (!a || !b) continue;
    const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    line.setAttribute("d", `M${a}L${b}`);
    const ends = document.createElementNS("http://www.w3.org/2000/svg", "path");
    ends.setAttribute("d", `M${a}h0M${b}h0`);
    ends.setAttribute("class", "ends");
    lines.append(line, ends);
  }
}

// Zoom about a place of a view, given in shares from its middle, so that what is there stays there.
function zoomAt(factor, x = 0, y = 0) {
  const zoom = limit(view.zoom * factor, 1, 8);
  const ratio = zoom / view.zoom;
  look({ zoom, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio });
}

function place(frame, { clientX, clientY }) {
  const box = frame.getBoundingClientRect();
  return [(clientX - box.left) / box.width - 0.5, (clientY - box.top) / box.height - 0.5];
}

const spread = () => {
  const [a, b] = [...pointers.values()];
  return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
};

function moved(frame, event) {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const old = pointers.size === 2 ? spread() : 0;
  pointers.set(event.pointerId, event);
  if (pointers.size === 2) return zoomAt(spread() / Math.max(old, 1), ...place(frame, event));
  const box = frame.getBoundingClientRect();
  look({ x: view.x + (event.clientX - before.clientX) / box.width, y: view.y + (event.clientY - before.clientY) / box.height });
}

for (const frame of views) {
  frame.addEventListener("wheel", (event) => {
    if (view.zoom === 1 && event.deltaY > 0) return; // the page scrolls on
    event.preventDefault();
    zoomAt(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...place(frame, event));
  }, { passive: false });
  frame.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button) return;
    pointers.set(event.pointerId, event);
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => moved(frame, event));
  for (const name of ["pointerup", "pointercancel"]) frame.addEventListener(name, (event) => pointers.delete(event.pointerId));
  frame.addEventListener("dblclick", (event) => (view.zoom > 1 ? resetView() : zoomAt(2.5, ...place(frame, event))));
  frame.addEventListener("load", drawLines, true);
}
find("#zoom").addEventListener("input", ({ target }) => zoomAt(target.value / view.zoom));
find("#brightness").addEventListener("input", ({ target }) => look({ brightness: Number(target.value) }));
find("#lines-on").addEventListener("change", drawLines);
new ResizeObserver(drawLines).observe(stage);
