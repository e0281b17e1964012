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
const { Ways } = await load("../ways.js");
const wire = await load("wire.js");
const { Arrivals } = await load("arrivals.js");
const { Playout } = await load("playout.js");
const { SocketTransport } = await load("socket.js");
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

/** A websocket whose other end is the test's. */
class FakeSocket {
  static OPEN = 1;
  readyState = 0;
  bufferedAmount = 0;
  sent = [];

  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    FakeSocket.latest = this;
  }

  open() {
    this.readyState = FakeSocket.OPEN;
    this.onopen();
  }

  send(bytes) {
    this.sent.push([...bytes]);
  }

  close() {
    this.readyState = 3;
  }

  comes(...parts) {
    this.onmessage({ data: wire.join(...parts.map((part) => Uint8Array.from(part))).buffer });
  }
}

const PARAMETERS = [0xff, 0x51, 0x53, 0x30, 0x0d, 0x0a, 0x0d, 0x0a];
/** What the server says first: the bytes it takes in all, of each stream, and how many streams. */
const parameters = (data, stream, streams) => {
  const of = (id, value) => [id, ...wire.sized(wire.varint(value))];
  const all = [of(4, data), of(5, stream), of(6, stream), of(7, stream), of(8, streams), of(9, streams)].flat();
  return [...PARAMETERS, ...wire.sized(Uint8Array.from(all))];
};

/** Lets what waits for promises go on. */
const settle = async () => {
  for (let turn = 0; turn < 20; turn += 1) await null;
};

async function socket(data = 1_000, stream = 100, streams = 2) {
  globalThis.WebSocket = FakeSocket;
  const transport = new SocketTransport("ws://test/demo");
  const fake = FakeSocket.latest;
  fake.open();
  fake.comes(parameters(data, stream, streams));
  await transport.ready;
  fake.sent.shift();
  return { transport, fake };
}

/** Looks twice a second, from `from` to `to` (in s): when another way was due, in s. It is taken then, and `fails`, or is tried. */
function turns(ways, from, to, { online = true, broken = false, fails = false } = {}) {
  const found = [];
  for (let at = from; at <= to; at += 0.5) {
    if (!ways.due(at * 1000, { online, broken })) continue;
    found.push(at);
    ways.turn(at * 1000);
    if (fails) ways.heard("reconnecting", at * 1000);
  }
  return found;
}

