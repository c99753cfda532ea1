const FAMILIES = {
  conv: "--f-conv", conv_transpose: "--f-conv", depthwise_conv: "--f-depth", dense: "--f-dense", matmul: "--f-dense",
  max_pool: "--f-pool", average_pool: "--f-pool", reduce_mean: "--f-pool", reduce_max: "--f-pool", reduce_sum: "--f-pool", reduce_min: "--f-pool",
  batch_normalization: "--f-norm", layer_normalization: "--f-norm", group_normalization: "--f-norm", local_response_normalization: "--f-norm",
  concatenate: "--f-shape", reshape: "--f-shape", transpose: "--f-shape", slice: "--f-shape", pad: "--f-shape", resize: "--f-shape", identity: "--f-shape",
  input: "--f-port", output: "--f-port",
};
const NAMES = { "--f-conv": "convolution", "--f-depth": "depthwise", "--f-dense": "dense", "--f-pool": "pooling", "--f-norm": "normalisation", "--f-shape": "shape", "--f-other": "element by element", "--f-port": "input, output" };
document.head.append(h("style", {}, `:root{--f-conv:#3b74c9;--f-depth:#2a9d8f;--f-dense:#8a5cc7;--f-pool:#c98a1b;--f-norm:#5f8a3a;--f-shape:#7d8795;--f-other:#c2557f;--f-port:#39414d}
  .graph rect{cursor:pointer} .graph .on rect{stroke:var(--ink);stroke-width:2.5} .graph text{pointer-events:none;fill:#fff} .graph .small{fill:rgb(255 255 255/.82);font-size:10px}
  .graph path{fill:none;stroke:var(--faint);stroke-width:1.3;opacity:.75} .graphbox{overflow:auto;max-height:660px;border:1px solid var(--line);border-radius:10px;background:var(--ground)}
  .graphbox svg{width:auto;margin:0 auto;overflow:visible;flex:none} .bands{display:flex;height:34px;border-radius:8px;overflow:hidden;gap:1px}
  .bands>div{color:#fff;font-size:12px;padding:7px 9px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis;min-width:0}
  .detail{min-height:3.2em;font-size:13px;margin-top:10px;color:var(--soft);overflow-wrap:anywhere} .detail b{color:var(--ink)}
  .tile svg{margin-top:8px} .passes li{margin:0 0 7px} .passes ul{margin:4px 0 14px;padding-left:20px;font-size:13px} .passes pre{font-size:12px;line-height:1.4;color:var(--soft);overflow-x:auto;margin:4px 0;white-space:pre-wrap} .passes li{overflow-wrap:anywhere} .passes h3{font-size:14px;margin:14px 0 0}
  .arrow{color:var(--faint);padding:0 5px}`));
const family = (operator) => FAMILIES[operator] || "--f-other";
const colour = (operator) => `var(${family(operator)})`;
const sizes = (shape) => shape.map((size, index) => (size === null ? (index ? "?" : "N") : size)).join(" × ");
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function tell(node) {
  return [node.name, `${node.operator} → ${sizes(node.shape)}`,
    node.parameters ? `${node.parameters.toLocaleString("en")} parameters, ${percent(node.sparsity)} zero, ${bytes(node.stored_bytes)} in the file` : null,
    node.macs ? `${count(node.macs)} MACs` : null, node.activation ? `activation ${node.activation}` : null,
    node.layers && node.layers.length ? `computes ${node.layers.join(", ")}` : null,
    node.attributes ? Object.entries(node.attributes).filter(([key]) => !key.startsWith("activation")).map(([key, value]) => `${key} ${value}`).join("; ") : null].filter(Boolean);
}

