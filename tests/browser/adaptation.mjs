// A viewer behind a line that gets worse and better, in real browsers: three simulcast layers go in, and the one that fits
// comes out. Also a host behind a lossy line.
//
//   node adaptation.mjs          some steps, within 90 s
//   node adaptation.mjs --long   all of them, some minutes
//   node adaptation.mjs --host   only the host behind a lossy line
//
// Freezes are what Chromium counts as such (`totalFreezesDuration`: a picture that stood for three times the mean time
// between pictures, and 150 ms longer than that). Each step begins with a transition, in which the line is already
// different and the server has to find out; it is printed by itself. In all steps together, with their transitions, the
// picture stands still for less than 2 % of the time; where the line is slow, lossy and long at once, that is counted apart.
// Two browsers, a server and a link on two cores stutter by themselves when anything else runs there: the quick form is told
// once more where the first time was not good enough, and then that time counts.

import { behind, startLink } from "./lib/link.mjs";
import { endsWithin, exitCode, expect, step, story, until } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";
import { Watcher, WIDTHS, describe, launchWithCamera, publishLayers, sendsAllLayers } from "./lib/simulcast.mjs";

const long = process.argv.includes("--long");
/** Longer than all steps take: something hangs. */
const MOST_MS = (long ? 10 : 6) * 60_000;
const MOST_FROZEN = 0.02;
/** How much longer than its step a picture may take to come to its size, on a machine that has other things to do. */
const GRACE_MS = 20_000;
/** The goal there too; it was missed (2.5 and 3.1 % on a busy machine), and the long form says so. */
const MOST_FROZEN_APART = 0.02;
/**
 * Until the layer has come down, and until the browser has learnt from some repairs how long it must hold pictures back on a
 * line with loss and a long way.
 */
const TRANSITION_S = 6;

const { full, half, quarter } = WIDTHS;
/**
 * What the line becomes, for how long, and how wide the picture has to be at the step's end. `apart`: loss on a long way, where
 * a repair that is lost too comes too late for any buffer that browsers keep; that is counted by itself.
 */
const QUICK = [
  { words: "rate=none", seconds: 5, width: [full] },
  { words: "rate=500k queue=300ms", seconds: 18, width: [half, quarter] },
  { words: "rate=3M", seconds: 16, width: [full] },
  { words: "loss=0.03", seconds: 14, width: [full] },
  { words: "loss=0 delay=150ms", seconds: 14, width: [full] },
  { words: "loss=0.03 delay=150ms", seconds: 16, width: [full] },
];
const LONG = [
  { words: "rate=none", seconds: 10, width: [full] },
  { words: "rate=500k queue=300ms", seconds: 30, width: [half, quarter] },
  { words: "rate=3M", seconds: 40, width: [full] },
  { words: "rate=3M loss=0.03", seconds: 30, width: [full] },
  { words: "rate=3M loss=0 delay=150ms", seconds: 30, width: [full] },
  { words: "rate=500k loss=0.03 delay=150ms", seconds: 40, width: [half, quarter], apart: true },
  { words: "rate=3M loss=0.03 delay=150ms", seconds: 60, width: [full], apart: true },
  { words: "rate=3M loss=0 delay=20ms jitter=30ms", seconds: 20, width: [full] },
  { words: "rate=3M burst=0.005/0.25/1 jitter=0ms", seconds: 20, width: [full] },
];
/**
 * Loss on the host's way to the server, with 50 ms each way, and how much of the time viewers may see it stand still. What is
 * rare takes long to judge: with one packet in a hundred lost, a repair is lost too once in half a minute.
 */
const HOST_LOSSES = [
  { loss: 0.01, seconds: 60, mostFrozen: 0.02 },
  { loss: 0.05, seconds: 40, mostFrozen: 0.1 },
  { loss: 0.1, seconds: 40, mostFrozen: 0.25 },
];

/** How long the picture stood still in some steps. */
class Sum {
  restS = 0;
  restFrozenS = 0;
  allS = 0;
  allFrozenS = 0;

  add(transition, rest) {
    this.restS += rest.tookS;
    this.restFrozenS += rest.frozenS;
    this.allS += transition.tookS + rest.tookS;
    this.allFrozenS += transition.frozenS + rest.frozenS;
  }

  holds(most) {
    return this.allFrozenS / this.allS < most;
  }

