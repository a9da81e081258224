// Elements are made here and nowhere else. What comes from a server becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Returns an element. `props` are attributes; `on…` listens, `class`, `hidden` and other booleans are as in HTML. */
export function h(tag, props, ...children) {
  return filled(document.createElement(tag), props, children);
}

/** Returns an SVG element. */
export function s(tag, props, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Returns a table; cells are nodes or text, columns `{name, number}`. */
export function table(columns, rows, props = {}) {
  const kind = (column) => (column.number ? "number" : null);
  return h("div", { class: "scroll" }, h("table", props,
    h("thead", null, h("tr", null, columns.map((column) => h("th", { scope: "col", class: kind(column) }, column.name)))),
    h("tbody", null, rows.map((row) => h("tr", null, row.map((cell, place) =>
      h("td", { class: kind(columns[place]), "data-name": columns[place].name || null }, cell)))))));
}

/** Returns names and values as a list of definitions; what has no value is left out. */
export function pairs(entries) {
  const told = entries.filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return h("dl", null, told.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

/** Returns a small mark with a word in it. */
export function badge(word, kind = "") {
  return h("span", { class: `badge ${kind}` }, word);
}

/** Returns the marks of a version's state and role. */
export function badges(version) {
  const kinds = { ready: "good", retiring: "warn", refused: "bad" };
  return [badge(version.state, kinds[version.state]), ...(version.role ? [badge(version.role, "calm")] : [])];
}

/** Asks the server for JSON; throws an `Error` with the server's own words. */
export async function ask(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error((await response.text()).trim() || `${response.status} ${response.statusText}`);
  return response.json();
}
