"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";

  function element(name, attributes = {}, parent = null, text = null) {
    const made = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }

  function tint(node, colour) {
    if (colour) node.style.setProperty("--c", colour);
  }

  function number(value) {
    if (value === null || value === undefined) return "NaN";
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e5 || size < 1e-3)) return value.toExponential(2);
    return String(Number(value.toPrecision(4)));
  }

  // ---- tables -------------------------------------------------------------------------------------------------

  function keyOf(cell) {
    const text = cell.dataset.value ?? cell.textContent.trim();
    const leading = text.match(/^[−-]?\d+(\.\d+)?(e[+-]?\d+)?/i);
    if (text === "" || text === "–" || /^nan/i.test(text)) return { kind: 2, value: 0 };
    if (cell.dataset.value !== undefined ? text !== "" && isFinite(Number(text)) : leading) {
      return { kind: 0, value: Number((cell.dataset.value ?? leading[0]).replace("−", "-")) };
    }
    return { kind: 1, value: text };
  }

  function sort(table, column, direction) {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, at) => ({ row, at, key: keyOf(row.cells[column]) }));
    rows.sort((a, b) => {
      // What has no value stays at the end, whichever way it is sorted.
      if (a.key.kind !== b.key.kind) return a.key.kind - b.key.kind;
      const order = a.key.kind === 1 ? a.key.value.localeCompare(b.key.value) : a.key.value - b.key.value;
      return direction * order || a.at - b.at;
    });
    body.append(...rows.map((entry) => entry.row));
  }

  for (const table of document.querySelectorAll("table")) {
    if (!table.tHead || !table.tBodies.length || table.querySelector("td.empty")) continue;
    if (!table.closest(".scroll")) {
      const box = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" });
      table.replaceWith(box);
      box.append(table);
    }
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = element("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        sort(table, column, up ? 1 : -1);
      });
    });
  }

  for (const node of document.querySelectorAll("[data-colour]")) tint(node, node.dataset.colour);

  // ---- pictures -----------------------------------------------------------------------------------------------

  const polygon = (corners, radius, turn = 0, inner = null) => {
    const count = inner === null ? corners : 2 * corners;
    return Array.from({ length: count }, (_, k) => {
      const angle = turn + (2 * Math.PI * k) / count - Math.PI / 2;
      const r = inner !== null && k % 2 ? inner : radius;
      return `${(r * Math.cos(angle)).toFixed(2)},${(r * Math.sin(angle)).toFixed(2)}`;
    }).join(" L");
  };
  const half = Math.PI;
  const MARKS = {
    s: `M${polygon(4, 5, half / 4)}Z`, D: `M${polygon(4, 5.5)}Z`, d: "M0,-6 L3.5,0 L0,6 L-3.5,0Z",
    "^": `M${polygon(3, 5.5)}Z`, v: `M${polygon(3, 5.5, half)}Z`, "<": `M${polygon(3, 5.5, -half / 2)}Z`,
    ">": `M${polygon(3, 5.5, half / 2)}Z`, "*": `M${polygon(5, 7, 0, 3)}Z`, h: `M${polygon(6, 5)}Z`,
    p: `M${polygon(5, 5)}Z`, 8: `M${polygon(8, 5)}Z`,
    P: "M-1.7,-5 H1.7 V-1.7 H5 V1.7 H1.7 V5 H-1.7 V1.7 H-5 V-1.7 H-1.7Z",
    X: "M-5,-3 L-3,-5 L0,-2 L3,-5 L5,-3 L2,0 L5,3 L3,5 L0,2 L-3,5 L-5,3 L-2,0Z",
    o: "M-4.5,0 A4.5,4.5 0 1 1 4.5,0 A4.5,4.5 0 1 1 -4.5,0Z",
  };

  function ticks(low, high, log, room) {
    if (log) {
      const decades = Math.log10(high / low);
      const steps = decades > 5 ? [1] : decades > 1.2 ? [1, 3] : [1, 2, 3, 5, 7];
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
        for (const step of steps) found.push(step * 10 ** power);
      }
      const inside = found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
      if (inside.length >= 2) return inside.filter((_, k) => k % Math.ceil(inside.length / room) === 0);
    }
    const raw = (high - low) / room, magnitude = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((k) => k * magnitude).find((candidate) => candidate >= raw);
    const made = [];
    for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) {
      made.push(Number(value.toPrecision(12)));
    }
    return made;
  }

  class Chart {
    constructor(figure, spec) {
      Object.assign(this, { figure, spec, hidden: new Set(), zoomed: null });
      this.usable = (p) => p.y !== null && p.x !== null && (!spec.y.log || p.y > 0) && (!spec.x.log || p.x > 0);
      if (!spec.series.some((series) => series.points.some(this.usable))) {
        element("p", { class: "note" }, figure, "Nothing to draw yet: no run with a score has finished.");
        return;
      }
      this.tools();
      this.plot = element("div", { class: "plot" }, figure);
      const hint = `${spec.title}. Arrow keys move along the values, plus and minus zoom, 0 resets.`;
      this.svg = element("svg:svg", { role: "img", tabindex: "0", "aria-label": hint }, this.plot);
      this.tip = element("div", { class: "tip", hidden: "", "aria-live": "polite" }, this.plot);
      this.legend();
      this.listen();
      new ResizeObserver(() => this.draw()).observe(this.plot);
      this.draw();
    }

    get shown() {
      return this.spec.series.filter((series) => !this.hidden.has(series.name));
    }

    at(axis, value) {
      return axis.log ? Math.log10(value) : value;
    }

    whole() {
      const { x, y, level } = this.spec;
      const points = this.shown.flatMap((series) => series.points.filter(this.usable));
      const xs = [...points.map((p) => p.x), ...(x.ticks ?? [])];
      const ys = points.flatMap((p) => [p.y - (y.log ? 0 : p.s ?? 0), p.y + (p.s ?? 0)]);
      if (level && level.y !== null && this.usable({ x: 1, y: level.y })) ys.push(level.y);
      const span = (values, axis, margin) => {
        let [low, high] = [Math.min(...values), Math.max(...values)].map((value) => this.at(axis, value));
        if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
        return [low - margin * (high - low), high + margin * (high - low)];
      };
      const range = { x: span(xs.length ? xs : [1], x, 0.03), y: span(ys.length ? ys : [1], y, 0.06) };
      if (y.most) range.y = [Math.max(range.y[0], -0.02 * y.most), Math.min(range.y[1], 1.02 * y.most)];
      return range;
    }

    draw() {
      const { x, y, level } = this.spec;
      const width = Math.max(280, this.plot.clientWidth), height = Math.round(Math.min(420, Math.max(260, width * 0.52)));
      const box = { left: 52, right: width - 12, top: 10, bottom: height - 44 };
      const range = this.zoomed ?? this.whole();
      const toX = (value) => box.left + ((this.at(x, value) - range.x[0]) / (range.x[1] - range.x[0])) * (box.right - box.left);
      const toY = (value) => box.bottom - ((this.at(y, value) - range.y[0]) / (range.y[1] - range.y[0])) * (box.bottom - box.top);
      Object.assign(this, { box, range, toX, toY, width, height });
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.svg.replaceChildren();
      const clip = element("svg:clipPath", { id: `clip-${this.spec.id}` }, element("svg:defs", {}, this.svg));
      element("svg:rect", { x: box.left - 7, y: box.top - 7, width: box.right - box.left + 14, height: box.bottom - box.top + 14 }, clip);
      this.axes(range);
      const inside = element("svg:g", { "clip-path": `url(#clip-${this.spec.id})` }, this.svg);
      if (level && level.y !== null) {
        if (level.s && !y.log) {
          const top = toY(level.y + level.s);
          element("svg:rect", { class: "band", x: box.left, y: top, width: box.right - box.left, height: toY(level.y - level.s) - top }, inside);
        }
        element("svg:line", { class: "level", x1: box.left, x2: box.right, y1: toY(level.y), y2: toY(level.y) }, inside);
      }
      this.spec.series.forEach((series, k) => {
        // A small sideways step for each method, lest error bars hide one another.
        const step = x.ticks ? (k - (this.spec.series.length - 1) / 2) * Math.min(5, width / 200) : 0;
        if (!this.hidden.has(series.name)) this.series(series, element("svg:g", { transform: `translate(${step} 0)` }, inside));
      });
      this.cursor = element("svg:line", { class: "cursor", y1: box.top, y2: box.bottom, visibility: "hidden" }, this.svg);
      this.select = element("svg:rect", { class: "select", visibility: "hidden" }, this.svg);
      this.tip.hidden = true;
    }

    axes(range) {
      const { x, y } = this.spec, { box, svg, toX, toY } = this;
      const value = (axis, v) => (axis.log ? 10 ** v : v);
      const inside = (axis, v, [low, high]) => this.at(axis, v) >= low - 1e-9 && this.at(axis, v) <= high + 1e-9;
      const across = (x.ticks ?? ticks(value(x, range.x[0]), value(x, range.x[1]), x.log, Math.max(3, this.width / 110)));
      for (const v of across.filter((v) => inside(x, v, range.x))) {
        element("svg:line", { class: "gridline", x1: toX(v), x2: toX(v), y1: box.top, y2: box.bottom }, svg);
        element("svg:text", { x: toX(v), y: box.bottom + 18, "text-anchor": "middle" }, svg, number(v));
      }
      for (const v of ticks(value(y, range.y[0]), value(y, range.y[1]), y.log, 6).filter((v) => inside(y, v, range.y))) {
        element("svg:line", { class: "gridline", x1: box.left, x2: box.right, y1: toY(v), y2: toY(v) }, svg);
        element("svg:text", { x: box.left - 8, y: toY(v) + 4, "text-anchor": "end" }, svg, number(v));
      }
      element("svg:line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }, svg);
      element("svg:text", { x: (box.left + box.right) / 2, y: box.bottom + 38, "text-anchor": "middle" }, svg, x.label);
      const middle = (box.top + box.bottom) / 2;
      element("svg:text", { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, svg, y.label);
    }

    series(series, parent) {
      const { toX, toY, spec } = this;
      const group = element("svg:g", { class: `series${series.dashed ? " dashed" : ""}` }, parent);
      tint(group, series.colour);
      const points = series.points.filter(this.usable);
      const path = points.map((p, k) => `${k ? "L" : "M"}${toX(p.x).toFixed(1)},${toY(p.y).toFixed(1)}`).join("");
      const spread = points.filter((p) => p.s && !spec.y.log);
      if (spread.length && !spec.x.ticks) {
        const up = spread.map((p) => `${toX(p.x)},${toY(p.y + p.s)}`), down = spread.map((p) => `${toX(p.x)},${toY(p.y - p.s)}`);
        element("svg:path", { class: "area", d: `M${up.join("L")}L${down.reverse().join("L")}Z` }, group);
      } else {
        for (const p of spread) {
          const [px, low, high] = [toX(p.x), toY(p.y - p.s), toY(p.y + p.s)];
          element("svg:path", { class: "bar", d: `M${px},${low}V${high}M${px - 3},${low}h6M${px - 3},${high}h6` }, group);
        }
      }
      element("svg:path", { class: "line", d: path }, group);
      const shape = MARKS[series.marker] ?? (points.length === 1 ? MARKS.o : null);
      if (!shape) return;
      const every = this.zoomed ? 1 : Math.max(1, Math.floor(points.length / 9));
      points.forEach((p, k) => {
        if (k % every && k !== points.length - 1) return;
        const place = `translate(${toX(p.x)} ${toY(p.y)})`;
        element("svg:path", { class: `mark${p.hollow ? " hollow" : ""}`, d: shape, transform: place }, group);
      });
    }

    legend() {
      const legend = element("div", { class: "legend", role: "group", "aria-label": "Lines" }, this.figure);
      for (const series of this.spec.series) {
        const button = element("button", { type: "button", "aria-pressed": "true" }, legend);
        const sample = element("svg:svg", { viewBox: "0 0 28 16", "aria-hidden": "true" }, button);
        const group = element("svg:g", { class: `series${series.dashed ? " dashed" : ""}` }, sample);
        tint(group, series.colour);
        element("svg:path", { class: "line", d: "M1,8H27" }, group);
        if (series.marker in MARKS) element("svg:path", { class: "mark", d: MARKS[series.marker], transform: "translate(14 8)" }, group);
        button.append(series.name);
        button.addEventListener("click", () => {
          const visible = this.hidden.has(series.name);
          this.hidden[visible ? "delete" : "add"](series.name);
          button.setAttribute("aria-pressed", String(visible));
          this.draw();
        });
      }
      if (this.spec.level) element("span", { class: "note" }, legend, `dashed: ${this.spec.level.name}, ${number(this.spec.level.y)}`);
    }

    tools() {
      const bar = element("div", { class: "tools", role: "group", "aria-label": `Zoom of: ${this.spec.title}` }, this.figure);
      const tool = (text, label, act) =>
        element("button", { type: "button", "aria-label": label, title: label }, bar, text).addEventListener("click", act);
      tool("+", "Zoom in", () => this.zoom(0.6));
      tool("−", "Zoom out", () => this.zoom(1 / 0.6));
      tool("Reset", "Show everything", () => this.reset());
    }

    reset() {
      this.zoomed = null;
      this.draw();
    }

    zoom(factor, centre = [0.5, 0.5]) {
      const full = this.whole(), next = {};
      ["x", "y"].forEach((axis, k) => {
        const [low, high] = this.range[axis], fix = low + centre[k] * (high - low);
        const room = Math.min(factor, (full[axis][1] - full[axis][0]) / (high - low));
        next[axis] = [fix - (fix - low) * room, fix + (high - fix) * room];
      });
      this.zoomed = factor > 1 && next.x[1] - next.x[0] >= 0.999 * (full.x[1] - full.x[0]) ? null : next;
      this.draw();
    }

    place(event) {
      const area = this.svg.getBoundingClientRect(), scale = this.width / area.width;
      return [(event.clientX - area.left) * scale, (event.clientY - area.top) * scale];
    }

    share([px, py]) {
      const { box } = this;
      return [(px - box.left) / (box.right - box.left), (box.bottom - py) / (box.bottom - box.top)];
    }

    listen() {
      let from = null;
      this.svg.addEventListener("pointerdown", (event) => {
        if (event.button || event.pointerType === "touch") return;
        from = this.place(event);
        this.svg.setPointerCapture(event.pointerId);
      });
      this.svg.addEventListener("pointermove", (event) => {
        const to = this.place(event);
        if (!from) return this.point(...to);
        const [x, y] = [Math.min(from[0], to[0]), Math.min(from[1], to[1])];
        const size = { x, y, width: Math.abs(to[0] - from[0]), height: Math.abs(to[1] - from[1]), visibility: "visible" };
        for (const [key, value] of Object.entries(size)) this.select.setAttribute(key, value);
      });
      this.svg.addEventListener("pointerup", (event) => {
        if (!from) return this.point(...this.place(event));
        const [a, b] = [this.share(from), this.share(this.place(event))];
        const far = Math.abs(a[0] - b[0]) > 0.02 && Math.abs(a[1] - b[1]) > 0.02;
        from = null;
        this.select.setAttribute("visibility", "hidden");
        if (!far) return;
        const cut = ([low, high], k) => [Math.min(a[k], b[k]), Math.max(a[k], b[k])].map((s) => low + s * (high - low));
        this.zoomed = { x: cut(this.range.x, 0), y: cut(this.range.y, 1) };
        this.draw();
      });
      this.svg.addEventListener("pointerleave", () => this.leave());
      this.svg.addEventListener("blur", () => this.leave());
      this.svg.addEventListener("dblclick", () => this.reset());
      this.svg.addEventListener("wheel", (event) => {
        // A wheel scrolls the page unless the picture has been chosen, or Ctrl is held.
        if (!event.ctrlKey && document.activeElement !== this.svg) return;
        event.preventDefault();
        this.zoom(event.deltaY < 0 ? 0.8 : 1.25, this.share(this.place(event)));
      }, { passive: false });
      this.svg.addEventListener("keydown", (event) => {
        const xs = this.xs(), step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step && xs.length) {
          const at = Math.min(xs.length - 1, Math.max(0, (this.index ?? (step > 0 ? -1 : xs.length)) + step));
          this.index = at;
          this.show(xs[at], null);
        } else if (event.key === "+" || event.key === "=") this.zoom(0.6);
        else if (event.key === "-") this.zoom(1 / 0.6);
        else if (event.key === "0") this.reset();
        else if (event.key === "Escape") this.leave();
        else return;
        event.preventDefault();
      });
    }

    xs() {
      const all = this.shown.flatMap((series) => series.points.filter(this.usable).map((p) => p.x));
      return [...new Set(all)].sort((a, b) => a - b);
    }

    leave() {
      this.tip.hidden = true;
      this.index = null;
      this.cursor?.setAttribute("visibility", "hidden");
    }

    point(px, py) {
      const xs = this.xs();
      if (!xs.length) return;
      const nearest = xs.reduce((best, x) => (Math.abs(this.toX(x) - px) < Math.abs(this.toX(best) - px) ? x : best));
      this.show(nearest, py);
    }

    show(x, py) {
      const close = (series) => {
        const points = series.points.filter(this.usable);
        if (!points.length) return null;
        const p = points.reduce((best, q) => (Math.abs(this.toX(q.x) - this.toX(x)) < Math.abs(this.toX(best.x) - this.toX(x)) ? q : best));
        return Math.abs(this.toX(p.x) - this.toX(x)) < 12 ? { series, p } : null;
      };
      const found = this.shown.map(close).filter(Boolean).sort((a, b) => b.p.y - a.p.y);
      if (!found.length) return this.leave();
      const away = (entry) => Math.abs(this.toY(entry.p.y) - py);
      const near = py === null ? null : found.reduce((best, entry) => (away(entry) < away(best) ? entry : best));
      this.tip.replaceChildren();
      element("b", {}, this.tip, `${this.spec.x.name} ${number(x)}`);
      for (const { series, p } of found) {
        const line = element("div", near && series === near.series ? { class: "near" } : {}, this.tip);
        const name = element("span", {}, line);
        if (series.colour) tint(element("i", { class: "dot" }, name), series.colour);
        name.append(series.name);
        element("span", {}, line, `${number(p.y)}${p.s === undefined ? "" : ` ± ${number(p.s)}`}${p.hollow ? " †" : ""}`);
      }
      const place = this.toX(x), scale = this.plot.clientWidth / this.width;
      this.cursor.setAttribute("x1", place);
      this.cursor.setAttribute("x2", place);
      this.cursor.setAttribute("visibility", place >= this.box.left - 1 && place <= this.box.right + 1 ? "visible" : "hidden");
      this.tip.hidden = false;
      const left = place * scale + 14, room = this.plot.clientWidth - this.tip.offsetWidth;
      this.tip.style.left = `${Math.max(0, left > room ? place * scale - this.tip.offsetWidth - 14 : left)}px`;
      this.tip.style.top = "12px";
    }
  }

  const specs = JSON.parse(document.getElementById("charts").textContent);
  for (const spec of specs) new Chart(document.querySelector(`[data-chart="${CSS.escape(spec.id)}"]`), spec);
})();