function graph() {
  const W = 158, H = 40, DX = 182, DY = 66;
  const [wide, layers] = DATA.drawing;
  const X = (x) => 12 + W / 2 + x * DX, Y = (layer) => 12 + H / 2 + layer * DY;
  const width = X(wide - 1) + W / 2 + 12, height = Y(Math.max(layers - 1, 0)) + H / 2 + 12;
  const detail = h("div", { class: "detail" }, "Point at a box, or touch it.");
  const show = (node) => { const [head, ...rest] = tell(node); detail.replaceChildren(h("b", {}, head), " — ", rest.join(" · ")); };
  const lines = DATA.lines.map((line) => {
    let path = "";
    line.forEach(([x, layer], index) => {
      const last = index === line.length - 1;
      const y = Y(layer) + (index === 0 ? H / 2 : last ? -H / 2 : 0);
      if (index === 0) path = `M${X(x)},${y}`;
      else {
        const [px, player] = line[index - 1];
        const py = Y(player) + (index === 1 ? H / 2 : 0), middle = (py + y) / 2;
        path += px === x ? ` L${X(x)},${y}` : ` C${X(px)},${middle} ${X(x)},${middle} ${X(x)},${y}`;
      }
    });
    return s("path", { d: path });
  });
  const boxes = DATA.nodes.map((node) => {
    const [x, layer] = node.place;
    return s("g", { "data-key": node.id, transform: `translate(${X(x) - W / 2},${Y(layer) - H / 2})`, tip: () => tell(node), onclick: () => { light(node.id); show(node); } , onpointerenter: () => show(node) },
      s("rect", { width: W, height: H, rx: 8, fill: colour(node.operator) }),
      s("text", { x: W / 2, y: 17, "text-anchor": "middle" }, cut(node.name.split("/").pop(), 24)),
      s("text", { x: W / 2, y: 31, "text-anchor": "middle", class: "small" }, cut(`${node.operator === "input" || node.operator === "output" ? node.operator : node.operator.replaceAll("_", " ")} ${sizes(node.shape.slice(1))}`, 30)));
  });
  const drawing = s("svg", { class: "graph", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "the graph" }, lines, boxes);
  let zoom = 1;
  const scale = (factor) => { zoom = Math.min(2, Math.max(0.15, zoom * factor)); drawing.setAttribute("width", width * zoom); drawing.setAttribute("height", height * zoom); };
  const box = h("div", { class: "graphbox" }, drawing);
  requestAnimationFrame(() => { box.scrollLeft = (box.scrollWidth - box.clientWidth) / 2; });
  const used = [...new Set(DATA.nodes.map((node) => family(node.operator)))];
  return [h("div", { class: "tools" }, h("button", { onclick: () => scale(1.3), title: "larger" }, "+"), h("button", { onclick: () => scale(1 / 1.3), title: "smaller" }, "−"),
    h("div", { class: "legend", style: "margin:0" }, used.map((name) => h("span", {}, h("i", { style: `background:var(${name})` }), NAMES[name])))), box, detail];
}

function encodings() {
  const total = DATA.encodings.reduce((sum, row) => sum + row.stored_bytes, 0) || 1;
  const tones = ["#3b74c9", "#2a9d8f", "#8a5cc7", "#c98a1b", "#5f8a3a", "#c2557f"];
  return [h("div", { class: "bands" }, DATA.encodings.map((row, index) => h("div", { style: `flex:${row.stored_bytes / total} 1 0;background:${tones[index % 6]}`,
      tip: [row.encoding, `${row.constants} constants, ${row.parameters.toLocaleString("en")} parameters`, `${bytes(row.stored_bytes)}; dense ${bytes(row.dense_bytes)}`] }, row.encoding))),
    h("div", { style: "height:10px" }),
    table([
      { name: "encoding", value: (row) => row.encoding, text: (row) => row.encoding },
      { name: "constants", value: (row) => row.constants, text: (row) => String(row.constants), right: true },
      { name: "parameters", value: (row) => row.parameters, text: (row) => row.parameters.toLocaleString("en"), right: true },
      { name: "in the file", value: (row) => row.stored_bytes, text: (row) => bytes(row.stored_bytes), right: true },
      { name: "dense", value: (row) => row.dense_bytes, text: (row) => bytes(row.dense_bytes), right: true },
    ], DATA.encodings, "in the file", true)];
}

