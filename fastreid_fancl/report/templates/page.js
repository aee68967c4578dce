"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

const baseline = find("#baseline");
const said = find("#said");

// Sorting. The groups, each a tbody, stay apart; rows without a value come last in both directions.

function key(row, column) {
  const cell = row.cells[column];
  return column === 0 ? cell.textContent : cell.dataset.value;
}

function compare(a, b, sign) {
  if (!a || !b) return Boolean(b) - Boolean(a);
  return sign * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
}

function sort(table) {
  const header = find('th[aria-sort$="ending"]', table);
  if (!header) return;
  const sign = header.getAttribute("aria-sort") === "ascending" ? 1 : -1;
  for (const body of table.tBodies) {
    const rows = all("tr[data-system]", body);
    rows.sort((a, b) => compare(key(a, header.cellIndex), key(b, header.cellIndex), sign));
    body.append(...rows);
  }
}

function sortBy(header) {
  const table = header.closest("table");
  const opposite = { ascending: "descending", descending: "ascending" };
  const direction = opposite[header.getAttribute("aria-sort")] ?? header.dataset.first;
  for (const other of all("th[aria-sort]", table)) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", direction);
  sort(table);
  said.textContent = `Sorted by ${header.textContent}, ${direction}.`;
}

// Differences to the baseline.

function showDifferences() {
  const versus = data.differences[baseline.value] ?? {};
  for (const row of all("#retrieval tr[data-system]")) {
    const found = versus[row.dataset.system] ?? {};
    const same = row.dataset.system === baseline.value;
    row.classList.toggle("baseline", same);
    for (const cell of all(".difference", row)) {
      const difference = found[cell.dataset.score];
      cell.textContent = same ? "baseline" : difference?.text ?? "–";
      cell.dataset.value = same ? 0 : difference?.mean ?? "";
    }
    find(".shared", row).textContent = found[data.scores[0]]?.seeds?.join(", ") ?? "–";
  }
  find("#forest-baseline").textContent = baseline.value;
  sort(find("#retrieval"));
}

// Plots.

function colour(name) {
  const probe = find("h1");
  const before = probe.style.color;
  probe.style.color = `var(--${name})`;
  const found = getComputedStyle(probe).color;
  probe.style.color = before;
  return found;
}

// Plotly reads links and tags in labels: names of runs are plain.
const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

function layout(changes) {
  const axis = { gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("line"), automargin: true };
  return {
    autosize: true,
    showlegend: false,
    hovermode: "closest",
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
    margin: { l: 8, r: 12, t: 32, b: 8 },
    paper_bgcolor: colour("surface"),
    plot_bgcolor: colour("surface"),
    font: { color: colour("text"), family: getComputedStyle(document.body).fontFamily, size: 13 },
    modebar: { bgcolor: "transparent", color: colour("muted"), activecolor: colour("accent") },
    hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("muted"), font: { color: colour("text") } },
    ...changes,
    xaxis: { ...axis, ...changes.xaxis },
    yaxis: { ...axis, ...changes.yaxis },
  };
}

const options = (title) => ({
  responsive: true,
  displaylogo: false,
  displayModeBar: true,
  modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  toImageButtonOptions: { filename: title.match(/[\w-]+/g).join("_"), scale: 2 },
});

function shown() {
  return new Set(all("#legend [data-seed]:checked").map((box) => `${box.dataset.system} ${box.dataset.seed}`));
}

// The mean of lines at each epoch that all of them have.
function mean(lines) {
  const at = (epoch) => lines.map((line) => line.values[epoch]);
  const average = (values) => (values.includes(null) ? null : values.reduce((a, b) => a + b) / values.length);
  return lines[0].values.map((_, epoch) => average(at(epoch)));
}

