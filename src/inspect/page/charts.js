// Lines along the text.

const SERIES = [
  {
    title: "Entropy", unit: "nats", top: null,
    lines: [
      { name: "expert", colour: "var(--expert)", value: (p) => p.expert && p.expert.entropy },
      { name: "drafter", colour: "var(--drafter)", value: (p) => p.drafter && p.drafter.entropy },
    ],
  },
  {
    title: "Acceptance probability", unit: "", top: 1, pair: true,
    lines: [
      { name: "any drafted token", colour: "var(--expert)", value: (p) => laws(p) && laws(p).expected_acceptance },
      { name: "this token", colour: "var(--mark)", dots: true, value: (p) => laws(p) && laws(p).acceptance },
    ],
  },
  {
    title: "Total variation of expert and drafter", unit: "", top: 1, pair: true,
    lines: [{ name: "", colour: "var(--expert)", value: (p) => laws(p) && laws(p).total_variation }],
  },
];

const EDGE = { left: 38, right: 8, top: 8, bottom: 20 };
let crosses = [];

function showSeries() {
  crosses = [];
  const hasPair = positions.some((p) => p.pair);
  const shown = SERIES.filter((series) => hasPair || !series.pair);
  at("series").replaceChildren(...shown.flatMap((series, number) => chart(series, number === shown.length - 1)));
  crosses.forEach((cross) => cross(state.current));
}

function axisNumber(value, step) {
  return value.toFixed(step < 1 ? (step < 0.1 ? 2 : 1) : 0);
}

/** About so many round steps up to a number. */
function steps(top, wanted) {
  const rough = top / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) || 10 * power;
  return { step, values: Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) => i * step) };
}

function chart(series, last) {
  const lines = series.lines.filter((line) => positions.some((p) => known(line.value(p))));
  const width = Math.max(260, at("series").clientWidth);
  const height = last ? 132 : 118;
  const values = lines.flatMap((line) => positions.map(line.value)).filter(known);
  const top = series.top || Math.max(0.1, ...values) * 1.05;
  const inner = { width: width - EDGE.left - EDGE.right, base: 118 - EDGE.bottom };
  const x = (index) => EDGE.left + ((index + 0.5) / positions.length) * inner.width;
  const y = (value) => inner.base - (value / top) * (inner.base - EDGE.top);
  const parts = [...frame(x, y, inner, width, top)];
  if (last) parts.push(draw("text", { x: EDGE.left + inner.width / 2, y: height - 1, "text-anchor": "middle" }, "position in the text, tokens (shaded: prompt)"));
  lines.forEach((line) => parts.push(...marks(line, x, y)));
  const cross = draw("line", { class: "cross", y1: EDGE.top, y2: inner.base });
  const value = make("span", {});
  const image = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": series.title }, ...parts, cross);
  crosses.push((index) => {
    cross.setAttribute("x1", x(index));
    cross.setAttribute("x2", x(index));
    cross.classList.toggle("pinned", state.pinned === index);
    const said = lines.map((line) => `${line.name} ${decimal(line.value(positions[index]), 3)}`.trim());
    value.textContent = `at ${positions[index].index}: ${said.join(", ")}`;
  });
  const indexAt = (event) => {
    const box = image.getBoundingClientRect();
    const share = (((event.clientX - box.left) / box.width) * width - EDGE.left) / inner.width;
    return Math.min(positions.length - 1, Math.max(0, Math.floor(share * positions.length)));
  };
  image.addEventListener("pointermove", (event) => select(indexAt(event)));
  image.addEventListener("click", (event) => select(indexAt(event), true));
  return [make("p", { class: "chart-title" }, make("b", {}, series.title + (series.unit ? ` (${series.unit})` : "")), key(lines), value), image];
}

function key(lines) {
  if (lines.length < 2) return null;
  const sign = (line) => {
    const mark = draw("svg", { viewBox: "0 0 18 8", style: "width: 18px; display: inline-block" },
      line.dots ? draw("circle", { cx: 9, cy: 4, r: 2.6, fill: line.colour }) : draw("path", { d: "M0 4H18", stroke: line.colour, "stroke-width": 2 }));
    return make("span", { class: "swatches" }, mark, line.name);
  };
  return make("span", {}, ...lines.map(sign));
}

/** Axes, grid, and where the prompt lies. */
function frame(x, y, inner, width, top) {
  const parts = [];
  const prompt = positions.filter((p) => p.origin === "prompt").length;
  const half = inner.width / positions.length / 2;
  if (prompt) {
    parts.push(draw("rect", { class: "given", x: EDGE.left, y: EDGE.top, width: x(prompt - 1) + half - EDGE.left, height: inner.base - EDGE.top }));
  }
  const vertical = steps(top, 4);
  for (const value of vertical.values) {
    parts.push(
      draw("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
      draw("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, axisNumber(value, vertical.step)),
    );
  }
  const { step } = steps(Math.max(1, positions.length), Math.max(2, Math.floor(width / 90)));
  const first = positions[0].index;
  positions.forEach((position, index) => {
    if (position.index % Math.max(1, step) === 0 || index === 0) {
      if (index > 0 && position.index - first < step / 2) return;
      parts.push(draw("text", { x: x(index), y: inner.base + 14, "text-anchor": "middle" }, `${position.index}`));
    }
  });
  parts.push(draw("line", { class: "axis", x1: EDGE.left, x2: width - EDGE.right, y1: inner.base, y2: inner.base }));
  return parts;
}

function marks(line, x, y) {
  const values = positions.map(line.value);
  if (line.dots) {
    const dot = (value, index) => draw("circle", { cx: x(index), cy: y(value), r: positions.length > 200 ? 1.4 : 2.4, fill: line.colour });
    return values.flatMap((value, index) => (known(value) ? [dot(value, index)] : []));
  }
  let pen = false;
  const path = values.map((value, index) => {
    if (!known(value)) {
      pen = false;
      return "";
    }
    const command = pen ? "L" : "M";
    pen = true;
    return `${command}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  return [draw("path", { d: path.join(""), fill: "none", stroke: line.colour, "stroke-width": 1.6, "stroke-linejoin": "round" })];
}