  words() {
    const [all, rest] = [this.allFrozenS / this.allS, this.restFrozenS / this.restS];
    return `${percent(all)} of ${this.allS.toFixed(0)} s; ${percent(rest)} of ${this.restS.toFixed(0)} s without transitions`;
  }

  expect(most) {
    expect(this.holds(most), this.words());
    return this.words();
  }
}

const watchdog = endsWithin(MOST_MS);

const { browser, close } = await launchWithCamera();
const onlyHost = process.argv.includes("--host");
if (!onlyHost) await story("a viewer's line changes", linesAreJudged);
if (long || onlyHost) await story("a host's line is lossy", hostBehindALine);
await close();
clearTimeout(watchdog);
process.exit(exitCode());

async function linesAreJudged() {
  let { usual, apart } = await viewerBehindALine(long ? LONG : QUICK);
  if (!long && !usual.holds(MOST_FROZEN)) {
    console.log(`# once more: ${usual.words()}`);
    ({ usual, apart } = await viewerBehindALine(QUICK));
  }
  await step(`the picture stands still for less than ${percent(MOST_FROZEN)} of the time`, () => usual.expect(MOST_FROZEN));
  if (apart.restS) {
    const name = `with loss on a long way, for less than ${percent(MOST_FROZEN_APART)} of it`;
    await step(name, () => apart.expect(MOST_FROZEN_APART));
  }
}

/** How long the picture stood still on these lines, as usual ones and those that are counted apart. */
async function viewerBehindALine(lines) {
  const haul = await startHaul({ shards: 1 });
  const link = await startLink(haul.udpPort);
  try {
    let host, viewer;
    await step("the host sends three layers", async () => {
      host = await publishLayers(browser, haul);
      await sendsAllLayers(host);
    });
    await step("a viewer behind a clean line sees the largest", async () => {
      viewer = await Watcher.enter(browser, haul, behind(link));
      await until(`the picture is ${full} wide`, async () => ((await viewer.counts()) || {}).width === full);
    });
    const [usual, apart] = [new Sum(), new Sum()];
    for (const line of lines) {
      await step(`${line.words}: the picture is ${line.width.join(" or ")} wide`, async () => {
        await link.set("down", line.words);
        const transition = await viewer.during(Math.min(TRANSITION_S, line.seconds / 2));
        const rest = await viewer.during(line.seconds - transition.tookS);
        (line.apart ? apart : usual).add(transition, rest);
        const words = `transition ${describe(transition)} | then ${describe(rest)}`;
        if (!line.width.includes(rest.widths.at(-1))) {
          const fits = async () => line.width.includes(((await viewer.counts()) || {}).width);
          await until(words, fits, GRACE_MS);
        }
        return words;
      });
    }
    console.log(`# the link: ${JSON.stringify((await link.stats()).down)}`);
    await viewer.leave();
    await host.leave();
    return { usual, apart };
  } catch (error) {
    console.log(haul.log().replace(/token=\S+/g, "token=…").replace(/^/gm, "    | "));
    console.log(`# the link: ${JSON.stringify(await link.stats())}`);
    throw error;
  } finally {
    await link.stop();
    await haul.stop();
  }
}

async function hostBehindALine() {
  const haul = await startHaul({ shards: 1 });
  const link = await startLink(haul.udpPort, { up: "delay=50ms", down: "delay=50ms" });
  try {
    let host, viewer;
    await step("a host 50 ms away sends, and a viewer sees it", async () => {
      host = await publishLayers(browser, haul, behind(link));
      await sendsAllLayers(host);
      viewer = await Watcher.enter(browser, haul);
      await until("there is a picture", () => viewer.counts());
    });
    for (const { loss, seconds, mostFrozen } of HOST_LOSSES) {
      await step(`${loss * 100} % lost on the host's way: frozen for less than ${mostFrozen * 100} % of the time`, async () => {
        await link.set("up", `loss=${loss}`);
        const seen = await viewer.during(seconds);
        expect(seen.frozenS / seen.tookS < mostFrozen, describe(seen));
        return describe(seen);
      });
    }
    console.log(`# the link: ${JSON.stringify((await link.stats()).up)}`);
    await viewer.leave();
    await host.leave();
  } finally {
    await link.stop();
    await haul.stop();
  }
}

function percent(share) {
  return `${(share * 100).toFixed(1)} %`;
}