function drawCurves(plot, number) {
  const target = find(`#plot-${number}`);
  if (!target) return;
  const visible = shown();
  const trace = (look, title, values, width, changes) => ({
    name: plain(`${look.name}, ${title}`),
    x: plot.epochs,
    y: values,
    connectgaps: true,
    mode: "lines+markers",
    line: { color: colour(`series-${look.colour}`), dash: look.dash || "solid", width },
    marker: { symbol: look.marker, size: 7, maxdisplayed: 8 },
    hovertemplate: `%{fullData.name}<br>epoch %{x}: %{y:.${plot.digits}f}<extra></extra>`,
    ...changes,
  });
  // Several finished seeds of a system are thin beside their mean, which alone has markers.
  const traces = data.systems.flatMap((look) => {
    const own = plot.lines.filter((line) => line.system === look.name);
    const drawn = own.filter((line) => visible.has(`${look.name} ${line.seed}`));
    const finished = drawn.filter((line) => !line.unfinished);
    const several = finished.length > 1;
    const [width, thin] = several ? [1, { mode: "lines", opacity: 0.5 }] : [1.5, {}];
    const open = { marker: { symbol: `${look.marker}-open`, size: 7 } };
    const seeds = own.map((line) =>
      trace(look, line.title, line.values, width, { ...(line.unfinished ? open : thin), visible: drawn.includes(line) }),
    );
    return several ? [...seeds, trace(look, `mean of ${finished.length} seeds`, mean(finished), 2.5)] : seeds;
  });
  const level = { type: "line", xref: "paper", x0: 0, x1: 1, y0: plot.level, y1: plot.level };
  const shapes = plot.level === null ? [] : [{ ...level, line: { color: colour("muted"), dash: "dot", width: 1.5 } }];
  const xaxis = { title: { text: "Epoch" }, dtick: plot.epochs.length > 20 ? null : 1 };
  Plotly.react(target, traces, layout({ xaxis, yaxis: { title: { text: plot.axis } }, shapes, height: 380 }), options(plot.axis));
}

function drawForest() {
  const versus = data.differences[baseline.value] ?? {};
  const known = data.systems.filter(({ name }) => versus[name]?.mAP.mean !== undefined);
  known.sort((a, b) => versus[a.name].mAP.mean - versus[b.name].mAP.mean);
  find("#forest").closest("figure").hidden = known.length === 0;
  const traces = known.map(({ name, colour: number, marker }) => {
    const { mean, low, high, text } = versus[name].mAP;
    return {
      name: plain(name),
      x: [mean],
      y: [plain(name)],
      error_x: { type: "data", array: [high - mean], arrayminus: [mean - low], thickness: 2, width: 5 },
      mode: "markers",
      marker: { color: colour(`series-${number}`), symbol: marker, size: 11 },
      hovertemplate: `${plain(name)}: ${text}<extra></extra>`,
    };
  });
  const xaxis = { title: { text: "Percentage points of mAP" }, zerolinecolor: colour("text"), zerolinewidth: 2 };
  const title = find("#forest-caption").textContent;
  Plotly.react("forest", traces, layout({ xaxis, height: 110 + 32 * known.length }), options(title));
}

function draw() {
  drawForest();
  data.plots.forEach(drawCurves);
}

// The legend: a box a run, one for all of a system, and one for all.

function tick(whole, boxes) {
  whole.checked = boxes.every((box) => box.checked);
  whole.indeterminate = !whole.checked && boxes.some((box) => box.checked);
}

function toggle({ target }) {
  const every = find("#every");
  const below = target === every ? find("#legend") : target.dataset.all ? target.closest(".system") : target.parentNode;
  for (const box of all("[data-seed]", below)) box.checked = target.checked;
  for (const row of all(".system")) tick(find("[data-all]", row), all("[data-seed]", row));
  tick(every, all("#legend [data-seed]"));
  data.plots.forEach(drawCurves);
}

// The theme: the system's until the button is pressed.

const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = () => document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");

function showTheme() {
  find("#theme").setAttribute("aria-pressed", theme() === "dark");
  draw();
}

function enlarge(picture) {
  const dialog = find("#enlarged");
  Object.assign(find("img", dialog), { src: picture.src, alt: picture.alt });
  find("p", dialog).textContent = find("figcaption", picture.closest("figure")).textContent;
  dialog.showModal();
}

all(".sortable th button").forEach((button) => button.addEventListener("click", () => sortBy(button.closest("th"))));
baseline.addEventListener("change", () => {
  showDifferences();
  drawForest();
  said.textContent = `Differences are from ${baseline.value}.`;
});
find("#legend").addEventListener("change", toggle);
find("#theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
  showTheme();
});
dark.addEventListener("change", showTheme);
all(".enlarge").forEach((button) => button.addEventListener("click", () => enlarge(find("img", button))));
find("#enlarged button")?.addEventListener("click", () => find("#enlarged").close());

showDifferences();
showTheme();