function histogram(record) {
  return drawn(74, (width, height) => {
    const most = Math.max(...record.histogram, 1), bar = width / record.histogram.length, base = height - 14;
    // Heights by the square root: the few large weights stay visible beside the many small ones.
    return [record.histogram.map((value, index) => s("rect", { x: index * bar + 0.5, width: Math.max(0.5, bar - 1), y: base - (base - 2) * Math.sqrt(value / most), height: (base - 2) * Math.sqrt(value / most), fill: "var(--accent)",
        tip: [`${value.toLocaleString("en")} values`, `near ${power(record.largest * ((2 * index + 1) / record.histogram.length - 1))}`] })),
      s("line", { class: "axis", x1: 0, x2: width, y1: base, y2: base }),
      record.largest ? s("text", { x: 0, y: height - 2 }, `−${power(record.largest)}`) : null, s("text", { x: width / 2, y: height - 2, "text-anchor": "middle" }, "0"), s("text", { x: width, y: height - 2, "text-anchor": "end" }, record.largest ? power(record.largest) : "")];
  });
}
function zeros(record) {
  const { width, height, cells } = record.map;
  const canvas = h("canvas", { width, height, title: "zeros: rows are inputs (window and channels), columns are filters; the darker, the more of them are zero" });
  const raw = atob(cells), context = canvas.getContext("2d"), picture = context.createImageData(width, height);
  for (let i = 0; i < raw.length; i++) {
    const share = raw.charCodeAt(i) / 255;
    [122 - 96 * share, 174 - 140 * share, 232 - 176 * share].forEach((value, channel) => { picture.data[4 * i + channel] = value; });
    picture.data[4 * i + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}
const tile = (record) => h("div", { class: "tile", "data-key": `node ${record.node}` },
  h("h3", { title: record.name }, record.node),
  h("div", { class: "soft" }, `${record.name.split("/").pop()} ${record.shape.join(" × ")} · ${record.encoding} ${bytes(record.stored_bytes)}`),
  h("div", { class: "soft" }, `${percent(record.sparsity)} zero · σ ${power(record.deviation)}`, record.odd ? h("b", { class: "warn" }, ` · ${record.odd} NaN or infinite`) : null),
  histogram(record), zeros(record));
function tiles() {
  const few = 12, place = h("div", { class: "tiles" }, DATA.weights.slice(0, few).map(tile));
  const rest = h("button", { style: "margin-top:14px", onclick: () => { place.append(...DATA.weights.slice(few).map(tile)); rest.remove(); } }, `all ${DATA.weights.length}`);
  return [place, DATA.weights.length > few ? rest : null];
}

function passes() {
  if (!DATA.trace) return h("p", { class: "note" }, "The file does not tell what the passes did. Give the model that it was converted from (edgecnn inspect model.keras --html page.html) to see it; what each step computes stands in the table above.");
  if (!DATA.trace.length) return h("p", { class: "note" }, "The passes found nothing to do.");
  const names = [...new Set(DATA.trace.map((row) => row.pass_name))];
  const layers = DATA.layers ? table([
    { name: "layer", value: (row) => row.path, text: (row) => row.path, wide: true },
    { name: "class", value: (row) => row.class_name, text: (row) => row.class_name },
    { name: "becomes", value: (row) => row.outcome, text: (row) => row.outcome, wide: true },
  ], DATA.layers, "", false) : null;
  return h("div", { class: "passes" }, layers, names.map((name) => {
    const rows = DATA.trace.filter((row) => row.pass_name === name);
    const list = (row) => h("li", {}, h("span", { class: "mono" }, row.removed.join(", ")), h("span", { class: "arrow" }, "→"), row.added.length ? h("span", { class: "mono" }, row.added.join(", ")) : h("span", { class: "soft" }, "nothing left to do"));
    const more = h("ul", {}, rows.slice(0, 8).map(list));
    const rest = rows.length > 8 ? h("button", { onclick: (event) => { more.append(...rows.slice(8).map(list)); event.target.remove(); } }, `all ${rows.length}`) : null;
    return [h("h3", {}, `${name.replaceAll("_", " ")} · ${rows.length}×`), DATA.passes[name] ? h("pre", {}, DATA.passes[name]) : null, more, rest];
  }));
}

const own = DATA.nodes.filter((node) => node.parameters !== undefined);
const place = (kind) => DATA[kind].map((spec) => `${spec.name} ${sizes(spec.shape)}`).join(", ");
PAGE.append(
  heading(DATA.name || "model", `${DATA.path} · ${place("inputs")} → ${place("outputs")}`),
  figures(
    figure("file", ...bytes(DATA.size).split(" "), `format ${DATA.version.join(".")}`),
    figure("parameters", ...count(DATA.parameters).split(" "), `${percent(DATA.sparsity)} of them zero`),
    figure("multiply-adds", ...(DATA.macs === null ? ["?"] : count(DATA.macs).split(" ")), "one image"),
    figure("nodes", String(own.length), "", DATA.trace ? `${DATA.trace.length} rewritings made them` : `${new Set(own.flatMap((node) => node.layers)).size} layers`),
    figure("peak memory", ...bytes(DATA.weight_memory === null ? NaN : DATA.weight_memory + DATA.arena_memory + DATA.scratch_memory).split(" "), DATA.arena_memory === null ? "depends on the image" : `arena ${bytes(DATA.arena_memory)}, here`),
  ),
  card("Graph", "As the file holds it. The same colours everywhere are the same kinds of operators.", graph()),
  card("Size by encoding", null, encodings()),
  card("Nodes", null, table([
    { name: "node", value: (row) => row.name, text: (row) => row.name, wide: true },
    { name: "operator", value: (row) => row.operator, text: (row) => row.operator },
    { name: "output", value: (row) => row.shape.slice(1).reduce((a, b) => a * (b || 1), 1), text: (row) => sizes(row.shape), right: true },
    { name: "parameters", value: (row) => row.parameters, text: (row) => row.parameters.toLocaleString("en"), right: true },
    { name: "zeros", value: (row) => (row.sparsity === null ? -1 : row.sparsity), text: (row) => percent(row.sparsity), right: true },
    { name: "bytes", value: (row) => row.stored_bytes, text: (row) => bytes(row.stored_bytes), right: true },
    { name: "MACs", value: (row) => row.macs || 0, text: (row) => (row.macs === null ? "?" : count(row.macs)), right: true },
    { name: "activation", value: (row) => row.activation, text: (row) => row.activation },
    { name: "layers", value: (row) => row.layers.join(", "), text: (row) => row.layers.join(", "), wide: true },
  ], own.map((row) => ({ ...row, key: row.id })), "", false)),
  card("Weights", "Values of each constant (heights by the square root), and where its zeros lie: rows are inputs, columns filters, dark is zero.", DATA.weights.length ? tiles() : h("p", { class: "soft" }, "The model has no weights.")),
  card("What the converter did", null, passes()),
  foot(),
);
for (const row of document.querySelectorAll("tbody tr[data-key]")) row.addEventListener("pointerenter", () => light(row.dataset.key));
