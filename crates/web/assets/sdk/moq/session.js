// A MoQ session over WebTransport, or a websocket where that does not come about: tracks are subscribed to, or offered.

import { HaulError } from "../error.js";
import { rest } from "../rest.js";
import { SocketTransport } from "./socket.js";
import { ANNOUNCE, GROUP, Reader, SUBSCRIBE, clientSetup, join, serverSetup, sized, text, varint } from "./wire.js";

/** The status of a broadcast that is there. */
const ACTIVE = 1;
/** How long a session may take to come about. Where UDP is blocked, nothing answers at all. */
const CONNECT_MAX_MS = 5_000;
/** WebTransport that is not there after so long gets a websocket beside it; whichever is first carries the session. */
const HEAD_START_MS = 1_200;

/** The network has let a websocket through and no WebTransport: later sessions don't wait for it. */
let socketFirst = false;

/** Whether this browser has what publishing by MoQ takes. */
export function canPublish() {
  return "VideoEncoder" in globalThis && "AudioEncoder" in globalThis;
}

/**
 * Connects to `live` at the server at `base`. Rejects with a `HaulError`: `moq_off` if the server speaks no MoQ, a status
 * where the server refuses, `network` where no session came about, and `why` is `no_session` if HTTP does.
 */
export async function connect({ base = location.origin, live, token, signal }) {
  const door = await rest("/v1/moq", { base }).catch((error) => {
    throw error.status === 404 ? new HaulError("moq_off", "The server speaks no Media over QUIC.") : error;
  });
  const home = door.url || `https://${new URL(base).hostname}:${door.port}`;
  const url = new URL(`/${encodeURIComponent(live)}`, home);
  if (token) url.searchParams.set("jwt", token);
  let timer = 0;
  const tries = [];
  try {
    const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("no answer")), CONNECT_MAX_MS)));
    return await Promise.race([first(ways(url, door, base), tries), late, aborted(signal)]);
  } catch (error) {
    for (const one of tries) one.close();
    if (signal && signal.aborted) throw new HaulError("aborted");
    throw (await refusal({ base, live, token })) || new HaulError("network", `No session by MoQ: ${error.message}`, { why: "no_session" });
  } finally {
    clearTimeout(timer);
  }
}

/** The ways to the server, in the order in which they are tried: `{carrier, open}`. */
function ways(url, { url: publicUrl, certificate_sha256: hash }, base) {
  const found = [];
  if ("WebTransport" in globalThis) {
    const options = { congestionControl: "low-latency" };
    if (hash) options.serverCertificateHashes = [{ algorithm: "sha-256", value: hex(hash) }];
    found.push({ carrier: "quic", open: () => new WebTransport(url, options) });
  }
  // Websockets know authorities only; without one, a page that itself is not secret may do without.
  const secure = Boolean(publicUrl) || new URL(base).protocol === "https:";
  if (!secure || !hash) {
    const address = new URL(url);
    address.protocol = secure ? "wss:" : "ws:";
    found.push({ carrier: "websocket", open: () => new SocketTransport(address) });
  }
  return socketFirst ? found.reverse() : found;
}

/** The session of the first way that comes about; each later one begins when those before have failed, or had their time. */
async function first(found, tries) {
  const attempts = [];
  let won = false;
  for (const { carrier, open } of found) {
    const attempt = (async () => {
      const transport = open();
      tries.push(transport);
      transport.closed.catch(() => {});
      const setup = await begin(transport);
      if (won) throw new Error("another was first");
      won = true;
      socketFirst = carrier === "websocket" && "WebTransport" in globalThis;
      for (const other of tries) if (other !== transport) other.close();
      return new Session(transport, setup, carrier);
    })();
    attempts.push(attempt);
    const lost = attempt.then(() => false, () => true);
    const time = new Promise((resolve) => setTimeout(() => resolve(true), HEAD_START_MS));
    if (!(await Promise.race([lost, time]))) return attempt;
  }
  if (attempts.length === 0) throw new Error("no way to the server");
  return Promise.any(attempts).catch((error) => {
    throw error.errors ? error.errors.at(-1) : error;
  });
}

async function begin(transport) {
  await transport.ready;
  const setup = await transport.createBidirectionalStream();
  const writer = setup.writable.getWriter();
  await writer.write(clientSetup());
  await serverSetup(new Reader(setup.readable));
  return writer;
}

/** A page is not told why WebTransport was refused. The same question over HTTP has an answer. */
async function refusal({ base, live, token }) {
  const asked = await rest(`/v1/lives/${encodeURIComponent(live)}`, { base, token }).catch((error) => error);
  return asked instanceof HaulError ? asked : null;
}

function aborted(signal) {
  return new Promise((_, reject) => {
    if (!signal) return;
    if (signal.aborted) reject(new HaulError("aborted"));
    signal.addEventListener("abort", () => reject(new HaulError("aborted")), { once: true });
  });
}

class Session {
  #transport;
  /** The session lasts as long as the stream that its SETUP was on. */
  #setup;
  #subscriptions = new Map();
  #next = 0;
  #offer = null;
  #announced = [];

