// How the server is: figures of the last minutes, what is taken of what it takes on, what it serves, what it refused.

import { Chart } from "./chart.js";
import { badges, h, table } from "./dom.js";
import { ago, bytes, count, duration } from "./words.js";

export const TITLE = "Overview";

/** Shows the page; returns what ends it. */
export function show(main, live) {
  const charts = {
    steps: new Chart("Throughput", (value) => [count(value), "steps a second"], 10),
    p99: new Chart("Latency, p99", (value) => duration(value), 1e-4),
    batch: new Chart("Batch fill", (value) => [count(value), "steps a run"], 2),
    sessions: new Chart("Sessions", (value) => [count(value), "open"], 2),
  };
  const capacity = h("section", { class: "card" });
  const refused = h("section", { class: "card" });
  const served = h("section", { class: "card" });
  main.append(
    h("div", { class: "head" }, h("h1", null, "Overview"), h("p", null, "The last five minutes of this server")),
    h("div", { class: "grid figures" }, Object.values(charts).map((chart) => chart.element)),
    served, h("div", { class: "grid" }, capacity, refused));

  const tell = () => {
    draw(charts, live);
    const { overview } = live;
    capacity.replaceChildren(h("h2", null, "Sessions and their memory"), ...meters(overview.capacity));
    served.replaceChildren(h("h2", null, "Served"), ...models(overview.models));
    refused.replaceChildren(h("h2", null, "Refused of late"), refusals(overview));
  };
  const told = keepingFocus(served, tell);
  live.addEventListener("told", told);
  if (live.overview) told();
  return () => live.removeEventListener("told", told);
}

function draw(charts, { samples, overview }) {
  const of = (key) => samples.map((sample) => ({ at: sample.at, value: sample[key] }));
  const last = samples.at(-1);
  const [half, unit] = duration(last?.p50_seconds ?? null);
  charts.steps.draw(of("steps"), overview.now, last ? `${count(last.timesteps)} timesteps, ${count(last.refused)} refused` : "");
  charts.p99.draw(of("p99_seconds"), overview.now, last?.p50_seconds ? `half of them within ${half} ${unit}` : "no steps in this second");
  charts.batch.draw(of("batch"), overview.now, `of at most ${count(overview.capacity.batch)}`);
  charts.sessions.draw(of("sessions"), overview.now, last ? `${count(last.pending)} steps pending` : "");
}

function meters({ sessions, pending, pools }) {
  const states = pools.map((pool) =>
    meter(`States of ${pool.models.join(", ")}`, pool.used, pool.rows, `${bytes(pool.used * pool.row_bytes)} of ${bytes(pool.rows * pool.row_bytes)} reserved`));
  return [
    meter("Sessions open", sessions.used, sessions.limit, ""),
    meter("Steps pending", pending.used, pending.limit, ""),
    ...states,
  ];
}

function meter(name, used, limit, note) {
  return h("div", { class: "meter" },
    h("div", null, h("span", null, name), h("span", null, count(used), h("span", { class: "quiet" }, ` of ${count(limit)}`))),
    h("progress", { max: limit, value: used, "aria-label": name }),
    note ? h("span", { class: "quiet" }, note) : null);
}

function models(told) {
  if (!told.length) return [h("p", { class: "empty" }, "No model yet. The first that is trained into the repository is served at once.")];
  const rows = told.flatMap((model) => model.versions.filter(seen).map((version) => [
    h("a", { href: `#/models/${encodeURIComponent(model.name)}/${version.version}` }, `${model.name}@${version.version}`),
    h("span", null, badges(version), version.role === "canary" ? ` ${count(model.share * 100)} % of new sessions` : ""),
    [version.task, version.cell].filter(Boolean).join(", "),
    version.provider,
    count(version.sessions),
    version.state === "ready" || version.state === "retiring"
      ? h("a", { href: `#/playground/${encodeURIComponent(model.name)}/${version.version}` }, "Play") : "",
  ]));
  const problems = told.filter((model) => model.problem).map((model) => h("p", { class: "problem" }, `${model.name}: ${model.problem}`));
  const columns = [{ name: "Model" }, { name: "State" }, { name: "Kind" }, { name: "Provider" }, { name: "Sessions", number: true }, { name: "" }];
  return [table(columns, rows, { class: "stack" }), ...problems];
}

/** Whether a version is worth a row: it is in memory, gets new sessions, or was refused. */
function seen(version) {
  return version.state !== "not loaded" || version.role;
}

function refusals({ refusals: told, now }) {
  if (!told.length) return h("p", { class: "empty" }, "Nothing since the server started.");
  const rows = told.slice(0, 12).map((each) => [
    h("span", null, h("code", null, each.reason), each.model ? h("span", { class: "quiet" }, ` ${each.model}`) : null,
      each.passing ? h("span", { class: "quiet" }, " clients resume") : null), count(each.count), ago(each.last, now)]);
  return table([{ name: "Reason" }, { name: "Steps", number: true }, { name: "Last", number: true }], rows);
}

/** Returns `work`, after which the link within `element` that had the focus has it again. */
function keepingFocus(element, work) {
  return () => {
    const href = element.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    work();
    if (href) [...element.querySelectorAll("a")].find((link) => link.getAttribute("href") === href)?.focus();
  };
}
