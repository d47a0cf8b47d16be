// One token: numbers, candidates, and how the logits of the row lie.

const NUMBERS = [
  ["probability", (b) => percent(b.probability)],
  ["log-probability, nats", (b) => decimal(b.log_prob, 3)],
  ["as sampled", (b) => percent(b.sampled_probability)],
  ["rank", (b) => `${b.rank}`],
  ["entropy, nats", (b) => decimal(b.entropy, 3)],
  ["most probable token", (b) => percent(b.max_probability)],
];

const SIDES = [["expert", "Expert"], ["drafter", "Drafter"]];

function showPanel(index) {
  const position = positions[index];
  const sides = SIDES.filter(([side]) => position[side]);
  const pinned = state.pinned === index ? make("small", {}, "pinned") : null;
  const origin = ORIGINS[position.origin] || "prompt";
  const round = position.round ? `, round ${position.round}` : "";
  const parts = [
    make("h2", {}, make("code", {}, visible(position.name)), pinned),
    make("p", {}, `token ${position.index}, id ${position.id}, ${origin}${round}`),
  ];
  if (!sides.length) parts.push(make("p", {}, "Nothing comes before the first token, so nobody says anything of it."));
  else parts.push(numbersTable(position, sides), lawsTable(position), candidateLists(position, sides));
  for (const [side, title] of sides) parts.push(make("h3", { class: side }, `${title}: logits of the row`), histogram(position[side], side));
  at("panel").replaceChildren(...parts.filter(known));
}

function numbersTable(position, sides) {
  const head = sides.map(([side, title]) => make("th", { class: side, scope: "col" }, title));
  const row = ([name, text]) =>
    make("tr", {}, make("td", {}, name), ...sides.map(([side]) => make("td", {}, text(position[side]))));
  return make("table", {}, make("thead", {}, make("tr", {}, make("th", {}), ...head)), make("tbody", {}, ...NUMBERS.map(row)));
}

function lawsTable(position) {
  if (!position.pair) return null;
  const row = (name, text) =>
    make("tr", {}, make("td", {}, name), ...["sampled", "raw"].map((law) => make("td", {}, text(position.pair[law]))));
  const head = ["as sampled", "temperature 1"].map((name) => make("th", { scope: "col" }, name));
  const table = make("table", {},
    make("thead", {}, make("tr", {}, make("th", {}), ...head)),
    make("tbody", {},
      row("acceptance min(1, \u03c0/q)", (l) => (known(l.acceptance) ? percent(l.acceptance) : "not drafted (q = 0)")),
      row("of any drafted token", (l) => percent(l.expected_acceptance)),
      row("total variation(p, q)", (l) => decimal(l.total_variation, 3)),
    ));
  return make("div", { class: "laws" }, make("h3", {}, "Acceptance, had it been drafted"), table);
}

function candidateLists(position, sides) {
  const list = ([side, title]) => {
    const items = position[side].candidates.map((candidate) => {
      const bar = make("span", { class: "fill" });
      bar.style.width = `${candidate.probability * 100}%`;
      const came = candidate.id === position.id ? " came" : "";
      return make("li", { class: `candidate of-${side}${came}`, "data-id": candidate.id, "data-probability": candidate.probability },
        bar, make("code", {}, visible(candidate.name)), make("span", { class: "p" }, percent(candidate.probability)));
    });
    return make("div", {}, make("h3", { class: side }, `${title} would say`), make("ol", { class: "candidates" }, ...items));
  };
  return make("div", { class: "sides" }, ...sides.map(list));
}

/** Bars of counts (their logarithm), with the token that came. */
function histogram(belief, side) {
  const { low, high, counts, token, excluded } = belief.histogram;
  const [width, height, base] = [360, 92, 70];
  const tall = Math.log1p(Math.max(1, ...counts));
  const bar = (count, bin) => {
    const length = (Math.log1p(count) / tall) * (base - 12);
    const step = width / counts.length;
    const title = `${count} logits from ${(low + ((high - low) * bin) / counts.length).toFixed(2)}`;
    return draw("rect", { x: bin * step + 0.5, y: base - length, width: step - 1, height: length, fill: `var(--${side})`, opacity: 0.55 },
      draw("title", {}, title));
  };
  const parts = [...counts.map(bar), draw("line", { class: "axis", x1: 0, x2: width, y1: base, y2: base })];
  if (known(token)) {
    const x = high > low ? ((token - low) / (high - low)) * width : width / 2;
    const anchor = x > width * 0.6 ? "end" : "start";
    parts.push(
      draw("line", { x1: x, x2: x, y1: 2, y2: base, stroke: "var(--mark)", "stroke-width": 2 }),
      draw("text", { x: x + (anchor === "end" ? -5 : 5), y: 10, "text-anchor": anchor, style: "fill: var(--mark)" }, `this token ${token.toFixed(2)}`),
    );
  }
  const aside = excluded ? `, ${excluded} excluded` : "";
  parts.push(
    draw("text", { x: 0, y: height - 8 }, decimal(low, 1)),
    draw("text", { x: width / 2, y: height - 8, "text-anchor": "middle" }, `logit (bars: log of count${aside})`),
    draw("text", { x: width, y: height - 8, "text-anchor": "end" }, decimal(high, 1)),
  );
  return draw("svg", { class: "histogram", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Histogram of the ${side}'s logits` }, ...parts);
}
