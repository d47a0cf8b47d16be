// Head, sums, acceptance, reliability; and the beginning of everything.

function showHead() {
  const shown = positions.length;
  const generated = data.tokens - data.prompt_tokens;
  const parts = [plural(data.prompt_tokens, "token") + " of prompt"];
  if (generated) parts.push(`${generated} generated`);
  const part = shown < data.tokens ? `, the last ${shown} of them` : "";
  const who = positions.some((p) => p.drafter) ? "expert and drafter think" : "the expert thinks";
  at("title").textContent = `What ${who} of ${plural(data.tokens, "token")}${part}`;
  const facts = { ...data.facts, text: parts.join(", ") };
  facts.rule = `${facts.rule} (${facts.promise})`;
  const names = { expert: "Expert", drafter: "Drafter", rule: "Rule", sampling: "Sampling", machine: "Computed with", text: "Text" };
  for (const [key, name] of Object.entries(names)) {
    at("facts").append(make("div", {}, make("dt", {}, name), make("dd", {}, facts[key])));
  }
  data.notes.forEach((note) => at("notes").append(make("li", {}, note)));
}

function showNumbers() {
  const { expert, drafter } = data.summary;
  const pair = data.summary[state.law];
  const law = state.law === "raw" ? "at temperature 1" : "as sampled";
  const list = [];
  if (expert) list.push([perplexity(expert), "perplexity of the text, expert"]);
  if (drafter) list.push([perplexity(drafter), "perplexity of the text, drafter"]);
  if (expert) list.push([percent(expert.top), "tokens that are the expert's most probable"]);
  if (expert) list.push([decimal(expert.entropy, 2), "mean entropy of the expert, nats"]);
  if (pair) list.push([percent(pair.expected_acceptance), `mean acceptance of drafted tokens, ${law}`]);
  if (pair) list.push([decimal(pair.total_variation, 3), `mean total variation of the two, ${law}`]);
  at("numbers").replaceChildren(...list.map(([value, name]) => make("div", { class: "number" }, make("b", {}, value), make("span", {}, name))));
}

/** Infinite where the law excludes a token that came. */
const perplexity = (mean) => (known(mean.perplexity) ? decimal(mean.perplexity, 2) : "\u221e");

function showAcceptance() {
  const generation = data.generation;
  at("acceptance-section").hidden = !generation;
  if (!generation) return;
  const row = (name, value) => make("tr", {}, make("td", {}, name), make("td", {}, value));
  const rounds = generation.rounds;
  const box = (number, round) => make("i", { class: number < round.accepted ? "yes" : number < round.examined ? "no" : "" });
  const column = (round, number) => {
    const boxes = Array.from({ length: Math.max(1, round.drafted) }, (_, i) => box(i, round));
    const title = `round ${number + 1}: ${round.accepted} of ${round.drafted} drafted tokens accepted`;
    const element = make("span", { class: "round", title }, ...boxes);
    element.addEventListener("click", () => select(positions.findIndex((p) => p.round === number + 1), true));
    return element;
  };
  const sign = (name, text) => make("span", { class: "swatches rounds" }, make("i", { class: name }), text);
  at("acceptance").append(
    make("table", {}, make("tbody", {},
      row("drafted / examined / accepted", `${generation.drafted} / ${generation.examined} / ${generation.accepted}`),
      row("acceptance rate", percent(generation.acceptance_rate)),
      row("tokens per expert pass", decimal(generation.tokens_per_expert_pass, 2)),
      row("the text ended", generation.finish))),
    make("h3", {}, `${plural(rounds.length, "round")}, the first drafted token at the bottom`),
    make("div", { class: "rounds" }, ...rounds.slice(0, 600).map(column)),
    make("p", { class: "hint" }, sign("yes", "accepted"), sign("no", "refused"), sign("", "not looked at")),
  );
}

