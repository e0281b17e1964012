// The one error that leaves this module, whatever part it comes from.

/**
 * `code` is what to act on. It is a code of the server (`sold_out`, `rate_limited`, …), or one of the client's own:
 * `disconnected`, `timeout`, `network`, `aborted`. `why` says what exactly was wrong where a code of the server stands for
 * several things (`name_taken`, `link`, …), and `standing` what is in force against the reader, with its `reason` and `until`.
 */
export class HaulError extends Error {
  constructor(code, message, { retryAfterMs, status, why, standing } = {}) {
    super(message || code);
    this.name = "HaulError";
    this.code = code;
    this.retryAfterMs = retryAfterMs;
    this.status = status;
    this.why = why;
    this.standing = standing;
  }
}

/** A pause, cut short when `signal` aborts: then it rejects with code `aborted`. */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(new HaulError("aborted"));
    };
    const timer = setTimeout(() => {
      if (signal) signal.removeEventListener("abort", abort);
      resolve();
    }, ms);
    if (!signal) return;
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
}

/**
 * How long to wait before attempt number `attempt` (0 first): doubles up to `maxMs`, and spreads over the upper half of
 * that, so that thousands of viewers who lost the same server do not all come back in the same instant.
 */
export function backoffMs(attempt, baseMs = 500, maxMs = 15_000) {
  const ceiling = Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 10));
  return ceiling * (0.5 + Math.random() * 0.5);
}
