const rows = DATA.layers.map((row, key) => ({ ...row, key, error: row.error === null ? NaN : row.error, mean: row.mean === null ? NaN : row.mean }));
const apart = (row) => !(row.error <= DATA.tolerance);
const parting = rows.find((row) => row.node === DATA.parting);
const worst = rows.reduce((most, row) => (!(row.error <= most.error) ? row : most), rows[0]);
const tone = (row) => (apart(row) ? "var(--bad)" : "var(--accent)");
const describe = (row) => [row.node, `${row.operator}, ${row.shape.join(" × ")}`, row.layer === row.node ? null : `beside ${row.layer}`,
  `largest error ${power(row.error)} of the largest value`, `root mean square ${power(row.mean)}`].filter(Boolean);

function errors(width, height) {
  const left = 52, right = width - 8, top = 14, bottom = height - 28;
  const known = rows.map((row) => row.error).filter((error) => error > 0 && Number.isFinite(error));
  const low = Math.min(1e-8, ...known), high = Math.max(1e-1, DATA.tolerance * 10, ...known) * 2;
  const y = (value) => bottom - ((bottom - top) * Math.log(Math.max(value, low) / low)) / Math.log(high / low);
  const step = (right - left) / Math.max(rows.length, 1);
  const powers = decades(low, high), every = Math.ceil(powers.length / 8);
  return [
    powers.filter((_, index) => index % every === 0).map((value) => [s("line", { class: "axis", x1: left, x2: right, y1: y(value), y2: y(value) }),
      s("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toExponential(0))]),
    rows.map((row, index) => {
      const at = Number.isFinite(row.error) ? y(row.error) : top;
      return s("rect", { ...lights(row.key), class: "mark", x: left + index * step + step * 0.12, width: Math.max(1, step * 0.76), y: at, height: Math.max(2, bottom - at), rx: Math.min(3, step / 4), fill: tone(row), "fill-opacity": 0.85, tip: () => describe(row) });
    }),
    s("line", { x1: left, x2: right, y1: y(DATA.tolerance), y2: y(DATA.tolerance), stroke: "var(--ink)", "stroke-dasharray": "6 4" }),
    s("text", { x: right, y: y(DATA.tolerance) - 5, "text-anchor": "end", style: "paint-order:stroke;stroke:var(--card);stroke-width:4px" }, `tolerance ${DATA.tolerance}`),
    parting ? s("text", { x: Math.min(right - 60, Math.max(left + 60, left + (parting.key + 0.5) * step)), y: top - 3, "text-anchor": "middle", style: "fill:var(--bad);font-weight:600" }, "they part here") : null,
    s("text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, "layers, in order"),
  ];
}

function picture(record, stops, caption) {
  const canvas = h("canvas", { width: record.width, height: record.height });
  const raw = atob(record.cells), context = canvas.getContext("2d"), image = context.createImageData(record.width, record.height);
  for (let i = 0; i < raw.length; i++) {
    const at = (raw.charCodeAt(i) / 255) * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(at)), part = at - low;
    for (let channel = 0; channel < 3; channel++) image.data[4 * i + channel] = stops[low][channel] * (1 - part) + stops[low + 1][channel] * part;
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return h("figure", {}, canvas, h("figcaption", {}, caption));
}
const COOL = [[24, 30, 66], [36, 94, 152], [58, 160, 150], [172, 205, 110], [250, 240, 170]];
const HOT = [[18, 18, 24], [110, 24, 44], [214, 74, 40], [252, 190, 90], [255, 252, 230]];
function maps() {
  const found = DATA.maps;
  const where = `image ${found.image}${found.channel === null ? "" : `, channel ${found.channel}`}`;
  return h("div", { class: "maps" },
    picture(found.first, COOL, `first model: ${power(found.low)} to ${power(found.high)}`),
    picture(found.second, COOL, "second model, the same colours"),
    picture(found.difference, HOT, `difference, 0 to ${power(found.largest)}; ${where}`));
}

PAGE.append(
  heading("Two models, layer by layer", `${DATA.first} beside ${DATA.second}, ${DATA.images} image${DATA.images === 1 ? "" : "s"}`),
  figures(
    figure("they part at", parting ? parting.node : "no layer", "", parting ? `layer ${parting.key + 1} of ${rows.length}` : `${rows.length} layers within ${DATA.tolerance}`),
    worst ? figure("largest error", power(worst.error), "", worst.node) : null,
    DATA.outputs.map((output) => figure(`output ${output.name}`, power(output.error === null ? NaN : output.error), "", `same class in ${percent(output.same_class)}`)),
  ),
  rows.length ? card("Error by layer", "Largest difference as a part of the layer's largest value, on a scale of powers of ten.", drawn((width) => Math.max(240, Math.min(340, width * 0.45)), errors)) : card("Error by layer", "The layers of the first model cannot be seen, or none is the same as one of the second."),
  DATA.maps ? card(`${DATA.maps.node}, where they differ most`, `Layer ${DATA.maps.layer}: the channel with the largest difference.`, maps()) : null,
  rows.length ? card("Layers", null, table([
    { name: "#", value: (row) => row.key, text: (row) => String(row.key + 1), right: true },
    { name: "node", value: (row) => row.node, text: (row) => row.node, wide: true },
    { name: "largest error", value: (row) => row.error, right: true, text: (row) => power(row.error), cell: (row) => h("span", { class: apart(row) ? "warn" : "fine" }, power(row.error)) },
    { name: "root mean square", value: (row) => row.mean, text: (row) => power(row.mean), right: true },
    { name: "operator", value: (row) => row.operator, text: (row) => row.operator },
    { name: "shape", value: (row) => row.shape.reduce((a, b) => a * b, 1), text: (row) => row.shape.join(" × "), right: true },
    { name: "layer", value: (row) => row.layer, text: (row) => row.layer, wide: true },
  ], rows, "#", false)) : null,
  foot(),
);
for (const row of document.querySelectorAll("tbody tr")) row.addEventListener("pointerenter", () => light(row.dataset.key));
