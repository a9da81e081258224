// A heat strip: a row for each unit, a column for each timestep, filled while the session goes on.

import { heat } from "./colours.js";
import { h } from "./dom.js";

const NAMES = {
  f: "forget gate", i: "input gate", o: "output gate", candidate: "candidate", cell_state: "cell state", hidden: "hidden state",
  reset: "reset gate", update: "update gate",
};
const GATES = new Set(["f", "i", "o", "reset", "update"]); // from 0 to 1; the others are about 0
const TALLEST = 150; // pixels
const LOWEST = 34;

/** One tensor over time, at most `units` by `timesteps`. */
export class Strip {
  values; // [timesteps][units]
  canvas;
  #reach = 1;
  #order;

  constructor(name, units, timesteps) {
    const [, kind, layer] = name.match(/^(.*?)(?:_(\d+))?$/);
    this.name = name;
    this.layer = layer ?? "";
    this.units = units;
    this.timesteps = timesteps;
    this.heat = GATES.has(kind) ? "gate" : "state";
    this.title = NAMES[kind] ?? kind;
    this.canvas = h("canvas", { class: "strip", width: timesteps, height: units, role: "img" });
    this.canvas.style.height = `${Math.round(Math.min(TALLEST, Math.max(LOWEST, units * 3)))}px`;
    this.element = h("div", { class: "track", "data-strip": name },
      h("span", null, this.title, h("small", null, `${layer === undefined ? "" : `layer ${Number(layer) + 1}, `}${units} units`)), this.canvas);
    this.order(null);
    this.clear();
  }

  clear() {
    this.values = [];
    this.#reach = this.heat === "gate" ? 1 : 0.25;
    this.canvas.getContext("2d").clearRect(0, 0, this.timesteps, this.units);
    this.#tell();
  }

  /** Adds the next timestep's values. */
  add(values) {
    this.values.push(values);
    const most = this.heat === "gate" ? 1 : values.reduce((reach, value) => Math.max(reach, Math.abs(value ?? 0)), 0);
    if (most > this.#reach) {
      this.#reach = most * 1.1;
      this.paint();
    } else this.#column(this.values.length - 1);
    this.#tell();
  }

  /** Shows units in another order; `null` is their own. */
  order(order) {
    this.#order = order?.length === this.units ? order : Array.from({ length: this.units }, (_, unit) => unit);
  }

  paint() {
    this.values.forEach((_, timestep) => this.#column(timestep));
  }

  #column(timestep) {
    const colours = heat(this.heat);
    const image = new ImageData(1, this.units);
    for (let row = 0; row < this.units; row += 1) {
      const value = this.values[timestep][this.#order[row]] ?? 0;
      const share = this.heat === "gate" ? value : 0.5 + value / this.#reach / 2;
      const place = Math.max(0, Math.min(255, Math.round(share * 255))) * 3;
      image.data.set([colours[place], colours[place + 1], colours[place + 2], 255], row * 4);
    }
    this.canvas.getContext("2d").putImageData(image, timestep, 0);
  }

  #tell() {
    this.canvas.setAttribute("aria-label", `${this.title}: ${this.values.length} of ${this.timesteps} timesteps, ${this.units} units`);
  }
}

const MOST_ORDERED = 256; // units; more would take too long between two frames

/** Returns units in an order that lays those together that act alike: each next to the one whose course is most like its own. */
export function alike(values) {
  const units = values[0]?.length ?? 0;
  if (values.length < 3 || units < 3 || units > MOST_ORDERED) return null;
  const courses = Array.from({ length: units }, (_, unit) => normed(values.map((row) => row[unit] ?? 0)));
  const left = new Set(courses.keys());
  const order = [];
  let last = courses.reduce((best, course, unit) => (course.spread > courses[best].spread ? unit : best), 0);
  while (left.size) {
    left.delete(last);
    order.push(last);
    let next = -1;
    let nearest = -Infinity;
    for (const unit of left) {
      const like = courses[last].course.reduce((sum, value, at) => sum + value * courses[unit].course[at], 0);
      if (like > nearest) [nearest, next] = [like, unit];
    }
    last = next;
  }
  return order;
}

function normed(course) {
  const mean = course.reduce((sum, value) => sum + value, 0) / course.length;
  const apart = course.map((value) => value - mean);
  const spread = Math.sqrt(apart.reduce((sum, value) => sum + value * value, 0)) || 1e-9;
  return { spread, course: apart.map((value) => value / spread) };
}
