// What a session is to read: a series that is drawn or pasted, or a text that is typed.

import { h } from "./dom.js";
import { lines, Lines, named, range } from "./lines.js";
import { begin, clockOf, cyclesOf, fromCsv, Series, SHAPES } from "./series.js";
import { sample, tokensOf } from "./tokens.js";

const LONGEST = 2000; // timesteps
const MOST_CHIPS = 24; // columns; more are a list to choose from

/** Returns the source for a model: `{element, track, text(), timesteps(), overlay(rows)}`. `changed` is called when it is another. */
export function sourceFor(spec, changed) {
  return spec.vocabulary ? new TextSource(spec, changed) : new TableSource(spec, changed);
}

class TextSource {
  constructor(spec, changed) {
    this.spec = spec;
    this.area = h("textarea", { rows: 4, spellcheck: "false", "aria-label": "Text for the model", oninput: changed });
    this.area.value = sample(spec.vocabulary);
    this.upload = upload(async (file) => {
      this.area.value = (await file.text()).slice(0, LONGEST);
      changed();
    }, "text/*");
    this.track = null;
  }

  /** Returns the fields, after that in which the model is chosen. */
  element(choice) {
    return [h("div", { class: "row" }, choice, this.upload), this.area];
  }

  text() {
    return this.area.value.replaceAll("\r\n", "\n");
  }

  timesteps() {
    return tokensOf(this.text(), this.spec.vocabulary).length;
  }

  overlay() {}
}

class TableSource {
  #predicted = [];
  #rows = []; // what was answered to the series as it is

  constructor(spec, changed) {
    this.spec = spec;
    this.changed = changed;
    this.place = Math.max(0, spec.columns.findIndex((column) => spec.outputs[0].features.includes(column.name)));
    this.series = new Series(spec.columns, begin(spec.calendar, spec.task), clockOf(spec.calendar));
    spec.columns.forEach((_, place) => this.series.shape(place, "wave", cyclesOf(spec.calendar, this.series.timesteps) * (1 + (place % 3) / 2)));
    this.area = h("textarea", { rows: 8, spellcheck: "false", "aria-label": "The series as CSV", oninput: () => this.#pasted(this.area.value) });
    this.length = h("input", { type: "number", min: 1, max: LONGEST, "aria-label": "Timesteps", onchange: () => this.#resized() });
    this.columns = spec.columns.length > MOST_CHIPS
      ? h("select", { "aria-label": "Column that is drawn", onchange: () => this.#chosen(this.columns.selectedIndex) },
        spec.columns.map((column, place) => h("option", { selected: place === this.place }, column.name)))
      : h("div", { class: "chips", role: "group", "aria-label": "Column that is drawn" });
    this.upload = upload(async (file) => {
      this.area.value = await file.text();
      this.#pasted(this.area.value);
    }, ".csv,text/csv");
    this.track = new Lines(spec.columns.length > 1 ? "series" : spec.columns[0]?.name ?? "series", 150,
      { draw: (at, share) => this.#drawn(at, share), rest: () => this.#edited(true, false) });
    this.#edited(false);
  }

  /** Returns the fields, after that in which the model is chosen. */
  element(choice) {
    const shaped = (name) => {
      this.series?.shape(this.place, name, cyclesOf(this.spec.calendar, this.series.timesteps));
      this.#edited();
    };
    const shapes = h("div", { class: "chips", role: "group", "aria-label": "Shapes" },
      Object.keys(SHAPES).map((name) => h("button", { type: "button", onclick: () => shaped(name) }, name)));
    return [
      h("div", { class: "row" }, choice, h("label", { class: "field" }, "Timesteps", this.length), h("div", { class: "field" }, "Shape", shapes), this.upload),
      this.spec.columns.length > 1 ? h("div", { class: "field columns" }, "Column that is drawn", this.columns) : null,
      h("details", null, h("summary", null, "As CSV: paste or edit"), this.area),
    ];
  }

  text() {
    return this.area.value;
  }

  timesteps() {
    return this.series?.timesteps ?? Math.max(1, this.area.value.trim().split("\n").length - 1);
  }

  /** Shows what the model expects: of the column that is drawn, if it forecasts that. */
  overlay(rows) {
    this.#rows = rows;
    const [output] = this.spec.outputs;
    this.place_of = output.features.indexOf(this.spec.columns[this.place]?.name);
    this.#predicted = this.spec.task === "forecast" && this.place_of >= 0 ? rows.map((row) => row.outputs[output.name][this.place_of]) : [];
    this.#draw();
  }

  #drawn(at, share) {
    const { low, high } = this.#range;
    if (!this.series) return;
    this.series.set(this.place, at, low + (high - low) * share);
    this.#forget();
    this.#draw();
  }

  #pasted(text) {
    this.series = fromCsv(text, this.spec.columns, this.spec.calendar);
    this.#edited(true, true, true);
  }

  #resized() {
    const wanted = Math.round(Number(this.length.value));
    if (this.series && wanted >= 1 && wanted <= LONGEST) this.series.resize(wanted);
    this.#edited();
  }

  #edited(tell = true, scale = true, typed = false) {
    if (this.series && !typed) this.area.value = this.series.csv();
    this.length.value = this.timesteps();
    this.#forget();
    if (scale) this.#scale();
    this.#chips();
    this.#draw();
    if (tell) this.changed();
  }

  /** Lets go of what was answered to another series. */
  #forget() {
    this.#predicted = [];
    this.#rows = [];
  }

  #chosen(place) {
    this.place = place;
    this.#scale();
    this.#chips();
    this.overlay(this.#rows);
  }

  #chips() {
    if (this.columns.tagName === "SELECT") return;
    const told = (place) => ({ type: "button", "aria-pressed": String(this.place === place), onclick: () => {
      this.#chosen(place);
      this.columns.children[place].focus();
    } });
    this.columns.replaceChildren(...this.spec.columns.map((column, place) => h("button", told(place), column.name)));
  }

  #range = { low: 0, high: 1 };

  #scale() {
    const { middle, spread } = this.spec.columns[this.place];
    const values = this.series?.values[this.place] ?? [];
    const seen = range([...values, middle - 1.5 * spread, middle + 1.5 * spread]);
    this.#range = seen;
  }

  #draw() {
    if (!this.series) return this.track.draw([], this.timesteps());
    const others = this.series.values.flatMap((values, place) =>
      place === this.place ? [] : [{ values, ...range(values, this.spec.columns[place].spread), colour: named("rule"), wide: 1.2 }]);
    const drawn = { values: this.series.values[this.place], ...this.#range, colour: this.#predicted.length ? named("firm") : lines()[0], wide: 2.2 };
    const expected = { values: this.#predicted, ...this.#range, colour: named("accent"), wide: 1.8, shift: 1, dots: true };
    return this.track.draw([...others.slice(0, 24), drawn, ...(this.#predicted.length ? [expected] : [])], this.timesteps());
  }
}

function upload(work, accept) {
  const input = h("input", { type: "file", accept, class: "hidden", "aria-label": "A file", tabindex: "-1", onchange: () => input.files[0] && work(input.files[0]) });
  return h("span", null, input, h("button", { type: "button", onclick: () => input.click() }, "Open a file…"));
}
