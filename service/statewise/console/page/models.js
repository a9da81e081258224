// The models: every version, what it takes, returns and remembers, and the report of its training.

import { ask, badge, badges, h, pairs, table } from "./dom.js";
import { count, number } from "./words.js";

export const TITLE = "Models";

/** Shows the page of a version, or of what new sessions of the first model get; returns what ends it. */
export function show(main, live, [name, version]) {
  const list = h("nav", { "aria-label": "Models and versions", class: "card" });
  const detail = h("div", { "aria-live": "polite" });
  let open = true;
  main.append(h("div", { class: "head" }, h("h1", null, "Models"), h("p", null, "What this server has, and how it came about")),
    h("div", { class: "two" }, list, detail));
  ask("api/models").then(async ({ models }) => {
    if (!open) return;
    if (!models.length) detail.append(h("p", { class: "empty" }, "No model yet: `statewise train` makes one."));
    const chosen = models.find((model) => model.name === name) ?? models.find((model) => model.versions.some((each) => each.state === "ready")) ?? models[0];
    if (!chosen) return;
    const which = chosen.versions.find((each) => String(each.version) === version)
      ?? chosen.versions.find((each) => each.role === "default") ?? chosen.versions[0];
    list.append(listed(models, chosen.name, which.version));
    const told = await ask(`api/models/${encodeURIComponent(chosen.name)}/${which.version}`);
    if (open) detail.append(...described(told));
  }).catch((problem) => detail.append(h("p", { class: "problem" }, problem.message)));
  return () => { open = false; };
}

function listed(models, name, version) {
  return h("ul", { class: "list" }, models.map((model) => h("li", null, h("strong", null, model.name),
    model.versions.map((each) => h("a", {
      href: `#/models/${encodeURIComponent(model.name)}/${each.version}`,
      "aria-current": model.name === name && each.version === version ? "true" : null,
    }, `version ${each.version}`, mark(each))))));
}

/** Returns what is worth telling of a version in a list: its role, or why it is not served. */
function mark(version) {
  return version.state === "ready" ? version.role && badge(version.role, "calm") : badges(version)[0];
}

function described(told) {
  const path = `${encodeURIComponent(told.name)}/${told.version}`;
  const top = h("section", { class: "card" },
    h("div", { class: "head2" }, h("h2", null, `${told.name}@${told.version}`), h("span", null, badges(told))),
    told.refused ? h("p", { class: "problem" }, told.refused) : null,
    told.spec ? facts(told) : h("p", { class: "empty" }, "It is not in memory, so its spec is not told."),
    h("p", { class: "row" }, told.spec ? h("a", { class: "button", href: `#/playground/${path}` }, "Play with it") : null,
      told.report ? h("a", { class: "button", href: `report/${path}`, target: "_blank", rel: "noopener" }, "Report in a tab of its own") : null));
  return [top, ...(told.spec ? [spec(told.spec)] : []), report(told, path)];
}

function facts(told) {
  const { about, task, calendar, vocabulary, series } = told.spec;
  const known = Object.entries(about).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value));
  return pairs([
    ["task", task ?? ""],
    ...known.map(([name, value]) => [name.replaceAll("_", " "), typeof value === "number" ? number(value) : String(value)]),
    ["sessions", count(told.sessions)], ["provider", told.provider],
    ["calendar", calendar ? `${calendar.periods.join(", ")} timesteps${calendar.step_seconds ? ` of ${calendar.step_seconds} s` : ""}` : ""],
    ["vocabulary", vocabulary ? (vocabulary.bytes ? "bytes of UTF-8" : `${vocabulary.characters.length} characters`) : ""],
    ["series", series.length ? count(series.length) : ""],
    ["digest", h("code", { title: told.digest }, told.digest.slice(0, 12))],
  ]);
}

function spec({ inputs, outputs, states, constants }) {
  const shape = (tensor) => [tensor.dtype, tensor.shape.length ? `[${tensor.shape.join(", ")}]` : ""].join(" ");
  const names = (tensor) => tensor.features.length ? h("span", { class: "chips" }, tensor.features.map((name) => badge(name))) : "";
  const range = (tensor) => [
    tensor.missing ? "takes missing values" : "",
    tensor.minimum !== null && tensor.maximum !== null ? `${tensor.minimum} to ${tensor.maximum}` : "",
  ].filter(Boolean).join(", ");
  const given = { never: "", may: "may be given at Open", must: "must be given at Open" };
  const part = (title, columns, rows) => rows.length
    ? [h("h3", null, title), table(columns.map((name) => ({ name })), rows, { class: "stack" })] : [];
  return h("section", { class: "card" }, h("h2", null, "What a timestep brings, returns and leaves behind"),
    part("Inputs", ["name", "a timestep", "features", ""], inputs.map((each) => [h("code", null, each.name), shape(each), names(each), range(each)])),
    part("Outputs", ["name", "a timestep", "features"], outputs.map((each) => [h("code", null, each.name), shape(each), names(each)])),
    part("States", ["name", "a session", "starts as", ""], states.map((each) => [h("code", null, each.name), shape(each), number(each.initial), given[each.given]])),
    part("Given at Open", ["name", "shape", "features", ""], constants.map((each) => [
      h("code", null, each.name), `[${each.shape.join(", ")}]`, names(each), [each.required ? "required" : "", each.positive ? "above 0" : ""].filter(Boolean).join(", ")])));
}

function report(told, path) {
  const title = `Report of the training of ${told.name}@${told.version}`;
  return h("section", { class: "card" }, h("h2", null, "How it came about"),
    told.report ? h("iframe", { src: `report/${path}`, sandbox: "", title, loading: "lazy" })
      : h("p", { class: "empty" }, "There is no report beside this version."));
}
