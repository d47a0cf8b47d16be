// What the expert thinks after each layer.

const columns = [];

function colourLens() {
  const share = (cell) => (state.lens === "top" ? cell.probability : cell.token_probability);
  columns.forEach(({ position, cells }) => cells.forEach((element, number) => {
    const layer = position.lens.length - 1 - number;
    paint(element, "sure", share(position.lens[layer]));
  }));
  const title = state.lens === "top" ? "Probability of the token in the cell" : "Probability of the token that came";
  at("lens-legend").replaceChildren(scaleOf("sure", "0 %", "100 %", title));
}

function showLens() {
  const shown = positions.map((position, index) => ({ position, index })).filter(({ position }) => position.lens.length);
  at("lens-section").hidden = !shown.length;
  if (!shown.length) return;
  const layers = data.layers + 1;
  const map = make("div", { class: "map" });
  map.style.gridTemplateColumns = `auto repeat(${shown.length}, 66px)`;
  map.style.gridTemplateRows = `repeat(${layers + 1}, 23px)`;
  map.style.gridAutoFlow = "column";
  map.append(make("span", { class: "layer" }, "layer"));
  for (let layer = layers - 1; layer >= 0; layer--) {
    map.append(make("span", { class: "layer" }, layer === data.layers ? `${layer}, output` : `${layer}`));
  }
  for (const { position, index } of shown) map.append(...column(position, index));
  at("lens").append(map);
  at("lens").addEventListener("scroll", shadeEdge);
  new ResizeObserver(shadeEdge).observe(at("lens"));
  map.addEventListener("pointerover", (event) => tellCell(event, false));
  map.addEventListener("click", (event) => tellCell(event, true));
  watchers.push((index) => {
    bringInSight(columns.find((other) => other.index === index));
    columns.forEach((other) => [other.head, ...other.cells].forEach((cell) => cell.classList.toggle("current", other.index === index)));
  });
}

/** A shadow at the right edge where the map goes on behind it. */
function shadeEdge() {
  const box = at("lens");
  at("lens-frame").classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
}

/** Scrolls sideways to a column, and only if it is hidden. */
function bringInSight(wanted) {
  const box = at("lens");
  if (!wanted || box.matches(":hover")) return;
  const [left, width] = [wanted.head.offsetLeft, wanted.head.offsetWidth];
  const labels = box.querySelector(".layer").offsetWidth;
  if (left - labels < box.scrollLeft || left + width > box.scrollLeft + box.clientWidth) {
    box.scrollLeft = left + width / 2 - box.clientWidth / 2;
  }
}

function column(position, index) {
  const head = make("span", { class: "came", "data-index": index, title: `token ${position.index}` }, visible(position.name));
  const cells = position.lens.map((cell, layer) =>
    make("span", { class: `cell${cell.id === position.id ? " hit" : ""}`, "data-index": index, "data-layer": layer }, visible(cell.name)));
  cells.reverse();
  columns.push({ position, index, head, cells });
  return [head, ...cells];
}

function tellCell(event, pin) {
  const element = event.target.closest("[data-index]");
  if (!element) return;
  const position = positions[Number(element.dataset.index)];
  select(Number(element.dataset.index), pin);
  const layer = Number(element.dataset.layer ?? position.lens.length - 1);
  const cell = position.lens[layer];
  at("lens-detail").textContent =
    `After layer ${layer}, before token ${position.index}: most probable \u201c${visible(cell.name)}\u201d with ${percent(cell.probability)}; ` +
    `the token that came, \u201c${visible(position.name)}\u201d, with ${percent(cell.token_probability)}.`;
}
