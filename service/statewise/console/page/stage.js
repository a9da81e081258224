// One model at play: its source, its session, the tracks that fill, and what it says at the timestep that is looked at.

import { onScheme } from "./colours.js";
import { h } from "./dom.js";
import { legend, lines, Lines, range } from "./lines.js";
import { said } from "./said.js";
import { Session } from "./socket.js";
import { sourceFor } from "./source.js";
import { alike, Strip } from "./strip.js";
import { bits, shown, tokensOf } from "./tokens.js";

const RATES = [1, 2, 5, 10, 20, 50, 100, 250]; // timesteps a second
const MOST_LINES = 6;
const PER_MESSAGE = 16; // timesteps, at the highest rates
const SORTED_EVERY = 24; // timesteps

export class Stage {
  rows = [];
  opened = null;
  playing = false;
  #cursor = null;
  #stale = true;
  #session = new Session();
  #busy = Promise.resolve();

  /** A stage for a version, as the server tells it; `choice` is the field in which another is chosen. */
  constructor(told, choice) {
    this.told = told;
    this.spec = told.spec;
    this.source = sourceFor(this.spec, () => this.#changed());
    this.strips = [];
    this.#build(choice);
    this.#endScheme = onScheme(() => this.#painted());
    this.#resized = new ResizeObserver(() => this.#place());
    this.#resized.observe(this.tracks);
    this.#changed();
  }

  #endScheme;
  #resized;

  /** Ends the session and whatever listens. */
  close() {
    this.playing = false;
    this.#session.close();
    this.#endScheme();
    this.#resized.disconnect();
  }

  #build(choice) {
    const { spec } = this;
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.tracks = h("div", { class: "tracks", onpointermove: (event) => this.#pointed(event) });
    this.playhead = h("div", { class: "playhead", hidden: true });
    this.scrub = h("input", { type: "range", min: 1, max: 1, value: 1, disabled: true, "aria-label": "Timestep that is looked at", oninput: () => this.look(Number(this.scrub.value) - 1) });
    this.sorted = h("input", { type: "checkbox", checked: true, onchange: () => this.#sort() });
    this.playButton = h("button", { type: "button", class: "main", onclick: () => this.toggle() }, "Play");
    this.stepButton = h("button", { type: "button", onclick: () => this.#once() }, "Step");
    this.resetButton = h("button", { type: "button", onclick: () => this.#changed() }, "Reset");
    this.saveButton = h("button", { type: "button", disabled: true, onclick: () => this.#save() }, "Save numbers");
    this.where = h("span", { class: "where" });
    const pace = h("output", null);
    this.speed = h("input", { type: "range", min: 0, max: RATES.length - 1, value: 4, "aria-label": "Timesteps a second", oninput: () => { pace.textContent = `${this.#rate} a second`; } });
    pace.textContent = `${this.#rate} a second`;
    this.reading = h("section", { class: "card read", "aria-label": "What the model says" });
    this.script = spec.vocabulary ? h("div", { class: "script", tabindex: "0", role: "group", "aria-label": "The text, as the model reads it" }) : null;
    this.element = h("div", null, h("section", { class: "card" }, this.source.element(choice), this.#options()),
      h("div", { class: "stage" },
        h("section", { class: "card" },
          h("div", { class: "head2" }, h("h2", null, "What it does meanwhile"), h("label", { class: "row mid quiet" }, this.sorted, "units that act alike side by side")),
          this.script, this.tracks, h("div", { class: "track" }, h("span", null, h("small", null, "look at")), this.scrub), this.problem),
        this.reading),
      h("section", { class: "card controls", "aria-label": "Controls" }, h("div", { class: "row mid" },
        this.playButton, this.stepButton, this.resetButton, h("span", { class: "speed" }, this.speed, pace), this.saveButton, this.where)));
  }

  get #rate() {
    return RATES[Number(this.speed.value)];
  }

  #options() {
    const { series, constants } = this.spec;
    if (!constants.length) return null;
    this.seriesOf = h("select", { onchange: () => this.#changed() }, h("option", { value: "" }, "none: scale by what is given below"), series.map((name) => h("option", { value: name }, name)));
    this.given = constants.map((constant) => [constant.name, h("input", { type: "text", placeholder: "as known", oninput: () => this.#changed() })]);
    return h("div", { class: "row" },
      series.length ? h("label", { class: "field" }, "Series", this.seriesOf) : null,
      this.given.map(([name, input]) => h("label", { class: "field" }, name, input)));
  }

  #wanted() {
    const constants = {};
    for (const [name, input] of this.given ?? []) if (input.value.trim()) constants[name] = input.value.split(",").map(Number);
    return { model: this.told.name, version: this.told.version, source: this.source.text(), series: this.seriesOf?.value ?? "", constants };
  }

  /** Forgets what was played: the source is another, or is to be read anew. */
  #changed() {
    this.playing = false;
    this.#stale = true;
    this.rows = [];
    this.opened = null;
    this.#cursor = null;
    this.#tell(null);
    for (const strip of this.strips) strip.clear();
    this.#lay();
    this.#painted();
    this.#controls();
  }

  async toggle() {
    if (this.#done()) this.#changed();
    this.playing = !this.playing;
    this.#controls();
    while (this.playing && !this.#done()) {
      const rate = this.#rate;
      const count = Math.min(PER_MESSAGE, Math.max(1, Math.round(rate / 60)));
      const began = performance.now();
      if (!(await this.#step(count))) break;
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, (count * 1000) / rate - (performance.now() - began))));
    }
    this.playing = false;
    this.#sort();
    this.#controls();
  }

  async #once() {
    this.playing = false;
    await this.#step(1);
    this.#sort();
    this.#controls();
  }

  #done() {
    return this.opened !== null && !this.#stale && this.rows.length >= this.opened.timesteps;
  }

  /** Takes the session on; whoever asks meanwhile waits for it. Returns whether it went on. */
  #step(count) {
    this.#busy = this.#busy.then(() => this.#stepped(count));
    return this.#busy;
  }

  async #stepped(count) {
    try {
      if (this.#stale) {
        this.#stale = false;
        const opened = await this.#session.open(this.#wanted());
        if (this.#stale) return false;
        this.opened = opened;
        this.#lay();
      }
      const { rows, refused } = await this.#session.step(count);
      if (this.#stale) return false;
      rows.forEach((row) => this.#add(row));
      this.#tell(refused);
      this.#painted();
      this.#controls();
      return !refused && rows.length > 0;
    } catch (problem) {
      this.#stale = true;
      this.#tell(problem);
      return false;
    }
  }

  #add(row) {
    this.rows.push(row);
    for (const strip of this.strips) strip.add((strip.of === "states" ? row.states : row.gates)[strip.name]);
    if (this.rows.length % SORTED_EVERY === 0) this.#sort();
    this.#cursor = this.rows.length - 1;
  }

  /** Lays out the tracks: the source's, the output's, a strip for each state and gate that the session has. */
  #lay() {
    const { opened, spec } = this;
    const timesteps = opened?.timesteps ?? this.source.timesteps();
    this.output = outputTrack(spec);
    const strips = (of, sizes) => Object.entries(sizes).map(([name, units]) => Object.assign(new Strip(name, units, timesteps), { of }));
    this.states = opened ? strips("states", opened.states) : this.states ?? [];
    this.gates = opened ? strips("gates", opened.gates) : this.gates ?? [];
    this.strips = [...this.states, ...this.gates];
    const group = (title, members) => (members.length ? [h("p", { class: "group" }, title), ...members.map((member) => member.element)] : []);
    this.legend = h("div", null);
    this.tracks.replaceChildren(...[
      this.source.track?.element, this.output?.element, this.output ? this.legend : null,
      ...group("Its state, read after each timestep", this.states),
      ...group("Its gates", this.gates),
      opened?.no_gates ? h("p", { class: "empty" }, opened.no_gates) : null,
      opened ? null : h("p", { class: "empty" }, "Press Play: a session is opened, and its state is shown as it comes about."),
      this.playhead,
    ].filter(Boolean));
    if (this.script) this.#write();
  }

  #sort() {
    const layers = new Map(this.states.filter((strip) => strip.name.startsWith("hidden")).map((strip) => [strip.layer, strip.values]));
    const orders = new Map([...layers].map(([layer, values]) => [layer, this.sorted.checked ? alike(values) : null]));
    for (const strip of this.strips) {
      strip.order(orders.get(strip.layer) ?? null);
      strip.paint();
    }
  }

  /** Looks at a timestep that has been played. */
  look(at) {
    if (!this.rows.length) return;
    this.#cursor = Math.max(0, Math.min(this.rows.length - 1, at));
    this.#read();
    this.#place();
  }

  #pointed(event) {
    const canvas = event.target.closest("canvas");
    if (!canvas || this.playing || !this.rows.length || event.buttons) return;
    const box = canvas.getBoundingClientRect();
    this.look(Math.floor(((event.clientX - box.left) / box.width) * this.opened.timesteps));
  }

  #painted() {
    this.source.overlay(this.rows);
    this.output?.show(this.rows, this.opened, this.legend);
    for (const strip of this.playing ? [] : this.strips) strip.paint();
    this.#read();
    this.#place();
  }

  #read() {
    const at = this.#cursor;
    if (at === null || !this.opened) {
      this.reading.replaceChildren(h("h2", null, "What it says"), h("p", { class: "empty" }, "Nothing yet."));
    } else {
      const about = { row: this.rows[at], before: this.rows[at - 1], at, timesteps: this.opened.timesteps, inputs: this.opened.inputs };
      this.reading.replaceChildren(...said(this.spec, about));
      this.#mark(at);
    }
  }

  #place() {
    const canvas = this.tracks.querySelector("canvas");
    this.playhead.hidden = this.#cursor === null || !canvas;
    if (this.playhead.hidden) return;
    const box = canvas.getBoundingClientRect();
    const left = box.left - this.tracks.getBoundingClientRect().left;
    this.playhead.style.left = `${left + ((this.#cursor + 0.5) / this.opened.timesteps) * box.width}px`;
  }

  #controls() {
    const timesteps = this.opened?.timesteps ?? this.source.timesteps();
    this.playButton.textContent = this.playing ? "Pause" : this.#done() ? "Play again" : "Play";
    this.stepButton.disabled = this.#done();
    this.saveButton.disabled = this.scrub.disabled = !this.rows.length;
    this.scrub.max = Math.max(1, this.rows.length);
    this.scrub.value = (this.#cursor ?? 0) + 1;
    this.where.textContent = `${this.rows.length} of ${timesteps} timesteps`;
  }

  #tell(problem) {
    this.problem.hidden = !problem;
    this.problem.textContent = problem?.message ?? "";
  }

  #write() {
    const { vocabulary } = this.spec;
    const tokens = tokensOf(this.source.text(), vocabulary);
    this.letters = tokens.map((token) => h("span", null, token === "\n" ? "¶\n" : vocabulary.bytes ? shown(token, vocabulary) : token));
    this.script.replaceChildren(...this.letters);
  }

  /** Marks the token that is looked at, and how surprising those before it were. */
  #mark(at) {
    if (!this.letters) return;
    const [input, output] = [this.spec.inputs[0].name, this.spec.outputs[0].name];
    this.letters.forEach((letter, place) => {
      letter.classList.toggle("now", place === at);
      if (place >= this.rows.length || letter.classList.contains("heard")) return;
      letter.classList.add("heard");
      if (!place) return;
      const surprise = bits(this.rows[place - 1].outputs[output], this.opened.inputs[input][place][0]);
      letter.title = `${surprise.toFixed(2)} bits`;
      letter.style.backgroundColor = `color-mix(in srgb, var(--accent) ${Math.min(60, surprise * 7).toFixed(0)}%, transparent)`;
    });
  }

  /** Gives the numbers of what was played to the person, as a CSV file. */
  #save() {
    const url = URL.createObjectURL(new Blob([numbers(this)], { type: "text/csv" }));
    h("a", { href: url, download: `${this.told.name}@${this.told.version}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }
}

/** Returns the track of what comes out, or `null` where the series' own shows it. */
function outputTrack(spec) {
  const [output] = spec.outputs;
  const drawn = spec.columns.some((column) => output.features.includes(column.name));
  if (spec.task === "forecast" && drawn && output.features.length === 1) return null;
  const name = spec.vocabulary ? "surprise, bits" : spec.task === "classify" ? "probability" : output.name;
  const track = new Lines(name, 90);
  track.show = (rows, opened, told) => {
    const timesteps = opened?.timesteps ?? 1;
    const values = rows.map((row) => row.outputs[output.name]);
    if (spec.vocabulary) {
      const tokens = opened?.inputs[spec.inputs[0].name] ?? [];
      const surprise = values.map((_, at) => (at ? bits(values[at - 1], tokens[at][0]) : null));
      track.draw([{ values: surprise, ...range([0, ...surprise]), colour: lines()[0], wide: 1.6 }], timesteps);
      return;
    }
    const places = likeliest(values);
    const scale = spec.task === "classify" ? { low: -0.03, high: 1.03 } : range(values.flatMap((row) => places.map((place) => row[place])));
    track.draw(places.map((place, at) => ({ values: values.map((row) => row[place]), ...scale, colour: lines()[at], wide: 1.8 })), timesteps);
    told.replaceChildren(legend(places.map((place, at) => [output.features[place] ?? `${output.name}.${place}`, lines()[at]])));
  };
  return track;
}

/** Returns the places of the outputs that are highest on average, and so are told apart as lines. */
function likeliest(values) {
  const places = [...(values[0] ?? []).keys()];
  const mean = places.map((place) => values.reduce((sum, row) => sum + (row[place] ?? 0), 0));
  return places.sort((a, b) => mean[b] - mean[a]).slice(0, MOST_LINES);
}

/** Returns what was played as CSV: position, inputs, outputs and states, a row a timestep. */
function numbers({ rows, opened }) {
  const names = (kind, values) => Object.entries(values).flatMap(([name, row]) => row.map((_, place) => `${kind}.${name}.${place}`));
  const flat = (values) => Object.values(values).flat();
  const inputs = (at) => Object.fromEntries(Object.entries(opened.inputs).map(([name, values]) => [name, values[at]]));
  const head = ["position", ...names("input", inputs(0)), ...names("output", rows[0].outputs), ...names("state", rows[0].states), ...names("gate", rows[0].gates)];
  const lines = rows.map((row, at) => [row.position, ...flat(inputs(at)), ...flat(row.outputs), ...flat(row.states), ...flat(row.gates)]);
  return [head, ...lines].map((line) => line.join(",")).join("\n") + "\n";
}
