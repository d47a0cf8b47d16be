// The text, token by token, in colours.

const MODES = {
  probability: {
    label: "probability",
    title: "probability of the token that came, under the expert at temperature 1",
    share: (p) => p.expert && Math.min(1, -(p.expert.log_prob ?? -Infinity) / Math.log(1000)),
    legend: () => scaleOf("surprise", "100 %", "0.1 % and less", "Probability of the token under the expert (logarithmic)"),
  },
  entropy: {
    label: "entropy",
    title: "how undecided the expert is",
    share: (p) => p.expert && p.expert.entropy / mostEntropy,
    legend: () => scaleOf("surprise", "0", `${mostEntropy.toFixed(1)} nats`, "Entropy of the expert"),
  },
  acceptance: {
    label: "acceptance",
    title: "probability with which the rule lets the token stand, had it been drafted",
    share: (p) => (laws(p) ? 1 - (laws(p).acceptance ?? 0) : null),
    legend: () => scaleOf("surprise", "100 %", "0 %", "Acceptance of the token, had it been drafted"),
  },
  origin: { label: "origin", title: "where the token comes from", legend: originLegend },
};

const ORIGINS = {
  drafted: "drafted",
  forced: "forced by a constraint",
  deferred: "drafted, expert asked",
  replacement: "replacement",
  bonus: "bonus",
};

const mostEntropy = Math.max(1e-9, ...positions.map((p) => (p.expert ? p.expert.entropy : 0)));
// Without a tokenizer tokens are ids, which stand apart.
const textless = positions.every((p) => p.text === "");
const tokens = [];

function originLegend() {
  const used = Object.keys(ORIGINS).filter((origin) => positions.some((p) => p.origin === origin));
  const swatch = (origin) => {
    const element = make("span", { class: `swatch token ${origin}` }, ORIGINS[origin]);
    element.style.background = `var(--${origin})`;
    return element;
  };
  const prompt = positions.some((p) => p.origin === "prompt") ? make("span", {}, "prompt: no colour") : null;
  return make("div", { class: "scale" }, "Where it comes from:", ...used.map(swatch), prompt);
}

function colourText() {
  const mode = MODES[state.colour];
  at("text").classList.toggle("origins", state.colour === "origin");
  positions.forEach((position, index) => {
    const element = tokens[index];
    element.style.background = element.style.color = "";
    if (state.colour === "origin") {
      if (position.origin !== "prompt") element.style.background = `var(--${position.origin})`;
      return;
    }
    const share = mode.share(position);
    if (known(share)) paint(element, "surprise", share);
  });
  at("legend").replaceChildren(mode.legend());
}

/** A token in the running text: ends of lines are marked and made. */
function runningToken(position, index) {
  const whole = position.text !== "";
  const element = make("span", {
    class: `token ${position.origin}${whole ? "" : textless ? " id" : " part"}`,
    role: "option",
    tabindex: -1,
    "data-index": index,
    "aria-label": `${visible(position.name)}, token ${position.index}`,
  });
  const parts = (whole ? position.text : visible(position.name)).split("\n");
  parts.forEach((part, number) => {
    if (number > 0) element.append(make("span", { class: "sign" }, "\u23ce"), "\n");
    element.append(part);
  });
  return element;
}

function showText() {
  const box = at("text");
  if (positions.length && positions[0].index > 0) box.append(make("span", { class: "turn" }, `${plural(positions[0].index, "token")} before`));
  positions.forEach((position, index) => {
    const before = positions[index - 1];
    if (position.origin !== "prompt" && (!before || before.origin === "prompt")) {
      box.append(make("span", { class: "turn" }, "generated"));
    }
    tokens.push(runningToken(position, index));
    box.append(tokens[index]);
  });
  const indexOf = (event) => {
    const token = event.target.closest(".token");
    return token ? Number(token.dataset.index) : null;
  };
  box.addEventListener("pointerover", (event) => indexOf(event) !== null && select(indexOf(event)));
  box.addEventListener("focusin", (event) => indexOf(event) !== null && select(indexOf(event)));
  box.addEventListener("click", (event) => indexOf(event) !== null && select(indexOf(event), true));
  box.addEventListener("keydown", moveByKeys);
  let begun = false;
  watchers.push((index) => {
    // The page begins at the beginning, wherever there is most to see.
    if (begun && !box.matches(":hover")) scrollTo(box, tokens[index]);
    begun = true;
    tokens.forEach((token, number) => {
      token.classList.toggle("current", number === index);
      token.classList.toggle("pinned", number === state.pinned);
      token.setAttribute("aria-selected", number === index);
      token.tabIndex = number === index ? 0 : -1;
    });
  });
}

/** Scrolls the text, and not the page, to a token that is hidden. */
function scrollTo(box, token) {
  const top = token.offsetTop;
  if (top < box.scrollTop || top + token.offsetHeight > box.scrollTop + box.clientHeight) {
    box.scrollTop = top - box.clientHeight / 2;
  }
}

function moveByKeys(event) {
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
  if (event.key === "Enter" || event.key === " ") {
    select(state.current, true);
  } else if (event.key in steps) {
    state.pinned = null;
    const to = Math.min(positions.length - 1, Math.max(0, state.current + steps[event.key]));
    tokens[to].focus();
    select(to);
  } else {
    return;
  }
  event.preventDefault();
}
