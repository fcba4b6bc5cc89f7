// Doing a thing again and again, one after the other: a slow answer delays the next question, it does not pile them up.

/**
 * Runs `work` every `everyMs` until `signal` aborts. The returned function has it run now, or, while it runs, once more
 * right after.
 */
export function repeat(everyMs: number, signal: AbortSignal, work: () => Promise<void>): () => void {
  let timer: number | undefined;
  let running = false;
  let again = false;

  const run = async (): Promise<void> => {
    window.clearTimeout(timer);
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      await work();
    } finally {
      running = false;
      if (!signal.aborted) {
        timer = window.setTimeout(run, again ? 0 : everyMs);
        again = false;
      }
    }
  };

  signal.addEventListener("abort", () => window.clearTimeout(timer), { once: true });
  const start = (): void => {
    if (!signal.aborted) void run();
  };
  return start;
}

/** Runs `work` soon after it was asked to, and not more often than every `everyMs`, however often it is asked. */
export function throttle(everyMs: number, signal: AbortSignal, work: () => void): () => void {
  let timer: number | undefined;
  let last = -Infinity;
  signal.addEventListener("abort", () => window.clearTimeout(timer), { once: true });
  return () => {
    if (timer !== undefined || signal.aborted) return;
    timer = window.setTimeout(
      () => {
        timer = undefined;
        last = performance.now();
        work();
      },
      Math.max(0, last + everyMs - performance.now()),
    );
  };
}