  constructor(transport, setup, carrier) {
    /** `quic` or `websocket`. */
    this.carrier = carrier;
    this.#transport = transport;
    this.#setup = setup;
    /** Resolves when it is over, with the code that the server ended it with, or null. */
    this.closed = transport.closed.then(({ closeCode }) => closeCode || null, () => null);
    each(transport.incomingUnidirectionalStreams, (stream) => this.#group(stream));
    each(transport.incomingBidirectionalStreams, (stream) => this.#asked(stream));
  }

  /**
   * Subscribes to a track. `onGroup(sequence, cancel)` returns who takes a group's frames, `{push(bytes), end(whole)}`, or
   * null for one that isn't wanted. `onEnd` is called when the server sends no more. Returns what ends it.
   */
  subscribe(track, priority, { onGroup, onEnd }) {
    const id = this.#next;
    this.#next += 1;
    this.#subscriptions.set(id, onGroup);
    let writer = null;
    let over = false;
    const run = async () => {
      const stream = await this.#transport.createBidirectionalStream();
      writer = stream.writable.getWriter();
      await writer.write(join(varint(SUBSCRIBE), sized(varint(id), text(""), text(track), Uint8Array.of(priority))));
      const reader = new Reader(stream.readable);
      await reader.message();
      if (over) writer.close().catch(() => {});
      // Open for as long as the subscription.
      while (!(await reader.atEnd())) await reader.message();
    };
    run().catch(() => {}).then(() => {
      this.#subscriptions.delete(id);
      if (!over) onEnd();
    });
    return () => {
      over = true;
      this.#subscriptions.delete(id);
      if (writer) writer.close().catch(() => {});
    };
  }

  /** Tells whether the live has a broadcast: `onNews(there)` is called now and whenever that changes. */
  follow(onNews) {
    const run = async () => {
      const stream = await this.#transport.createBidirectionalStream();
      const writer = stream.writable.getWriter();
      await writer.write(join(varint(ANNOUNCE), sized(text(""))));
      const reader = new Reader(stream.readable);
      const first = await reader.message();
      onNews(first.number() > 0);
      while (!(await reader.atEnd())) onNews((await reader.message()).number() === ACTIVE);
    };
    // It ends with the session.
    run().catch(() => {});
  }

  /**
   * Offers a broadcast, the one of the live. `onSubscribe(track, sender)` is told of each reader, and returns what is to be
   * called when they leave, or null for a track that isn't there. `sender.group(sequence)` begins a group.
   */
  offer(onSubscribe) {
    this.#offer = onSubscribe;
    for (const writer of this.#announced) announce(writer);
  }

  close() {
    this.#setup.close().catch(() => {});
    this.#transport.close();
  }

  async #group(stream) {
    const reader = new Reader(stream);
    if ((await reader.varint()) !== GROUP) return reader.cancel();
    const head = await reader.message();
    const onGroup = this.#subscriptions.get(head.number());
    const taker = onGroup && onGroup(head.number(), () => reader.cancel());
    if (!taker) return reader.cancel();
    try {
      while (!(await reader.atEnd())) taker.push(await reader.frame());
      return taker.end(true);
    } catch {
      // Reset by the server, because it has become old, or let go here.
      return taker.end(false);
    }
  }

  async #asked({ readable, writable }) {
    const reader = new Reader(readable);
    const writer = writable.getWriter();
    const type = await reader.varint();
    if (type === ANNOUNCE) {
      await reader.message();
      // Without an offer the question stays open: a broadcast may come.
      if (this.#offer) await announce(writer);
      else this.#announced.push(writer);
      return;
    }
    if (type !== SUBSCRIBE) {
      writer.abort().catch(() => {});
      return;
    }
    const message = await reader.message();
    const id = message.number();
    message.text();
    const sender = { group: (sequence) => this.#begin(id, sequence) };
    const leave = this.#offer && this.#offer(message.text(), sender);
    if (!leave) {
      writer.abort().catch(() => {});
      return;
    }
    // SUBSCRIBE_OK, which says nothing in this version.
    await writer.write(sized());
    try {
      while (!(await reader.atEnd())) await reader.message();
      await writer.close();
    } catch {
      // The session has ended.
    } finally {
      leave();
    }
  }

  /** A group being sent: frames in order, each in full before the next. */
  #begin(id, sequence) {
    const opened = this.#transport.createUnidirectionalStream().then((stream) => stream.getWriter());
    let tail = opened.then((writer) => writer.write(join(varint(GROUP), sized(varint(id), varint(sequence)))));
    const group = {
      /** Bytes that were not taken by the network yet. */
      waiting: 0,
      push(...parts) {
        const bytes = sized(...parts);
        group.waiting += bytes.length;
        tail = tail.then(() => opened).then((writer) => writer.write(bytes)).then(() => (group.waiting -= bytes.length));
        tail.catch(() => {});
      },
      end() {
        tail.then(() => opened).then((writer) => writer.close()).catch(() => {});
      },
      abort() {
        opened.then((writer) => writer.abort()).catch(() => {});
      },
    };
    tail.catch(() => {});
    return group;
  }
}

/** ANNOUNCE_INIT: one broadcast, whose name is empty. */
function announce(writer) {
  return writer.write(sized(varint(1), text(""))).catch(() => {});
}

async function each(streams, take) {
  const reader = streams.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      take(value).catch(() => {});
    }
  } catch {
    // The session has ended.
  }
}

function hex(digits) {
  return Uint8Array.from(digits.match(/../g) || [], (pair) => parseInt(pair, 16));
}
