// The explorer's page: fields, drawings and the table of bytes.  All numbers come from model.js and from the
// formulas that docs/formulas.py has written into explorerData.
"use strict";

(() => {
  const { FIELDS, sizes, bandSize, drawn, im2col, mec, mecW } = explorerModel;
  const { algorithms, leftOut, layers } = explorerData;
  const root = document.getElementById("explorer");
  const find = (selector) => root.querySelector(selector);

  // Elements -------------------------------------------------------------------------------------------

  function element(tag, attributes = {}, ...children) {
    const svg = ["svg", "rect", "path"].includes(tag);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  // Elements are looked at before they are written to: most of a drawing stays the same from step to step.
  function set(target, name, value) {
    if (target.getAttribute(name) !== value) target.setAttribute(name, value);
  }

  const counted = (number) => number.toLocaleString("en-US");
  const range = (n) => Array.from({ length: n }, (_, i) => i);

  // The layer ------------------------------------------------------------------------------------------

  const FIRST = {
    i_n: 1, i_h: 7, i_w: 7, i_c: 1, k_h: 3, k_w: 3, k_c: 1, s_h: 1, s_w: 1, p_h: 0, p_w: 0, d_h: 1, d_w: 1, b: 2,
  };
  const names = Object.keys(FIRST);
  const inputs = {};

  function addFields() {
    for (const [group, fields] of Object.entries(FIELDS)) {
      const together = element("fieldset", {}, element("legend", {}, group));
      for (const [name, most] of Object.entries(fields)) {
        const least = group === "padding" ? 0 : 1;
        inputs[name] = element("input", { type: "number", name, min: least, max: most, required: "" });
        together.append(element("label", {}, name, inputs[name]));
      }
      find(".fields").append(together);
    }
    inputs.b.title = "output rows of a band of banded MEC";
    const select = find("[name=layer]");
    const said = (s) => `${s.i_h} × ${s.i_w} × ${s.i_c}, kernel ${s.k_h} × ${s.k_w}`;
    select.append(element("option", { value: "figure" }, "the paper's 7 × 7 example"),
      element("option", { value: "own" }, "sizes of your own"),
      ...Object.entries(layers).map(([name, s]) => element("option", { value: name }, `${name}: ${said(s)}`)));
    select.addEventListener("change", () => {
      if (select.value !== "own") fill({ ...FIRST, ...layers[select.value], b: inputs.b.value });
    });
    find("form").addEventListener("input", (event) => event.target !== select && take());
    find("form").addEventListener("submit", (event) => event.preventDefault());
  }

  function fill(values) {
    for (const name of names) inputs[name].value = values[name];
    take();
  }

  // The sizes in the fields, or a sentence that says what is wrong with them.
  function given() {
    for (const [name, input] of Object.entries(inputs)) {
      if (!input.checkValidity()) return `${name} must be a whole number from ${input.min} to ${input.max}.`;
    }
    const v = Object.fromEntries(names.map((name) => [name, Number(inputs[name].value)]));
    const s = sizes({ ...v, p_t: v.p_h, p_b: v.p_h, p_l: v.p_w, p_r: v.p_w });
    if (s.o_h >= 1 && s.o_w >= 1) return s;
    const across = s.o_h < 1 ? ["high", s.e_h, s.i_h + 2 * v.p_h] : ["wide", s.e_w, s.i_w + 2 * v.p_w];
    return `The kernel is ${across[1]} pixels ${across[0]}, dilation included, and the padded image ${across[2]}.`;
  }

  // Take the sizes in the fields; wrong ones leave the page as it was, with the reason.
  function take() {
    const s = given();
    const wrong = typeof s === "string";
    find(".wrong").textContent = wrong ? s : "";
    root.classList.toggle("stale", wrong);
    for (const input of Object.values(inputs)) set(input, "aria-invalid", String(!input.checkValidity()));
    if (wrong) return pause();
    const same = (values) => names.every((name) => name === "b" || s[name] === values[name]);
    const known = Object.keys(layers).find((name) => same({ ...FIRST, ...layers[name] }));
    find("[name=layer]").value = same(FIRST) ? "figure" : known || "own";
    showBytes(s);
    draw(s);
    remember(s);
  }

  // The address says the sizes, so that a link can: #i_h=9&s_h=2, or #cv5.
  function remember(s) {
    const layer = find("[name=layer]").value;
    const told = names.filter((name) => s[name] !== ({ ...FIRST, ...layers[layer] })[name]);
    const hash = [...(layers[layer] ? [layer] : []), ...told.map((name) => `${name}=${s[name]}`)].join("&");
    if (hash !== location.hash.slice(1)) history.replaceState(null, "", `#${hash}`);
  }

  function recall() {
    const values = { ...FIRST };
    for (const part of location.hash.slice(1).split("&")) {
      const [name, value] = part.split("=");
      if (Object.hasOwn(layers, name)) Object.assign(values, layers[name]);
      else if (Object.hasOwn(values, name) && /^\d{1,4}$/.test(value)) values[name] = Number(value);
    }
    if (!panels.length) fill(FIRST); // there is something to see even if the address is wrong
    fill(values);
  }

  // The table of bytes ---------------------------------------------------------------------------------

  const FAMILIES = {
    paper: "MEC as published", mec: "after MEC: tuned, in bands, transposed", im2col: "im2col and its forms",
    direct: "direct", other: "others",
  };

  function showBytes(s) {
    const bytes = (elements) => elements * s.itemsize;
    const able = Object.entries(algorithms).filter(([, one]) => !one.does || one.does(s));
    const rows = able.map(([name, one]) => [name, one.family, bytes(one.size(s)), one.formula]);
    const b = Math.min(s.b, s.o_h);
    const banded = "o_w·r_b·k_w·i_c, r_b the image rows that b output rows read";
    rows.push([`mec_banded, b = ${b}`, "mec", bytes(bandSize(s, b)), banded]);
    rows.sort((one, other) => one[2] - other[2] || (one[0] < other[0] ? -1 : 1));

    const whole = bytes(algorithms.im2col.size(s));
    const full = whole ? 2.5 * whole : Math.max(1, ...rows.map((row) => row[2]));
    find("tbody").replaceChildren(...rows.map(([name, family, nbytes, formula]) => {
      const bar = element("span", { class: nbytes > full ? "cut" : "" });
      bar.style.width = nbytes ? `max(1px, ${Math.min(1, nbytes / full) * 100}%)` : "0";
      const ratio = whole / nbytes, shown = ratio < 0.1 ? ratio.toPrecision(2) : ratio.toFixed(2);
      const parts = name.split("_").flatMap((part, i) => (i ? ["_", element("wbr"), part] : [part]));
      return element("tr", { class: family, title: formula }, element("th", { scope: "row" }, ...parts),
        element("td", { class: "bar" }, bar), element("td", { class: "number" }, counted(nbytes)),
        element("td", { class: "number" }, whole && nbytes ? shown : "–"));
    }));
    const input = s.i_n * s.i_h * s.i_w * s.i_c, kernel = s.k_h * s.k_w * s.i_c * s.k_c;
    const [I, K, O] = [input, kernel, s.i_n * s.o_h * s.o_w * s.k_c].map((size) => counted(bytes(size)));
    find(".layer-bytes").textContent = `The output is ${s.i_n} × ${s.o_h} × ${s.o_w} × ${s.k_c}. ` +
      `Of the layer's arrays, I takes ${I} bytes, K ${K} and O ${O}. The workspace comes on top:`;

    const cannot = Object.entries(algorithms).filter(([, one]) => one.does && !one.does(s));
    const needs = [...new Set(cannot.map(([, one]) => one.needs))].map((needed) => {
      const those = cannot.filter(([, one]) => one.needs === needed).map(([name]) => name);
      return `${those.join(", ")} (${those.length > 1 ? "need" : "needs"} ${needed})`;
    });
    find(".cannot").textContent = cannot.length ? `Can't do this layer: ${needs.join("; ")}.` : "";
  }

  function explainTable() {
    const legend = Object.entries(FAMILIES).map(([family, text]) => element("span", { class: family }, text));
    find(".legend").append(...legend);
    const those = Object.keys(leftOut).filter((name) => name !== "mec_banded");
    const leftFor = (why) => those.filter((name) => leftOut[name] === why).join(", ");
    find(".left-out").textContent = "For one thread, float32, one group and no limit. Bars are cut at 2.5 times " +
      "im2col. mec_banded has the b that is set above, not the one that pymec would choose. Left out are algorithms " +
      "whose size is no formula of the layer alone, since pymec cuts their tiles by caches and registers: " +
      `${leftFor("schedule")}; and ${leftFor("layout")}, which would have to turn these images to n-c-h-w first. ` +
      "pymec.explain has them all.";
  }

  // The drawing ----------------------------------------------------------------------------------------

  const CORNERS = [[0, 114, 178], [0, 158, 115], [204, 121, 167], [230, 159, 0]];

  // A pixel's colour says where in the image it is: between four colours, one for each corner.
  function colour(s, pixel) {
    const v = Math.floor(pixel / s.i_w) / Math.max(1, s.i_h - 1), u = (pixel % s.i_w) / Math.max(1, s.i_w - 1);
    const weights = [(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u];
    const channel = (c) => Math.round(weights.reduce((sum, weight, i) => sum + weight * CORNERS[i][c], 0));
    return `rgb(${[0, 1, 2].map(channel).join(",")})`;
  }

  const PANELS = [
    {
      title: "im2col", family: "im2col", make: im2col,
      copy: (p) => `the patch of output (${p.y}, ${p.x})`, part: () => "all of L", made: () => "the whole output",
    },
    {
      title: "MEC", family: "paper", make: (s) => mec(s),
      copy: (p) => `strip x = ${p.x}`, part: (p) => `partition y = ${p.y}`, made: (p) => `output row ${p.y}`,
      note: beside,
    },
    {
      title: "Banded MEC", family: "mec", make: mec,
      copy: (p) => `strip x = ${p.x} of band ${p.band}`,
      part: (p) => `partition y = ${p.y}`, made: (p) => `output row ${p.y}`,
    },
    {
      title: "MEC-w", family: "mec", make: (s) => mecW(s),
      copy: (p) => `strip y = ${p.x}`, part: (p) => `partition x = ${p.y}`, made: (p) => `output column ${p.y}`,
      note: (s) => (s.k_h > 1 && s.k_w > 1
        ? "K is read column by column: mec_w's bytes include a copy of it in that order." : ""),
    },
  ];
  let panels = [], at = 0, last = 0;

  function draw(s) {
    pause();
    const small = drawn(s);
    const same = small && small.i_h === s.i_h && small.i_w === s.i_w;
    const drawnSize = small && `${small.i_h} × ${small.i_w}`;
    find(".shown").textContent = !small
      ? "These sizes are too large to draw. The bytes below are right all the same."
      : (same ? `Drawn: one image and one channel of this layer, ${drawnSize}.`
        : `Drawn: a smaller image of one channel, ${drawnSize} in place of ${s.i_h} × ${s.i_w}; kernel, stride and ` +
          "dilation are the layer's.") +
        (s.is_pointwise ? " Here pymec copies nothing: the image of a 1 × 1 kernel is its own L." : "");
    find(".transport").inert = !small;
    const b = small && Math.min(s.b, small.o_h);
    panels = small ? PANELS.map((panel) => ({ ...panel, ...panel.make(small, b) })) : [];
    const most = { rows: Math.max(...panels.map((p) => p.rows)), columns: Math.max(...panels.map((p) => p.columns)) };
    find(".panels").replaceChildren(...panels.map((panel) => build(panel, small, most, b)));
    last = Math.max(0, ...panels.map((panel) => panel.steps.length));
    find("[name=step]").max = last;
    go(0);
  }

  // An array as squares; outlines of windows lie above them.
  function grid(rows, columns, edge = [0, 0, 0, 0]) {
    const [top, right, bottom, left] = edge;
    const width = columns + left + right, height = rows + top + bottom;
    const svg = element("svg", { role: "img", viewBox: `${-left} ${-top} ${width} ${height}` });
    if (Math.max(...edge)) svg.append(element("rect", { class: "padding", x: -left, y: -top, width, height }));
    const cells = range(rows * columns).map((i) =>
      element("rect", { x: i % columns, y: Math.floor(i / columns), width: 1, height: 1 }));
    const outline = element("path", { class: "outline" });
    svg.append(...cells, outline);
    return { svg, cells, outline };
  }

  function build(panel, s, most, b) {
    panel.s = s;
    panel.I = grid(s.i_h, s.i_w, [s.p_t, s.p_r, s.p_b, s.p_l]);
    panel.L = grid(panel.rows, panel.columns);
    panel.O = grid(s.o_h, s.o_w);
    panel.I.cells.forEach((cell, pixel) => cell.setAttribute("fill", colour(s, pixel)));
    panel.L.svg.setAttribute("preserveAspectRatio", "none");
    // All L have cells of one size: their areas compare as their bytes do.
    panel.L.svg.style.cssText = `width: min(${(100 * panel.columns) / most.columns}%, ${panel.columns * 16}px);` +
      `height: ${panel.rows * Math.min(16, 270 / most.rows)}px`;
    panel.does = element("p", { class: "does" });
    const longest = Math.max(s.i_h + s.p_t + s.p_b, s.i_w + s.p_l + s.p_r);
    const named = (name, array, size) => {
      if (name !== "L") array.svg.style.width = `${(100 * array.svg.viewBox.baseVal.width) / longest}%`;
      const caption = element("div", { class: "caption" }, `${name} ${size}`);
      return element("div", { class: `array ${name}` }, caption, array.svg);
    };
    const title = panel.title === "Banded MEC" ? `Banded MEC, b = ${b}` : panel.title;
    const note = panel.note ? panel.note(s, panel) : "";
    return element("article", { class: `panel ${panel.family}` }, element("h3", {}, title),
      element("div", { class: "arrays" },
        element("div", { class: "images" },
          named("I", panel.I, `${s.i_h} × ${s.i_w}`), named("O", panel.O, `${s.o_h} × ${s.o_w}`)),
        named("L", panel.L, `${panel.rows} × ${panel.columns} = ${counted(panel.rows * panel.columns)} elements`)),
      panel.does, element("p", { class: "note" }, note));
  }

  // Where the L that is drawn, of pymec's mec, is not the L of the paper.
  function beside(s, panel) {
    if (s.d_h > 1 || s.d_w > 1) return "The paper has no dilation; this is the L of pymec's mec.";
    const published = s.o_w * (s.i_h + s.p_t + s.p_b) * s.k_w;
    if (published === panel.rows * panel.columns) return "";
    return "This is the L of pymec's mec. As published, MEC also stores the rows of the padding and those that no " +
      `output reads: ${counted(published)} elements.`;
  }

  // What a panel's arrays hold after so many steps: played from the beginning, so that a step back is as easy.
  function stateOf(panel, steps) {
    const L = new Array(panel.rows * panel.columns).fill(null), made = new Set();
    let copied = 0;
    for (const step of panel.steps.slice(0, steps)) {
      if (step.cells) {
        if (step.x === 0 && step.band !== undefined) L.fill(null); // a new band lies where the last one lay
        step.cells.forEach((cell, column) => { L[step.row * panel.columns + column] = cell; });
        copied += step.cells.length;
      } else step.makes.forEach((output) => made.add(output));
    }
    return { L, made, copied };
  }

  const box = (x, y, width, height) => `M${x} ${y}h${width}v${height}h${-width}z`;

  function show(panel) {
    const { s, columns, steps } = panel;
    const done = Math.min(at, steps.length);
    const { L, made, copied } = stateOf(panel, done);
    const step = at > steps.length ? undefined : steps[done - 1]; // none before the first and after the last
    // Whether the step writes a cell of L, or multiplies it.
    const touches = (i) => step && (step.cells
      ? Math.floor(i / columns) === step.row
      : i % columns >= step.first && i % columns < step.first + step.count);
    const window = new Set(L.filter((cell, i) => cell !== null && touches(i)));
    panel.L.cells.forEach((rect, i) => {
      set(rect, "class", L[i] === null ? "empty" : `${L[i] < 0 ? "zero" : ""} ${!step || touches(i) ? "" : "dim"}`);
      if (L[i] !== null && L[i] >= 0) set(rect, "fill", colour(s, L[i]));
    });
    panel.I.cells.forEach((rect, pixel) => set(rect, "class", !step || window.has(pixel) ? "" : "dim"));
    const now = new Set(step && step.makes);
    panel.O.cells.forEach((rect, output) =>
      set(rect, "class", now.has(output) ? "now" : made.has(output) ? "made" : "empty"));
    set(panel.L.outline, "d", !step ? ""
      : step.cells ? box(0, step.row, step.cells.length, 1) : box(step.first, 0, step.count, panel.rows));
    const pixels = [...window].filter((pixel) => pixel >= 0);
    set(panel.I.outline, "d", pixels.map((pixel) => box(pixel % s.i_w, Math.floor(pixel / s.i_w), 1, 1)).join(""));
    const progress = `${copied} numbers copied, ${made.size} of ${s.o_h * s.o_w} outputs made`;
    panel.told = sentence(panel, step);
    panel.does.replaceChildren(element("strong", {}, panel.told), ` ${progress}.`);
    const held = L.filter((cell) => cell !== null).length;
    set(panel.I.svg, "aria-label", `Input, ${s.i_h} by ${s.i_w}; ${pixels.length} pixels are in use`);
    set(panel.L.svg, "aria-label", `Lowered matrix, ${panel.rows} by ${columns}; ${held} elements are written`);
    set(panel.O.svg, "aria-label", `Output, ${s.o_h} by ${s.o_w}; ${made.size} are made`);
  }

  function sentence(panel, step) {
    if (!step) return at ? `Done in ${panel.steps.length} steps.` : "Nothing is copied yet.";
    if (step.cells) return `Copies ${panel.copy(step)} into row ${step.row} of L.`;
    if (!step.count) return `Nothing but padding is under ${panel.made(step)}: zeros.`;
    return `Multiplies ${panel.part(step)} with K: ${panel.made(step)}.`;
  }

  // Steps and time -------------------------------------------------------------------------------------

  const SPEEDS = [0.5, 1, 2, 4, 8, 16];
  let timer = null;

  function go(step) {
    at = Math.max(0, Math.min(last, step));
    panels.forEach(show);
    const position = find("[name=step]");
    position.value = at;
    position.nextElementSibling.textContent = `${at} of ${last}`;
    set(position, "aria-valuetext", `step ${at} of ${last}`);
    const told = panels.map((panel) => `${panel.title}: ${panel.told}`);
    find(".said").textContent = timer || !told.length ? "" : `Step ${at} of ${last}. ${told.join(" ")}`;
  }

  const speed = () => SPEEDS[find("[name=speed]").value];

  function showSpeed() {
    find("[name=speed]").nextElementSibling.textContent = `${speed()} a second`;
    set(find("[name=speed]"), "aria-valuetext", `${speed()} steps a second`);
  }

  function tick() {
    go(at + 1);
    if (at < last) timer = setTimeout(tick, 1000 / speed());
    else pause();
  }

  function play() {
    if (timer) return pause();
    if (!panels.length) return;
    if (at === last) go(0);
    timer = setTimeout(tick, 1000 / speed());
    find("[data-do=play]").textContent = "Pause";
    find(".said").textContent = ""; // a reader of the screen would fall behind: it is told where it stops
  }

  function pause() {
    const played = timer !== null;
    clearTimeout(timer);
    timer = null;
    find("[data-do=play]").textContent = "Play";
    if (played) go(at);
  }

  function step(by) {
    pause();
    go(at + by);
  }

  const ACTIONS = { reset: () => step(-at), back: () => step(-1), play, forward: () => step(1) };
  const KEYS = { Home: "reset", ArrowLeft: "back", " ": "play", ArrowRight: "forward" };

  function listen() {
    root.addEventListener("click", (event) => {
      const button = event.target.closest("[data-do]");
      if (button) ACTIONS[button.dataset.do]();
    });
    find(".stage").addEventListener("keydown", (event) => {
      const own = event.target.matches("input") || (event.key === " " && event.target.matches("button"));
      if (own || event.altKey || event.ctrlKey || event.metaKey || !KEYS[event.key]) return;
      event.preventDefault();
      ACTIONS[KEYS[event.key]]();
    });
    find("[name=step]").addEventListener("input", (event) => step(event.target.value - at));
    find("[name=speed]").addEventListener("input", showSpeed);
    window.addEventListener("hashchange", () => {
      recall();
      root.scrollIntoView();
    });
  }

  if (matchMedia("(prefers-reduced-motion: reduce)").matches) find("[name=speed]").value = 0;
  addFields();
  explainTable();
  showSpeed();
  listen();
  recall();
})();
