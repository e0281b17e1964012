// The parts of our MoQ client that need no browser: bytes, groups that overtake each other, and when frames are shown.
// Time is an argument of theirs; here it is the test's.
//
//   node moq_parts.mjs

import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { exitCode, expect, step, story } from "./lib/report.mjs";

// Node takes a file for a module by the package that it is in.
const directory = await mkdtemp(join(tmpdir(), "haul-moq-"));
await cp(fileURLToPath(new URL("../../crates/web/assets/sdk", import.meta.url)), directory, { recursive: true });
await writeFile(join(directory, "package.json"), '{"type":"module"}');
const load = (name) => import(pathToFileURL(join(directory, "moq", name)));
const wire = await load("wire.js");
const { Arrivals } = await load("arrivals.js");
const { Playout } = await load("playout.js");
await rm(directory, { recursive: true, force: true });

const same = (one, other, words) =>
  expect(JSON.stringify(one) === JSON.stringify(other), `${words}: ${JSON.stringify(one)}, not ${JSON.stringify(other)}`);

/** A stream of these pieces of bytes. */
const stream = (...pieces) =>
  new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(Uint8Array.from(piece));
      controller.close();
    },
  });

async function fails(promise, pattern) {
  const error = await promise.then(() => null, (error) => error);
  expect(error && pattern.test(error.message), `fails with ${pattern}, not ${error && error.message}`);
}

/** A frame of the container, whose time is in ms. */
const frame = (ms) => wire.join(wire.varint(ms * 1000), Uint8Array.of(7));

await story("Parts of the MoQ client", async () => {
  await step("numbers are those of RFC 9000, and are read back", () => {
    same([...wire.varint(37)], [0x25], "37");
    same([...wire.varint(15_293)], [0x7b, 0xbd], "15,293");
    same([...wire.varint(494_878_333)], [0x9d, 0x7f, 0x3e, 0x7d], "494,878,333");
    for (const number of [0, 63, 64, 16_383, 16_384, 2 ** 30 - 1, 2 ** 30, 1_800_000_000_000_000, Number.MAX_SAFE_INTEGER]) {
      const bytes = wire.varint(number);
      same(wire.readVarint(bytes), { number, size: bytes.length }, "read back");
      same(wire.readVarint(bytes.subarray(0, -1)), null, "a part");
    }
  });

  await step("a stream is read in its own pieces, however it was cut", async () => {
    const bytes = [...wire.varint(300), ...wire.sized(wire.text("pin"), Uint8Array.of(60)), ...wire.sized(new Uint8Array(2_000))];
    for (const cut of [1, 2, 7, bytes.length]) {
      const pieces = [];
      for (let at = 0; at < bytes.length; at += cut) pieces.push(bytes.slice(at, at + cut));
      const reader = new wire.Reader(stream(...pieces));
      same(await reader.varint(), 300, "a number");
      const message = await reader.message();
      same([message.text(), message.number()], ["pin", 60], "a message");
      expect(!(await reader.atEnd()), "it goes on");
      same((await reader.frame()).length, 2_000, "a frame");
      expect(await reader.atEnd(), "it is over");
    }
  });

  await step("what is cut off, too long or nonsense is an error", async () => {
    await fails(new wire.Reader(stream([0x40])).varint(), /too soon/);
    await fails(new wire.Reader(stream([5, 1, 2])).frame(), /too soon/);
    await fails(new wire.Reader(stream(wire.varint(wire.MAX_FRAME_BYTES + 1))).frame(), /more than/);
    const message = await new wire.Reader(stream([2, 9, 1])).message();
    await fails((async () => message.text())(), /too soon/);
    await fails(wire.serverSetup(new wire.Reader(stream([0x20, 0, 1, 0]))), /not a SETUP/);
    await fails(wire.serverSetup(new wire.Reader(stream([0x21, 0, 1, 1]))), /no version/);
    same(wire.readFrame(new Uint8Array(0)), null, "a frame without a time");
  });

  await step("groups come out in order, whatever order they arrive in", () => {
    const arrivals = new Arrivals(() => {});
    const second = arrivals.begin(2, () => {});
    const first = arrivals.begin(1, () => {});
    second.push(frame(40));
    second.end(true);
    same(arrivals.peek(), null, "the first group may still come");
    first.push(frame(0));
    first.push(frame(20));
    first.end(true);
    const order = [];
    for (let next = arrivals.take(); next; next = arrivals.take()) order.push([next.micros / 1000, next.key]);
    same(order, [[0, true], [20, false], [40, true]], "times, and which begin a group");
    same(arrivals.begin(1, () => {}), null, "a group that is over");
    same(arrivals.lost, 0, "lost");
  });

  await step("a group that is due displaces one that isn't whole, and tells its sender", () => {
    const arrivals = new Arrivals(() => {});
    let cancelled = 0;
    const slow = arrivals.begin(5, () => (cancelled += 1));
    slow.push(frame(0));
    arrivals.begin(6, () => {}).push(frame(1_000));
    expect(!arrivals.dropToLive(({ micros }) => micros <= 900_000), "not due yet");
    expect(arrivals.dropToLive(({ micros }) => micros <= 1_000_000), "due");
    same([arrivals.peek().micros, cancelled, arrivals.lost], [1_000_000, 1, 1], "the next group, and what was given up");
    slow.push(frame(20));
    same(arrivals.waiting, 1, "what comes after is not kept");
  });

  await step("a peer that sends groups or frames without end is not kept whole", () => {
    const arrivals = new Arrivals(() => {});
    for (let sequence = 0; sequence < 1_000; sequence += 1) arrivals.begin(sequence, () => {}).push(frame(sequence));
    expect(arrivals.waiting <= 64 && arrivals.lost >= 900, `${arrivals.waiting} frames are kept`);
    same(arrivals.peek().micros, (1_000 - 64) * 1000, "the newest are");
  });

  await step("frames wait as long as jitter makes necessary, and less when it has gone", () => {
    const playout = new Playout();
    same(playout.due(0), Infinity, "before anything has come");
    // The backlog of a newcomer, and then a calm network.
    for (let ms = 0; ms < 2_000; ms += 20) playout.arrive(ms, 10_000, false);
    for (let ms = 2_000; ms < 4_000; ms += 20) playout.arrive(ms, ms + 8_020, true);
    expect(playout.delayMs >= 60 && playout.delayMs <= 110, `a calm network: ${playout.delayMs} ms`);
    for (let ms = 4_000; ms < 5_000; ms += 20) playout.arrive(ms, ms + 8_020 + (ms % 200 === 0 ? 300 : 0), true);
    expect(playout.delayMs >= 300 && playout.delayMs <= 400, `a jittery one: ${playout.delayMs} ms`);
    const due = playout.due(5_000);
    for (let ms = 5_000; ms < 40_000; ms += 20) playout.arrive(ms, ms + 8_020, true);
    expect(playout.delayMs <= 110, `calm again: ${playout.delayMs} ms`);
    expect(playout.due(5_000) < due, "frames are due earlier again");
    playout.arrive(900_000_000, 60_000, true);
    expect(Math.abs(playout.due(900_000_000) - 60_000) <= 200, "another beginning of time is taken as one");
  });

  await step("pictures follow the sound while it is heard", () => {
    const playout = new Playout();
    playout.arrive(1_000, 5_000, true);
    playout.heard(1_000, 5_300, 5_400);
    same(playout.dueWithSound(1_050, 5_350), 5_350, "with the sound");
    same(playout.dueWithSound(1_050, 5_500), playout.due(1_050), "and without");
  });
});
process.exit(exitCode());
