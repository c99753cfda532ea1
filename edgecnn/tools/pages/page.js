"use strict";
// What all pages share. Text enters the page as text nodes and attributes only: names come from files of strangers.

const DATA = JSON.parse(document.getElementById("data").textContent);
const PAGE = document.getElementById("page");
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "tip") hint(node, value);
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(3)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Numbers for people ------------------------------------------------------------------------------------------------
const finite = (x) => typeof x === "number" && Number.isFinite(x);
function digits(x, count = 3) {
  if (!finite(x)) return "–";
  if (x === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(x)));
  if (size >= 6) return x.toExponential(1);
  return x.toFixed(Math.max(0, count - 1 - size));
}
const ms = (x) => (x >= 0.1 ? [digits(x), "ms"] : [digits(1000 * x), "µs"]).join(" ");
function scaled(x, units, base = 1000) {
  if (!finite(x)) return ["unknown", ""];
  let index = 0;
  while (Math.abs(x) >= base && index < units.length - 1) { x /= base; index++; }
  return [index ? digits(x) : String(x), units[index]];
}
const bytes = (x) => scaled(x, ["B", "kB", "MB", "GB"]).join(" ");
const count = (x) => scaled(x, ["", "k", "M", "G", "T"]).join(" ").trim();
const percent = (x) => (finite(x) ? `${(100 * x).toFixed(x && x < 0.0995 ? 1 : 0)} %` : "–");
const power = (x) => (finite(x) ? (x === 0 ? "0" : x.toExponential(1)) : "NaN");

// Colours -----------------------------------------------------------------------------------------------------------
function ramp(share) {
  const at = 4 * Math.min(1, Math.max(0, finite(share) ? share : 0));
  const low = Math.min(3, Math.floor(at));
  return `color-mix(in oklab, var(--e${low}), var(--e${low + 1}) ${Math.round(100 * (at - low))}%)`;
}

// Hints beside the pointer, or under the finger ---------------------------------------------------------------------
const tip = h("div", { id: "tip", role: "status" });
document.body.append(tip);
function hint(node, lines) {
  const show = (event) => {
    const given = typeof lines === "function" ? lines() : lines;
    tip.replaceChildren(...given.map((line, index) => h("div", {}, index ? line : h("b", {}, line))));
    tip.classList.add("on");
    const box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, innerWidth - box.width - 8);
    const y = event.clientY + box.height + 22 > innerHeight ? event.clientY - box.height - 12 : event.clientY + 16;
    tip.style.left = `${Math.max(8, x)}px`;
    tip.style.top = `${Math.max(8, y)}px`;
  };
  node.addEventListener("pointermove", show);
  node.addEventListener("pointerdown", show);
  node.addEventListener("pointerleave", () => tip.classList.remove("on"));
}
addEventListener("scroll", () => tip.classList.remove("on"), { passive: true, capture: true });

// Parts -------------------------------------------------------------------------------------------------------------
function heading(title, under) {
  const themes = ["", "dark", "light"];
  let at = 0;
  const theme = h("button", { title: "Colours: as the system says, dark, light" }, "◐ colours");
  theme.addEventListener("click", () => {
    at = (at + 1) % themes.length;
    document.documentElement.dataset.theme = themes[at];
  });
  return h("header", {}, h("div", {}, h("h1", {}, title), h("p", { class: "soft" }, under)), theme);
}
const figure = (name, value, unit, more) =>
  h("div", { class: "figure" }, h("div", { class: "name" }, name),
    h("div", { class: "value" }, value, unit ? h("small", {}, unit) : null), h("div", { class: "more" }, more || "\u00a0"));
const figures = (...given) => h("div", { class: "figures" }, given);
const card = (title, note, ...content) =>
  h("section", { class: "card" }, h("h2", {}, title), note ? h("p", { class: "note" }, note) : null, content);

// A table whose columns sort. columns: {name, value(row), text(row), right, cell(row)}; rows may carry a key to be found by.
function table(columns, rows, sortBy, descending) {
  const body = h("tbody");
  const heads = columns.map((column) => h("th", { class: column.right ? "right" : null, scope: "col" },
    h("button", { type: "button", onclick: () => sort(column, column === sorted ? !down : Boolean(column.right)) }, column.name)));
  let sorted = null, down = false;
  const made = rows.map((row) => {
    const line = h("tr", { "data-key": row.key }, columns.map((column) =>
      h("td", { class: [column.right ? "right" : "", column.wide ? "name" : ""].join(" ").trim() || null,
                title: column.wide ? column.text(row) : null },
        column.cell ? column.cell(row) : column.text(row))));
    return { row, line };
  });
  function sort(column, downwards) {
    sorted = column; down = downwards;
    const rank = (x) => (typeof x === "number" && !Number.isFinite(x) ? -Infinity : x);
    made.sort((a, b) => {
      const [x, y] = [rank(column.value(a.row)), rank(column.value(b.row))];
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
    });
    heads.forEach((head, index) => {
      if (columns[index] === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    body.replaceChildren(...made.map((one) => one.line));
  }
  const first = columns.find((column) => column.name === sortBy);
  if (first) sort(first, Boolean(descending));
  else body.replaceChildren(...made.map((one) => one.line));
  const search = h("input", { type: "search", placeholder: "find a row", "aria-label": "find a row" });
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase();
    for (const one of made) one.line.hidden = !one.line.textContent.toLowerCase().includes(wanted);
  });
  return h("div", {}, rows.length > 12 ? h("div", { class: "tools" }, search) : null,
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, heads)), body)));
}
const meter = (share, colour) =>
  h("span", { class: "meter" }, h("i", { style: `width:${Math.min(100, 100 * Math.max(0, share))}%;background:${colour}` }));

// Marks in all pictures that stand for the same thing light up together.
function light(key) {
  for (const node of document.querySelectorAll(".on:not(#tip)")) node.classList.remove("on");
  for (const node of document.querySelectorAll("[data-key]")) {
    if (node.dataset.key === String(key)) node.classList.add("on");
  }
}
const lights = (key) => ({ "data-key": key, onpointerenter: () => light(key), onclick: () => light(key) });

// A picture as wide as its place: drawn again when that changes, so that text keeps its size.
function drawn(height, draw) {
  const place = h("div");
  let width = 0;
  const redraw = () => {
    const now = Math.round(place.clientWidth);
    if (now > 0 && now !== width) {
      width = now;
      const tall = typeof height === "function" ? height(width) : height;
      place.replaceChildren(s("svg", { viewBox: `0 0 ${width} ${tall}`, width, height: tall, role: "img" }, draw(width, tall)));
    }
  };
  // In the next frame: a drawing that changes its own place's size would be told of it at once.
  new ResizeObserver(() => requestAnimationFrame(redraw)).observe(place);
  return place;
}
function decades(low, high) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.log10(high) + 1e-9; power++) found.push(10 ** power);
  return found;
}
function ticks(most, about) {
  if (!(most > 0)) return [0];
  const rough = most / about, unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * unit >= rough) * unit;
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, index) => index * step);
}
const foot = () => h("footer", {}, `Made by edgecnn ${DATA.edgecnn}${DATA.machine ? ` on ${DATA.machine}` : ""}. This page holds all it shows and asks for nothing from anywhere.`);