/** One that plays from 0 s on. */
function playing() {
  const ways = new Ways();
  ways.begin(0);
  ways.heard("playing", 0);
  return ways;
}

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

  await step("over a websocket, streams are opened, written, read and ended as in QUIC", async () => {
    globalThis.WebSocket = FakeSocket;
    const opening = new SocketTransport("ws://test/demo");
    FakeSocket.latest.open();
    same(FakeSocket.latest.sent[0].slice(0, 8), PARAMETERS, "our parameters come first");
    same(FakeSocket.latest.protocols, ["qmux-02"], "the subprotocol");
    opening.close();
    await opening.closed;

    const { transport, fake } = await socket();
    const { readable, writable } = await transport.createBidirectionalStream();
    const writer = writable.getWriter();
    await writer.write(Uint8Array.of(1, 2, 3));
    same(fake.sent.pop(), [0x0e, 0, 0, 3, 1, 2, 3], "a frame of stream 0");
    fake.comes([0x0e, 0, 0, 2, 7, 8], [0x0f, 0, 2, 1, 9]);
    const reader = readable.getReader();
    same([[...(await reader.read()).value], [...(await reader.read()).value], (await reader.read()).done], [[7, 8], [9], true], "the answer");
    await writer.close();
    same(fake.sent.pop(), [0x0f, 0, 3, 0], "the end of stream 0");
    const one = await transport.createUnidirectionalStream();
    await one.getWriter().write(Uint8Array.of(5));
    same(fake.sent.pop(), [0x0e, 2, 0, 1, 5], "a stream of one direction");

    // The server's streams, the second of which overtakes the first.
    const incoming = transport.incomingUnidirectionalStreams.getReader();
    fake.comes([0x0a, 7, 1, 71], [0x0b, 3, 1, 31]);
    const [second, first] = [(await incoming.read()).value, (await incoming.read()).value];
    const firsts = first.getReader();
    same([[...(await firsts.read()).value], (await firsts.read()).done], [[31], true], "the first");
    await second.cancel();
    same(fake.sent.pop(), [0x05, 7, 0], "it is not wanted");
    fake.comes([0x0b, 7, 1, 72], [0x0a, 3, 1, 32]);
    fake.comes([0xf4, 0x8c, 0x67, 0x52, 0x9e, 0xf8, 0xc7, 0xbd, 9]);
    same(fake.sent.pop(), [0xf4, 0x8c, 0x67, 0x52, 0x9e, 0xf8, 0xc7, 0xbe, 9], "a sign of life");
    fake.comes([0x1d, 0x41, 0x91, 0]);
    same((await transport.closed).closeCode, 401, "how the server ended it");
    same((await incoming.read()).done, true, "and no more streams");
  });

  await step("over a websocket, no more is sent than the server takes", async () => {
    const { transport, fake } = await socket(150, 100, 1);
    const { writable } = await transport.createBidirectionalStream();
    const writer = writable.getWriter();
    const written = writer.write(new Uint8Array(180));
    await settle();
    const bytes = () => fake.sent.reduce((sum, frame) => sum + frame.length, 0);
    expect(bytes() > 100 && bytes() < 110, `${bytes()} bytes: as much as the stream may have`);
    fake.comes([0x11, 0, 0x41, 0]);
    await settle();
    expect(bytes() > 150 && bytes() < 165, `${bytes()} bytes: as much as there may be in all`);
    fake.comes([0x10, 0x41, 0]);
    await written;
    let opened = false;
    const other = transport.createBidirectionalStream().then(() => (opened = true));
    await settle();
    expect(!opened, "a second stream has to wait");
    fake.comes([0x12, 2]);
    await other;
    fake.comes([0x05, 0, 0]);
    await fails(writer.write(Uint8Array.of(1)), /wants no more/);
    transport.close();
  });

  await step("over a websocket, what is no record ends the session", async () => {
    for (const record of [[0x2f], [0x0e, 0, 0, 9, 1], [0xff, 0xff], [0x04, 3]]) {
      const { transport, fake } = await socket();
      fake.comes(record);
      await transport.closed;
      same(fake.readyState, 3, "the socket is closed");
      await fails(transport.createUnidirectionalStream(), /over/);
    }
    const silent = new SocketTransport("ws://test/demo");
    FakeSocket.latest.onclose();
    await fails(silent.ready, /closed/);
  });

  await step("a way that breaks in the middle is left for the other after eight seconds without a connection", () => {
    const ways = playing();
    same(turns(ways, 0, 60), [], "while it plays");
    ways.heard("away", 62_000);
    same(turns(ways, 62, 65), [], "the connection stands");
    same(turns(ways, 65.5, 69, { broken: true }), [], "it is gone, but not for long");
    ways.heard("reconnecting", 69_000);
    same(turns(ways, 69.5, 75), [73], "eight seconds after it stood");

    const known = playing();
    known.heard("reconnecting", 30_000);
    same(turns(known, 30, 40), [38], "eight seconds after it was known");
    const back = playing();
    back.heard("reconnecting", 30_000);
    back.heard("playing", 37_000);
    same(turns(back, 37, 90), [], "what plays again stays");
  });

  await step("where the host is away, the network is, or the server, no other way is tried", () => {
    const away = playing();
    away.heard("away", 10_000);
    same(turns(away, 10, 3_600), [], "a connection that stands, and no host");
    for (const state of ["waiting", "busy", "refused", "ended", "unsupported"]) {
      const ways = playing();
      ways.heard(state, 10_000);
      same(turns(ways, 10, 3_600), [], state);
    }
    const offline = playing();
    offline.heard("reconnecting", 10_000);
    same(turns(offline, 10, 600, { online: false }), [], "the browser is offline");
    same(turns(offline, 600.5, 612), [608], "and online again");
    const unanswered = playing();
    unanswered.heard("reconnecting", 10_000, true);
    same(turns(unanswered, 10, 600), [], "the server can't be asked");
    unanswered.answered(600_000);
    same(turns(unanswered, 600, 611), [608], "and answers");
    const silent = new Ways();
    silent.begin(0);
    silent.heard("away", 0);
    const found = [];
    for (let at = 0; at < 3_600_000; at += 500) {
      if (!silent.due(at, { online: true, broken: false })) continue;
      found.push(at / 1000);
      silent.turn(at);
      silent.heard("away", at);
    }
    same(found, [12, 24], "a host who sends nothing is looked for by either, once more each");
  });

  await step("where both ways fail, turns grow rare, and none is the last", () => {
    const ways = playing();
    ways.heard("reconnecting", 30_000);
    const found = turns(ways, 30, 4_000, { fails: true });
    same(found.slice(0, 9), [38, 38.5, 53.5, 83.5, 143.5, 263.5, 503.5, 803.5, 1103.5], "turns");
    expect(found.at(-1) > 3_600, "it goes on");
    // One that plays for moments only is no more of a reason to hurry than one that fails.
    ways.heard("playing", 4_000_000);
    ways.heard("reconnecting", 4_002_000);
    const before = found.at(-1);
    same(turns(ways, 4_002, before + 299), [], "it has played for a moment");
    ways.heard("playing", 5_000_000);
    same(turns(ways, 5_000, 5_030), [], "it plays");
    ways.heard("reconnecting", 5_030_000);
    same(turns(ways, 5_030, 5_040), [5_038], "after it has played for long");
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
