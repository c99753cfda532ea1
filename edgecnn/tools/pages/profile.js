const steps = DATA.steps.map((step, key) => ({ ...step, key, at: DATA.steps.slice(0, key).reduce((sum, one) => sum + one.median_ms, 0) }));
const stepCount = Math.max(1, steps.filter((step) => step.operator !== "call").length);
const macs = steps.reduce((sum, step) => sum + step.macs, 0);
const moved = steps.reduce((sum, step) => sum + step.bytes, 0);
const rate = (2e-6 * macs) / DATA.total_ms;
const bare = (kernel) => kernel.replace(new RegExp(` ${DATA.instruction_set}$`), "");
const colour = (step) => (step.operator === "call" ? "var(--faint)" : ramp(step.efficiency));
const describe = (step) => step.operator === "call" ? [
  step.node, `${ms(step.median_ms)}, ${percent(step.share)} of the call: outside the steps, and in waking the threads`,
] : [
  step.node, `${step.operator} → ${step.shape.join(" × ")}`, `${step.kernel}`,
  `${ms(step.median_ms)} (${ms(step.low_ms)} to ${ms(step.high_ms)}), ${percent(step.share)} of the call`,
  `${digits(step.gflops)} GFLOP/s, ${percent(step.share_of_peak)} of the peak`,
  `${digits(step.bandwidth)} GB/s; ${bytes(step.bytes)} moved, ${bytes(step.weight_bytes)} of them weights`,
  `efficiency ${percent(step.efficiency)}`,
];

// The network as a bar: width is time, colour is efficiency.
function timeBar() {
  // Parts of a thousand: flex items whose numbers sum to less than one leave room.
  const whole = steps.reduce((sum, step) => sum + step.median_ms, 0) || 1;
  const width = (step) => (1000 * step.median_ms) / whole + 1e-6;
  const bar = h("div", { class: "bar", role: "img", "aria-label": "steps by time" },
    steps.map((step) => h("div", { ...lights(step.key), style: `flex:${width(step)} 1 0;background:${colour(step)}`, tip: () => describe(step) },
      step.share > 0.045 ? h("span", {}, step.node, h("br"), ms(step.median_ms)) : null)));
  return [bar, h("div", { class: "legend" }, "efficiency 0", h("div", { class: "ramp" }), "100 % of what peak and cache allow",
    h("span", {}, h("i", { style: "background:var(--faint)" }), "entering and leaving the call"))];
}

