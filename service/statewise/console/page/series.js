// A series that a person draws, pastes or types: a table of numbers, and the CSV that the server reads.

export const TIME = "time";
const DAY = 86_400; // seconds
const BEGIN = Date.UTC(2000, 7, 21) / 1000; // a Monday, in Unix seconds

/** The shapes that a series can be given by a button: share of the way → −1 to 1. */
export const SHAPES = {
  wave: (at, cycles) => 0.8 * Math.sin(2 * Math.PI * at * cycles) + 0.2 * Math.sin(4 * Math.PI * at * cycles + 1),
  step: (at) => (at < 0.35 ? -0.6 : 0.8),
  ramp: (at) => 2 * at - 1,
  spike: (at) => (Math.abs(at - 0.4) < 0.02 ? 1.6 : -0.3),
  flat: () => 0,
};

/** Columns of numbers, `values[column][timestep]`; what else a pasted table had is kept in `rest`. */
export class Series {
  constructor(columns, timesteps, clock) {
    this.columns = columns;
    this.timesteps = timesteps;
    this.clock = clock;
    this.values = columns.map((column) => Array(timesteps).fill(column.middle));
  }

  /** Gives a column a shape; the others keep what they have. */
  shape(place, name, cycles) {
    const { middle, spread, whole } = this.columns[place];
    this.values[place] = this.values[place].map((_, at) => rounded(middle + spread * SHAPES[name](at / this.timesteps, cycles), whole));
  }

  /** Sets one number. */
  set(place, timestep, value) {
    this.values[place][timestep] = rounded(value, this.columns[place].whole);
  }

  /** Makes the series shorter, or longer by its last values. */
  resize(timesteps) {
    this.values = this.values.map((values) => Array.from({ length: timesteps }, (_, at) => values[Math.min(at, values.length - 1)]));
    this.timesteps = timesteps;
  }

  /** Returns the series as CSV. */
  csv() {
    const names = [...(this.clock ? [TIME] : []), ...this.columns.map((column) => column.name)];
    const rows = Array.from({ length: this.timesteps }, (_, at) => [
      ...(this.clock ? [this.clock(at)] : []), ...this.values.map((values) => (Number.isNaN(values[at]) ? "" : values[at])),
    ]);
    return [names, ...rows].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
  }
}

/** Returns how times are written for a model's calendar: ISO dates, or the row's number. */
export function clockOf(calendar) {
  if (!calendar) return null;
  const step = calendar.step_seconds;
  return step ? (at) => new Date((BEGIN + at * step) * 1000).toISOString().slice(0, 19) : (at) => at;
}

/** Returns how often a wave goes up and down in a series: once in the shortest period that the model knows. */
export function cyclesOf(calendar, timesteps) {
  const period = calendar ? Math.min(...calendar.periods) : Math.min(timesteps, 48);
  return Math.max(1, timesteps / period);
}

/** Returns the series that a CSV holds, or `null` if it is not a plain table of numbers in these columns: then the server says why. */
export function fromCsv(text, columns, calendar) {
  const [header, ...rows] = text.trim().split(/\r?\n/).map((line) => line.split(",").map((cell) => cell.trim()));
  const places = columns.map((column) => header.indexOf(column.name));
  if (!rows.length || text.includes('"') || places.includes(-1)) return null;
  const series = new Series(columns, rows.length, clockOf(calendar));
  series.values = places.map((place) => rows.map((row) => (row[place] === "" ? NaN : Number(row[place]))));
  const time = header.indexOf(TIME);
  if (calendar && time >= 0) {
    const times = rows.map((row) => row[time]);
    const known = Date.parse(`${times.at(-1)}Z`) / 1000 || Date.parse(times.at(-1)) / 1000;
    series.clock = (at) => times[at] ?? later(known, at - times.length + 1, calendar.step_seconds, times.at(-1));
  }
  return series;
}

function later(known, timesteps, step, last) {
  return step ? new Date((known + timesteps * step) * 1000).toISOString().slice(0, 19) : Number(last) + timesteps;
}

function rounded(value, whole) {
  return whole ? Math.round(value) : Number(value.toPrecision(6));
}

function quoted(cell) {
  return /[",\r\n]/.test(String(cell)) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell);
}

/** Returns how many timesteps a series begins with. */
export function begin(calendar, task) {
  if (calendar) return Math.min(2 * Math.min(...calendar.periods), DAY / 300);
  return task === "classify" ? 24 : 96;
}
