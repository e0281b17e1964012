// What the test found, a line each: `ok - …`, `not ok - …`, `skip - …`.

let failed = 0;

/**
 * Runs one step of a story; what it returns is said beside its name. A step that fails ends the story, since what follows
 * rests on it.
 */
export async function step(name, run) {
  const started = performance.now();
  let words;
  try {
    words = await run();
  } catch (error) {
    failed += 1;
    console.log(`not ok - ${name}`);
    console.log(indent(error.stack || String(error)));
    throw new Ended(name);
  }
  console.log(`ok - ${name} (${words || `${Math.round(performance.now() - started)} ms`})`);
}

export function skip(name, reason) {
  console.log(`skip - ${name}: ${reason}`);
}

/** A story that ended at one of its steps, which has been reported. */
export class Ended extends Error {}

/** Tells one story. What fails outside of its steps is reported too. */
export async function story(name, tell) {
  console.log(`# ${name}`);
  try {
    await tell();
  } catch (error) {
    if (error instanceof Ended) return;
    failed += 1;
    console.log(`not ok - ${name}`);
    console.log(indent(error.stack || String(error)));
  }
}

export function exitCode() {
  return failed ? 1 : 0;
}

/** Ends the process with a failure when everything takes longer than so: something hangs. `clearTimeout` is the way out. */
export function endsWithin(ms) {
  return setTimeout(() => {
    console.log(`not ok - everything within ${ms / 1000} s`);
    process.exit(1);
  }, ms);
}

export function expect(truth, words) {
  if (!truth) throw new Error(words);
}

/** Asks until the answer is good: `look()` returns something truthy, or throws, or falsy for "not yet". */
export async function until(words, look, withinMs = 15_000) {
  const deadline = Date.now() + withinMs;
  let last;
  for (;;) {
    last = await look();
    if (last) return last;
    if (Date.now() > deadline) throw new Error(`not within ${withinMs} ms: ${words}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function indent(text) {
  return text.replace(/^/gm, "    ");
}