function showReliability() {
  const found = data.reliability;
  at("reliability-section").hidden = !found;
  if (!found) return;
  const [size, edge] = [300, 46];
  const x = (share) => edge + share * (size - edge - 8);
  const y = (share) => size - edge - share * (size - edge - 8);
  const most = Math.max(...found.bins.map((bin) => bin.count));
  const parts = [];
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    parts.push(
      draw("line", { class: "grid", x1: x(0), x2: x(1), y1: y(share), y2: y(share) }),
      draw("text", { x: x(0) - 5, y: y(share) + 4, "text-anchor": "end" }, `${share}`),
      draw("text", { x: x(share), y: y(0) + 14, "text-anchor": "middle" }, `${share}`),
    );
  }
  for (const bin of found.bins) {
    const width = x(bin.high) - x(bin.low) - 2;
    const title = `${plural(bin.count, "prediction")}: mean confidence ${percent(bin.confidence)}, right ${percent(bin.accuracy)}`;
    parts.push(draw("rect", {
      class: "bin", x: x(bin.low) + 1, y: y(bin.accuracy), width, height: y(0) - y(bin.accuracy),
      fill: "var(--expert)", opacity: 0.25 + 0.6 * (bin.count / most),
    }, draw("title", {}, title)));
    parts.push(draw("circle", { cx: x(bin.confidence), cy: y(bin.accuracy), r: 3.5, fill: "var(--mark)" }, draw("title", {}, title)));
  }
  parts.push(
    draw("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), stroke: "var(--ink)", "stroke-dasharray": "4 4" }),
    draw("text", { x: x(0.5), y: size - 4, "text-anchor": "middle" }, "confidence"),
    draw("text", { transform: `translate(9 ${y(0.5)}) rotate(-90)`, "text-anchor": "middle" }, "share that was right"),
  );
  const image = draw("svg", { class: "chart reliability", viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": "Reliability diagram" }, ...parts);
  image.style.maxWidth = "340px";
  at("reliability").append(
    make("p", { class: "about" }, `${found.source}. Expected calibration error `, make("b", {}, decimal(found.ece, 3)), ` over ${plural(found.count, "prediction")}.`),
    image,
    make("p", { class: "hint" }, "On the dashed line confidence is right; below it is too high. Bars of fuller colour hold more predictions, dots are their mean confidence."),
  );
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  at("theme").textContent = name === "dark" ? "Light" : "Dark";
  at("theme").setAttribute("aria-label", `switch to ${name === "dark" ? "light" : "dark"} colours`);
}

function recolour() {
  colourText();
  if (columns.length) colourLens();
}

function relaw() {
  showNumbers();
  recolour();
  if (positions.length) showSeries();
}

/** What stands after # in the address: theme=dark, colour=entropy, token=12. */
function wishes() {
  return new URLSearchParams(location.hash.slice(1));
}

function begin() {
  const asked = wishes();
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  setTheme(["light", "dark"].includes(asked.get("theme")) ? asked.get("theme") : dark.matches ? "dark" : "light");
  const pairs = positions.filter((p) => p.pair);
  const differ = pairs.some((p) => JSON.stringify(p.pair.sampled) !== JSON.stringify(p.pair.raw));
  // Point masses, as in greedy decoding, say little: yes or no.
  if (differ && pairs.every((p) => [0, 1].includes(p.pair.sampled.total_variation))) state.law = "raw";
  if (asked.get("colour") in MODES) state.colour = asked.get("colour");
  const modes = Object.entries(MODES).filter(([mode]) =>
    mode === "acceptance" ? pairs.length : mode === "origin" ? data.generation : true);
  showHead();
  choices(at("colour"), "colour", modes.map(([mode, { label, title }]) => [mode, label, title]), recolour);
  at("law").hidden = !differ;
  choices(at("law"), "law", [["sampled", "as sampled"], ["raw", "at temperature 1"]], relaw);
  choices(at("lens-colour"), "lens", [["top", "the token in the cell"], ["token", "the token that came"]], recolour);
  showText();
  showLens();
  showAcceptance();
  showReliability();
  watchers.push(showPanel, (index) => crosses.forEach((cross) => cross(index)));
  at("series-section").hidden = !positions.some((p) => p.expert);
  relaw();
  // Where the expert was surprised most there is most to see.
  const surprise = positions.map((p) => (p.expert ? p.expert.probability : 2));
  const wanted = positions.findIndex((p) => `${p.index}` === asked.get("token"));
  if (positions.length) select(wanted >= 0 ? wanted : surprise.indexOf(Math.min(...surprise)), wanted >= 0);
  at("theme").addEventListener("click", () => {
    setTheme(theme() === "dark" ? "light" : "dark");
    recolour();
  });
  dark.addEventListener("change", (event) => {
    setTheme(event.matches ? "dark" : "light");
    recolour();
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && letGo());
  let width = at("series").clientWidth;
  new ResizeObserver(() => {
    if (at("series").clientWidth !== width && positions.length) {
      width = at("series").clientWidth;
      showSeries();
    }
  }).observe(at("series"));
}

begin();
