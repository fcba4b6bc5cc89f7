// Numbers, times and probabilities as they are shown.

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

export const NOTHING = "–";

/** 20,000 */
export function count(value: number | undefined): string {
  return value === undefined || !Number.isFinite(value) ? NOTHING : grouped.format(value);
}

/** "1 face", "20,000 faces" */
export function counted(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** Of a rate: 0.4, 7.3, 993, 1,204 */
export function rate(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return NOTHING;
  return value > 0 && value < 10 ? value.toFixed(1) : count(value);
}

/** For axes: 800, 1.2k, 3M */
export function compact(value: number): string {
  for (const [size, unit] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const) {
    if (Math.abs(value) >= size) return `${trimmed(value / size)}${unit}`;
  }
  return trimmed(value);
}

/** 0.5 ms, 12 ms, 1.24 s, 3 m 20 s, 2 h 5 m */
export function seconds(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return NOTHING;
  if (value === 0) return "0 s";
  if (value < 0.01) return `${trimmed(value * 1000)} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 10) return `${value.toFixed(2)} s`;
  if (value < 60) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} m`;
}

/** Seconds on an axis, whose ticks are round: 0, 5 ms, 2.5 s */
export function axisSeconds(value: number): string {
  if (value === 0) return "0";
  return value < 1 ? `${trimmed(value * 1000)} ms` : value < 60 ? `${trimmed(value)} s` : `${trimmed(value / 60)} m`;
}

/** A probability: 0.97. One that is not quite 1 does not look like it. */
export function probability(value: number): string {
  const text = value.toFixed(2);
  return text === "1.00" && value < 1 ? ">0.99" : text;
}

export function timeOfDay(at: number): string {
  return clock.format(at);
}

export function hourAndMinute(at: number): string {
  return minute.format(at);
}

function trimmed(value: number): string {
  return String(Number(value.toPrecision(value >= 100 ? 3 : 2)));
}
