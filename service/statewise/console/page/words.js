// Numbers as people read them.

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });

/** Returns a count or a rate: 1,234 or 12.3. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 100 || Number.isInteger(value) ? grouped.format(value) : String(Number(value.toFixed(1)));
}

/** Returns a measured number with six figures. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size && (size < 1e-3 || size >= 1e7) ? value.toExponential(2) : precise.format(value);
}

/** Returns a duration as [number, unit]. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return ["–", ""];
  if (seconds < 1e-3) return [(seconds * 1e6).toFixed(0), "µs"];
  if (seconds < 1) return [(seconds * 1e3).toFixed(seconds < 0.1 ? 1 : 0), "ms"];
  return [seconds.toFixed(2), "s"];
}

/** Returns a size in memory. */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = value < 1 ? 0 : Math.min(Math.floor(Math.log2(value) / 10), units.length - 1);
  return `${(value / 1024 ** power).toFixed(power && value / 1024 ** power < 100 ? 1 : 0)} ${units[power]}`;
}

/** Returns how long ago a moment is, both in Unix seconds. */
export function ago(then, now) {
  const seconds = Math.max(0, Math.round(now - then));
  if (seconds < 2) return "now";
  if (seconds < 60) return `${seconds} s ago`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min ago` : `${span(seconds)} ago`;
}

/** Returns a long duration: 3 h 5 min. */
export function span(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  return minutes < 1440 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(minutes / 1440)} d ${Math.floor(minutes / 60) % 24} h`;
}
