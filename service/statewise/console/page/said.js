// What a model said at one timestep, in words and bars.

import { h, pairs } from "./dom.js";
import { bits, shares, shown, tokenOf } from "./tokens.js";
import { number } from "./words.js";

const MOST = 8;

/** Returns what a row tells: `row` is an answer of the server, `at` its timestep from 0, `inputs` what went in. */
export function said(spec, { row, before, at, timesteps, inputs }) {
  return [
    h("h2", null, `Timestep ${at + 1}`, h("span", { class: "quiet" }, ` of ${timesteps}`)),
    ...(spec.vocabulary ? text(spec, row, before, inputs, at) : [...answer(spec, row), ...went(spec, inputs, at)]),
    h("h3", null, "State"),
    pairs(Object.entries(row.states).map(([name, values]) => [name, reach(values)])),
  ];
}

function text(spec, row, before, inputs, at) {
  const { vocabulary } = spec;
  const [input, output] = [spec.inputs[0].name, spec.outputs[0].name];
  const id = inputs[input][at][0];
  const surprise = before ? bits(before.outputs[output], id) : null;
  const next = shares(row.outputs[output]).map((share, token) => [shown(tokenOf(token, vocabulary), vocabulary), share]);
  return [
    h("div", { class: "big mono" }, shown(tokenOf(id, vocabulary), vocabulary)),
    h("p", { class: "quiet" }, surprise === null ? "the first token" : `came with a surprise of ${surprise.toFixed(2)} bits`),
    h("h3", null, "What may come next"), bars(next),
  ];
}

function answer(spec, row) {
  return spec.outputs.flatMap((output) => {
    const values = row.outputs[output.name];
    const names = output.features.length ? output.features : values.map((_, place) => (values.length > 1 ? `${output.name}.${place}` : output.name));
    if (spec.task === "classify") return [h("h3", null, "It takes it for"), bars(names.map((name, place) => [name, values[place]]))];
    const title = spec.task === "forecast" ? "It expects next" : output.name;
    return [h("h3", null, title), ...names.slice(0, MOST).map((name, place) =>
      h("div", { class: "said" }, h("span", { class: "big" }, number(values[place])), h("span", { class: "quiet" }, ` ${name}`)))];
  });
}

function went(spec, inputs, at) {
  const told = spec.columns.slice(0, 2 * MOST).map((column) => [column.name, number(inputs[column.input][at][column.place])]);
  const calendar = spec.calendar?.step_seconds
    ? [["time", new Date(inputs[spec.calendar.input][at][0] * spec.calendar.step_seconds * 1000).toISOString().slice(0, 16).replace("T", " ")]] : [];
  return [h("h3", null, "What went in"), pairs([...calendar, ...told])];
}

function bars(entries) {
  const best = [...entries].sort(([, a], [, b]) => b - a).slice(0, MOST);
  return h("ol", { class: "bars" }, best.map(([name, share]) => {
    const bar = h("i");
    bar.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    return h("li", null, h("span", { class: "mono" }, name), h("span", { class: "bar-of" }, bar), h("span", { class: "share" }, `${(share * 100).toFixed(1)} %`));
  }));
}

function reach(values) {
  const known = values.filter((value) => value !== null);
  return `${number(Math.min(...known))} to ${number(Math.max(...known))}`;
}
