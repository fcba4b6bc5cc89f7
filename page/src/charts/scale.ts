// Where ticks go: at round numbers, and so few that each can be read.

const STEPS = [1, 2, 2.5, 5, 10];

/** Round values from 0 to at least `max`, at most `intervals` steps apart; the last one is the top of the axis. */
export function ticks(max: number, intervals: number, smallest = 0): number[] {
  const top = Math.max(max, smallest);
  if (!(top > 0) || !Number.isFinite(top)) return [0, 1];
  const rough = top / intervals;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = (STEPS.find((one) => one * power >= rough * (1 - 1e-9)) ?? 10) * power;
  const values = [0];
  for (let at = 1; (values.at(-1) ?? 0) < top * (1 - 1e-9); at++) values.push(Number((at * step).toPrecision(12)));
  return values;
}

/** Round times of day between two times, no more than `most`. */
export function times(from: number, to: number, most: number): number[] {
  const second = 1000;
  const every = [10, 15, 30, 60, 120, 300].find((one) => (to - from) / (one * second) <= most) ?? 600;
  const step = every * second;
  const found: number[] = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push(at);
  return found;
}
