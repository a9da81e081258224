// The series and what the model makes of it, as lines on a canvas; a series can be drawn into it.

import { lines, named } from "./colours.js";
import { h } from "./dom.js";

/**
 * A chart of lines over the timesteps. `pencil.draw(timestep, share)` is told where a hand draws, `share` is 0 at the bottom and 1 at
 * the top, and `pencil.rest()` when it has drawn.
 */
export class Lines {
  constructor(name, height, pencil = null) {
    this.sheets = [];
    this.timesteps = 1;
    this.canvas = h("canvas", { role: "img", class: pencil ? "pencil" : null, "aria-label": name });
    this.canvas.style.height = `${height}px`;
    this.element = h("div", { class: "track", "data-lines": name }, h("span", null, name, h("small", null, pencil ? "draw here" : "")), this.canvas);
    this.#watch = new ResizeObserver(() => this.paint());
    this.#watch.observe(this.canvas);
    if (pencil) this.#listen(pencil);
  }

  #watch;

  /** Draws lines `{values, low, high, colour, wide, shift, dots}`: values by timestep, `shift` timesteps later. */
  draw(sheets, timesteps) {
    this.sheets = sheets;
    this.timesteps = timesteps;
    this.paint();
  }

  paint() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.lineJoin = pen.lineCap = "round";
    for (const sheet of this.sheets) this.#line(pen, sheet, width, height);
  }

  #line(pen, { values, low, high, colour, wide, shift = 0, dots = false, dash = [] }, width, height) {
    const x = (at) => ((at + shift + 0.5) / this.timesteps) * width;
    const y = (value) => height - 8 - ((value - low) / (high - low || 1)) * (height - 16);
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = wide;
    pen.setLineDash(dash);
    pen.beginPath();
    let down = false;
    values.forEach((value, at) => {
      if (value === null || Number.isNaN(value)) down = false;
      else {
        pen[down ? "lineTo" : "moveTo"](x(at), y(value));
        down = true;
      }
    });
    pen.stroke();
    if (!dots || !values.length) return;
    pen.beginPath();
    pen.arc(x(values.length - 1), y(values.at(-1)), 3.5, 0, 2 * Math.PI);
    pen.fill();
  }

  #listen(pencil) {
    let before = null;
    const draw = (event) => {
      const box = this.canvas.getBoundingClientRect();
      const at = Math.max(0, Math.min(this.timesteps - 1, Math.floor(((event.clientX - box.left) / box.width) * this.timesteps)));
      const share = Math.max(0, Math.min(1, (box.bottom - 8 - event.clientY) / (box.height - 16)));
      const from = before ?? { at, share };
      const count = Math.abs(at - from.at);
      for (let step = count ? 1 : 0; step <= count; step += 1) { // every timestep on the way, however fast the hand
        const along = count ? step / count : 1;
        pencil.draw(from.at + Math.sign(at - from.at) * step, from.share + (share - from.share) * along);
      }
      before = { at, share };
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      before = null;
      draw(event);
    });
    this.canvas.addEventListener("pointermove", (event) => before && draw(event));
    this.canvas.addEventListener("lostpointercapture", () => {
      if (before) pencil.rest();
      before = null;
    });
  }
}

/** Returns the lowest and the highest of some numbers, with a little room. */
export function range(values, least = 0) {
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  const [low, high] = known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
  const room = Math.max((high - low) * 0.08, least, 1e-9);
  return { low: low - room, high: high + room };
}

/** Returns a list of names by their colours. */
export function legend(entries) {
  return h("p", { class: "legend" }, entries.map(([name, colour]) => {
    const mark = h("i");
    mark.style.background = colour;
    return h("span", null, mark, name);
  }));
}

export { lines, named };
