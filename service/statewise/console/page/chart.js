// A line of the last five minutes, with its value now.

import { h, s } from "./dom.js";

const WIDE = 300; // seconds, and units of the drawing
const TALL = 100;

/** One figure over time. `say` returns [value, unit] of a number; `least` is the lowest top that its scale has. */
export class Chart {
  #say;
  #least;
  #points = [];
  #at = null; // the sample that the pointer is on
  #value = h("div", { class: "value" });
  #note = h("div", { class: "note" });
  #top = h("span", { class: "top-label" });
  #area = s("path", { class: "area" });
  #line = s("path", { class: "line" });
  #cursor = s("line", { class: "at", y1: 0, y2: TALL, visibility: "hidden" });
  #svg = s("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, preserveAspectRatio: "none", role: "img" },
    s("line", { class: "most", x1: 0, x2: WIDE, y1: 0, y2: 0 }), s("line", { class: "base", x1: 0, x2: WIDE, y1: TALL, y2: TALL }),
    this.#area, this.#line, this.#cursor);

  constructor(name, say, least) {
    this.name = name;
    this.#say = say;
    this.#least = least;
    const plot = h("div", { class: "plot", onpointermove: (event) => this.#point(event), onpointerleave: () => this.#point(null) },
      this.#svg, this.#top);
    this.element = h("section", { class: "card chart", "data-chart": name }, h("h3", null, name), this.#value, this.#note, plot,
      h("div", { class: "axis", "aria-hidden": "true" }, h("span", null, "5 min ago"), h("span", null, "now")));
  }

  /** Draws points `{at, value}`, oldest first, `value` null where there is none; `note` says more about the last one. */
  draw(points, now, note) {
    this.#points = points.map((point) => ({ ...point, x: WIDE - (now - point.at) })).filter((point) => point.x >= 0);
    const known = this.#points.filter((point) => point.value !== null);
    const most = nice(Math.max(this.#least, ...known.map((point) => point.value)));
    const y = (value) => TALL - (value / most) * TALL;
    const runs = runsOf(this.#points).map((run) => run.map((point) => `${point.x.toFixed(1)},${y(point.value).toFixed(1)}`));
    this.#line.setAttribute("d", runs.map((run) => `M${run.join("L")}${run.length < 2 ? "h.5" : ""}`).join(""));
    this.#area.setAttribute("d", runs.map((run) => area(run)).join(""));
    const [highest, unit] = this.#say(most);
    this.#top.textContent = unit.length < 3 ? `${highest} ${unit}` : highest;
    this.#note.dataset.note = note;
    const last = known.at(-1);
    const told = this.#say(last?.value ?? null).join(" ");
    this.#svg.setAttribute("aria-label", `${this.name}, the last five minutes: now ${told}`);
    this.#tell();
  }

  #point(event) {
    const box = this.#svg.getBoundingClientRect();
    const x = event ? ((event.clientX - box.left) / box.width) * WIDE : null;
    const near = (a, b) => (Math.abs(a.x - x) <= Math.abs(b.x - x) ? a : b);
    this.#at = x === null || !this.#points.length ? null : this.#points.reduce(near);
    this.#tell();
  }

  #tell() {
    const shown = this.#at ?? this.#points.at(-1);
    const [value, unit] = this.#say(shown?.value ?? null);
    this.#value.replaceChildren(value, h("small", null, unit));
    this.#note.textContent = this.#at ? new Date(this.#at.at * 1000).toLocaleTimeString() : this.#note.dataset.note ?? "";
    this.#cursor.setAttribute("visibility", this.#at ? "visible" : "hidden");
    if (this.#at) for (const end of ["x1", "x2"]) this.#cursor.setAttribute(end, this.#at.x);
  }
}

/** Returns runs of neighbouring points that have a value. */
function runsOf(points) {
  const runs = [];
  let before = null;
  for (const point of points) {
    if (point.value !== null) {
      if (before === null || before.value === null || point.at - before.at > 3) runs.push([]);
      runs.at(-1).push(point);
    }
    before = point;
  }
  return runs;
}

function area(run) {
  const [first] = run[0].split(",");
  const [last] = run.at(-1).split(",");
  return `M${first},${TALL}L${run.join("L")}L${last},${TALL}Z`;
}

/** Returns the next round number, 1, 2 or 5 times a power of ten. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value * 0.999) * power;
}