function roofline(width, height) {
  const left = 44, right = width - 12, top = 14, bottom = height - 36;
  const shown = steps.filter((step) => step.macs > 0 && step.bytes > 0);
  const intensity = (step) => (2 * step.macs) / step.bytes;
  const xs = [...shown.map(intensity), DATA.peak_gflops / DATA.bandwidth];
  const [x0, x1] = [Math.min(0.5, ...xs) / 1.3, Math.max(...xs) * 2.5];
  const y1 = 2 * Math.max(DATA.peak_gflops, ...shown.map((step) => step.gflops));
  const y0 = Math.max(y1 / 1e5, Math.min(DATA.peak_gflops / 300, ...shown.map((step) => Math.max(step.gflops, 1e-3))) / 1.5);
  const x = (value) => left + ((right - left) * Math.log(value / x0)) / Math.log(x1 / x0);
  const y = (value) => bottom - ((bottom - top) * Math.log(Math.max(value, y0) / y0)) / Math.log(y1 / y0);
  const roof = (bandwidth) => {
    const ridge = Math.max(x0, DATA.peak_gflops / bandwidth);
    const start = Math.max(x0, y0 / bandwidth);
    return `M${x(start)},${y(start * bandwidth)} L${x(ridge)},${y(Math.min(DATA.peak_gflops, ridge * bandwidth))} L${right},${y(DATA.peak_gflops)}`;
  };
  const slope = (bandwidth, name, up) => {
    const start = Math.max(x0, y0 / bandwidth) * 1.35;
    const angle = (-Math.atan2((bottom - top) / Math.log(y1 / y0), (right - left) / Math.log(x1 / x0)) * 180) / Math.PI;
    const at = [x(start), y(start * bandwidth) + (up ? -6 : 14)];
    return s("text", { x: at[0], y: at[1], transform: `rotate(${angle} ${at[0]} ${at[1]})` }, `${name} ${digits(bandwidth)} GB/s`);
  };
  return [
    decades(x0, x1).map((value) => [s("line", { class: "axis", x1: x(value), x2: x(value), y1: top, y2: bottom }),
      s("text", { x: x(value), y: bottom + 15, "text-anchor": "middle" }, value)]),
    decades(y0, y1).map((value) => [s("line", { class: "axis", x1: left, x2: right, y1: y(value), y2: y(value) }),
      s("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value)]),
    s("text", { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }, "FLOP for each byte moved"),
    s("text", { x: 2, y: 8 }, "GFLOP/s"),
    s("path", { d: roof(DATA.bandwidth), fill: "none", stroke: "var(--faint)", "stroke-width": 1.6, "stroke-dasharray": "5 4" }),
    s("path", { d: roof(DATA.cache_bandwidth), fill: "none", stroke: "var(--soft)", "stroke-width": 2 }),
    slope(DATA.cache_bandwidth, "cache", true), slope(DATA.bandwidth, "memory", false),
    s("text", { x: right, y: y(DATA.peak_gflops) - 6, "text-anchor": "end" }, `peak ${digits(DATA.peak_gflops)} GFLOP/s`),
    shown.slice().sort((a, b) => b.median_ms - a.median_ms).map((step) => s("circle", {
      ...lights(step.key), class: "mark", cx: x(intensity(step)), cy: y(step.gflops), r: 3 + 16 * Math.sqrt(step.share),
      fill: ramp(step.efficiency), "fill-opacity": 0.82, stroke: "var(--card)", tip: () => describe(step) })),
  ];
}

function arena(width, height) {
  const left = 58, right = width - 8, top = 10, bottom = height - 34;
  const total = Math.max(DATA.arena, 1);
  const x = (step) => left + ((right - left) * step) / stepCount;
  const y = (value) => bottom - ((bottom - top) * value) / total;
  const names = (tensors) => (tensors.length > 4 ? [...tensors.slice(0, 4), `and ${tensors.length - 4} more`] : tensors);
  return [
    ticks(total, 5).map((value) => [s("line", { class: "axis", x1: left, x2: right, y1: y(value), y2: y(value) }),
      s("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, bytes(value))]),
    ticks(stepCount, Math.max(2, Math.min(10, width / 80))).filter(Number.isInteger).map((value) =>
      s("text", { x: x(value), y: bottom + 15, "text-anchor": "middle" }, value)),
    s("text", { x: (left + right) / 2, y: height - 3, "text-anchor": "middle" }, "step"),
    DATA.placements.map((place, index) => s("rect", {
      class: "mark", x: x(place.first), y: y(place.offset + place.size), width: Math.max(2, x(place.last + 1) - x(place.first)),
      height: Math.max(1, y(place.offset) - y(place.offset + place.size)), rx: 2,
      fill: `oklch(0.68 0.12 ${(index * 67) % 360})`, "fill-opacity": 0.75, stroke: "var(--card)", "stroke-width": 0.8,
      tip: () => [names(place.tensors)[0], ...names(place.tensors).slice(1), `${bytes(place.size)} at ${place.offset.toLocaleString("en")}`,
        `from ${steps[place.first] ? steps[place.first].node : "the start"} to ${steps[place.last] ? steps[place.last].node : "the end"}`] })),
  ];
}

PAGE.append(
  heading(DATA.model || "profile", `${DATA.instruction_set}, ${DATA.threads} thread${DATA.threads === 1 ? "" : "s"}, medians of ${DATA.runs} runs, one image`),
  figures(
    figure("one image takes", ...ms(DATA.total_ms).split(" "), `${digits(1000 / DATA.total_ms)} images a second`),
    figure("computes", digits(rate), "GFLOP/s", `${percent(rate / DATA.peak_gflops)} of the ${digits(DATA.peak_gflops)} measured`),
    figure("multiply-adds", ...count(macs).split(" "), `${stepCount} steps`),
    figure("moves", ...bytes(moved).split(" "), `${digits((1e-6 * moved) / DATA.total_ms)} GB/s; memory ${digits(DATA.bandwidth)}`),
    figure("weights", ...bytes(DATA.memory.weights || 0).split(" "), DATA.memory.file ? `packed; file ${bytes(DATA.memory.file)}` : "packed"),
    figure("arena", ...bytes(DATA.arena).split(" "), `${bytes(DATA.memory.scratch || 0)} scratch a thread`),
  ),
  card("Where the time goes", "Each piece is a step of the network, in order. As wide as it takes time; red pieces use little of what this machine can, blue ones nearly all.", timeBar()),
  h("div", { class: "pair" },
    card("Roofline", "Under the slopes bytes are the limit, under the flat roof arithmetic. Circles are as large as their time. Above the roof: an algorithm of fewer multiplications.", drawn((width) => Math.max(270, Math.min(400, width * 0.68)), roofline)),
    card("The arena over time", "Every intermediate tensor of one image: when it lives, and where. What is free again is used again.",
      DATA.placements.length ? drawn((width) => Math.max(270, Math.min(400, width * 0.68)), arena) : h("p", { class: "soft" }, "No tensor needs a place: outputs are computed where the caller wants them."))),
  card("Steps", null, table([
    { name: "#", value: (row) => row.key, text: (row) => String(row.key), right: true },
    { name: "step", value: (row) => row.node, text: (row) => row.node, wide: true },
    { name: "time", value: (row) => row.median_ms, right: true, text: (row) => ms(row.median_ms), cell: (row) => [ms(row.median_ms), meter(row.median_ms / Math.max(...steps.map((one) => one.median_ms)), colour(row))] },
    { name: "share", value: (row) => row.share, text: (row) => percent(row.share), right: true },
    { name: "operator", value: (row) => row.operator, text: (row) => row.operator, wide: true },
    { name: "10–90 %", value: (row) => row.high_ms - row.low_ms, text: (row) => `${ms(row.low_ms)} – ${ms(row.high_ms)}`, right: true },
    { name: "efficiency", value: (row) => row.efficiency, text: (row) => percent(row.efficiency), right: true },
    { name: "MACs", value: (row) => row.macs, text: (row) => count(row.macs), right: true },
    { name: "GFLOP/s", value: (row) => row.gflops, text: (row) => digits(row.gflops), right: true },
    { name: "of peak", value: (row) => row.share_of_peak, text: (row) => percent(row.share_of_peak), right: true },
    { name: "moved", value: (row) => row.bytes, text: (row) => bytes(row.bytes), right: true },
    { name: "GB/s", value: (row) => row.bandwidth, text: (row) => digits(row.bandwidth), right: true },
    { name: "of memory", value: (row) => row.share_of_bandwidth, text: (row) => percent(row.share_of_bandwidth), right: true },
    { name: "kernel", value: (row) => row.kernel, text: (row) => bare(row.kernel), wide: true },
    { name: "set", value: (row) => row.instruction_set, text: (row) => row.instruction_set },
    { name: "output", value: (row) => row.shape.reduce((a, b) => a * b, 1), text: (row) => row.shape.join(" × "), right: true },
  ], steps, "time", true)),
  foot(),
);
for (const row of document.querySelectorAll("tbody tr")) row.addEventListener("pointerenter", () => light(row.dataset.key));
