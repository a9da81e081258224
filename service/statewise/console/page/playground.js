// The playground: which model is at play.

import { ask, h } from "./dom.js";
import { Stage } from "./stage.js";

export const TITLE = "Playground";

/** Shows the page for a version, or for what new sessions of the first model get; returns what ends it, and the session with it. */
export function show(main, live, [name, version]) {
  const choice = h("select", { "aria-label": "Model", onchange: () => { location.hash = choice.value; } });
  const place = h("div", null);
  let stage = null;
  let open = true;
  main.append(h("div", { class: "head" }, h("h1", null, "Playground"), h("p", null, "Watch a model think, through a session of its own")),
    place);
  const fail = (problem) => place.append(h("p", { class: "problem" }, problem.message));
  ask("api/models").then(async ({ models }) => {
    const playable = models.flatMap((model) => model.versions
      .filter((each) => ["ready", "retiring"].includes(each.state) || (model.name === name && String(each.version) === version))
      .map((each) => ({ ...each, name: model.name })));
    if (!open) return;
    if (!playable.length) throw new Error("No model is ready.");
    const asked = playable.find((each) => each.name === name && String(each.version) === version);
    const chosen = asked ?? playable.find((each) => each.name === (name ?? each.name) && each.role === "default") ?? playable[0];
    const told = await ask(`api/models/${encodeURIComponent(chosen.name)}/${chosen.version}`); // which loads it
    if (!open) return;
    Object.assign(chosen, { task: told.task, cell: told.cell });
    const path = (each) => `#/playground/${encodeURIComponent(each.name)}/${each.version}`;
    choice.append(...playable.map((each) => h("option", { value: path(each), selected: each === chosen },
      [`${each.name}@${each.version}`, each.task, each.cell].filter(Boolean).join(" · "))));
    if (!told.spec) throw new Error(told.refused || "The model cannot be loaded.");
    stage = new Stage(told, h("label", { class: "field" }, "Model", choice));
    place.append(stage.element);
  }).catch(fail);
  return () => {
    open = false;
    stage?.close();
  };
}
