"use strict";
// What all parts of the page use: the data, elements, numbers, colours, and which token is looked at.

const data = JSON.parse(document.getElementById("data").textContent);
const positions = data.positions;
const state = { current: 0, pinned: null, colour: "probability", law: "sampled", lens: "top" };
const watchers = [];

const at = (id) => document.getElementById(id);

function make(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A token as it can be seen: spaces, ends of lines and control characters have signs. */
function visible(name) {
  const signs = name.replace(/\r?\n/g, "\u23ce").replace(/\t/g, "\u21e5").replace(/ /g, "\u2423");
  return signs.replace(/[\u0000-\u001f]/g, (control) => String.fromCharCode(0x2400 + control.charCodeAt(0)));
}

const known = (value) => value !== null && value !== undefined;

function percent(value) {
  if (!known(value)) return "\u2013";
  const share = value * 100;
  if (share > 0 && share < 0.01) return "< 0.01 %";
  return share.toFixed(share < 1 ? 2 : 1) + " %";
}

function decimal(value, digits) {
  return known(value) ? value.toFixed(digits) : "\u2013";
}

const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

// Colours are mixed of two: the scale stays one of lightness, which every eye can tell.
const ENDS = {
  light: { surprise: [[255, 255, 255], [196, 85, 0]], sure: [[255, 255, 255], [10, 72, 140]] },
  dark: { surprise: [[30, 33, 39], [232, 128, 40]], sure: [[30, 33, 39], [110, 180, 245]] },
};

const theme = () => document.documentElement.dataset.theme;

function mix(scale, share) {
  const [from, to] = ENDS[theme()][scale];
  const part = Math.min(1, Math.max(0, share));
  return from.map((value, i) => Math.round(value + (to[i] - value) * part));
}

/** Black or white, whichever can be read better on a colour. */
function inkOn(rgb) {
  const linear = rgb.map((value) => {
    const c = value / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  const light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return 1.05 / (light + 0.05) > (light + 0.05) / 0.05 ? "#ffffff" : "#000000";
}

function paint(element, scale, share) {
  const rgb = mix(scale, share);
  element.style.background = `rgb(${rgb.join(" ")})`;
  element.style.color = inkOn(rgb);
}

function ramp(scale) {
  const stops = [0, 0.25, 0.5, 0.75, 1].map((share) => `rgb(${mix(scale, share).join(" ")})`);
  const element = make("span", { class: "ramp" });
  element.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  return element;
}

function scaleOf(scale, left, right, title) {
  const ends = make("span", { class: "ends" }, make("span", {}, left), ramp(scale), make("span", {}, right));
  return make("div", { class: "scale" }, `${title}:`, ends);
}

/** Looks at a token. What is pinned stays until it is let go. */
function select(index, pin) {
  if (!positions[index] || (state.pinned !== null && !pin)) return;
  if (pin) state.pinned = state.pinned === index ? null : index;
  state.current = index;
  watchers.forEach((watcher) => watcher(index));
}

function letGo() {
  state.pinned = null;
  watchers.forEach((watcher) => watcher(state.current));
}

/** The comparison of both laws at a position, as the page is set. */
const laws = (position) => position.pair && position.pair[state.law];

/** Buttons of which one is chosen. */
function choices(fieldset, key, options, changed) {
  for (const [value, label, title] of options) {
    const input = make("input", { type: "radio", name: key, value, checked: state[key] === value });
    input.addEventListener("change", () => {
      state[key] = value;
      changed();
    });
    fieldset.append(make("label", { title }, input, label));
  }
}
