// The colours of what is drawn on canvases, in the scheme that the person prefers. Those of gates and states are the trace's.

const dark = matchMedia("(prefers-color-scheme: dark)");
const STOPS = {
  light: {
    gate: ["#fbfaf6", "#b8d4cf", "#4f9a94", "#14525c", "#06222e"],
    state: ["#0b3c6f", "#5a94c4", "#fbfaf6", "#dd8a5f", "#8c2414"],
  },
  dark: {
    gate: ["#1b1f24", "#1f4448", "#2f7f7c", "#72c3bd", "#e2faf4"],
    state: ["#9ccbff", "#3d76ad", "#1b1f24", "#b85f38", "#ffb594"],
  },
};
const LINES = {
  light: ["#1d6f74", "#b93820", "#6a8f3c", "#7b5b96", "#c07d1f", "#3a6ea5"],
  dark: ["#72c3bd", "#ff8e73", "#a9cf77", "#c4a3e0", "#e8b25a", "#86b6ec"],
};
const tables = new Map();

function scheme() {
  return dark.matches ? "dark" : "light";
}

/** Calls `work` whenever the person's scheme changes; returns what ends it. */
export function onScheme(work) {
  dark.addEventListener("change", work);
  return () => dark.removeEventListener("change", work);
}

/** Returns 256 colours, three bytes each, of `gate` (from 0 to 1) or `state` (about 0). */
export function heat(kind) {
  const key = `${scheme()}-${kind}`;
  if (!tables.has(key)) tables.set(key, blended(STOPS[scheme()][kind]));
  return tables.get(key);
}

/** Returns the colours by which lines are told apart. */
export function lines() {
  return LINES[scheme()];
}

/** Returns a colour of the style sheet. */
export function named(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function blended(stops) {
  const rgb = stops.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
  const table = new Uint8ClampedArray(256 * 3);
  for (let place = 0; place < 256; place += 1) {
    const along = (place / 255) * (stops.length - 1);
    const from = Math.min(Math.floor(along), stops.length - 2);
    for (let part = 0; part < 3; part += 1) {
      table[place * 3 + part] = rgb[from][part] + (rgb[from + 1][part] - rgb[from][part]) * (along - from);
    }
  }
  return table;
}
