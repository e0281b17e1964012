// WebTransport's streams over a websocket, for networks that carry no QUIC and browsers without WebTransport: as much of its
// interface as is used here, in the records of QMux (draft-ietf-quic-qmux-02), one record a message. Frames and parameters are
// those of QUIC (RFC 9000, 18 and 19).

import { join, readVarint, sized, varint } from "./wire.js";

const SUBPROTOCOL = "qmux-02";

const RESET_STREAM = 0x04;
const STOP_SENDING = 0x05;
const STREAM = 0x08;
/** Bits in the type of a frame of a stream. */
const FIN = 0x01;
const LENGTH = 0x02;
const OFFSET = 0x04;
const MAX_DATA = 0x10;
const MAX_STREAM_DATA = 0x11;
const MAX_STREAMS = [0x12, 0x13];
const CONNECTION_CLOSE = 0x1c;
const APPLICATION_CLOSE = 0x1d;
const RESET_STREAM_AT = 0x24;
const DATAGRAM = 0x30;
/** Types of eight bytes, which are more than a number holds. */
const PARAMETERS = "ff5153300d0a0d0a";
const PING = "f48c67529ef8c7bd";
const PONG = "f48c67529ef8c7be";
/** How many numbers follow a type that says nothing that we need. */
const IGNORED = { 0x14: 1, 0x15: 2, 0x16: 1, 0x17: 1 };

/** Parameters: bytes in all, bytes of each kind of stream, and streams. */
const INITIAL = { data: 0x04, bidiOurs: 0x06, bidiTheirs: 0x05, uni: 0x07, streams: [0x08, 0x09] };
/** What the server may send: all that it has, since what comes is read at once and bounded by who reads it. */
const WINDOW = 2 ** 40;
/** The most of a stream in one record: with its header it is below what every peer takes (16,382 bytes). */
const PIECE_BYTES = 16_000;
/** Bytes that may wait in the socket; then streams wait. The socket does not tell when they have gone. */
const MAX_BUFFERED = 128 * 1024;
const LOOK_EVERY_MS = 10;
/** The server asks for a sign of life every second. Where nothing has come for so long, the line is dead. */
const SILENCE_MS = 10_000;
/** Streams are opened in order and may overtake each other by so many. What comes of older ones is of no use any more. */
const MAX_OVERTAKEN = 4_096 * 4;

export class SocketTransport {
  #socket;
  #streams = new Map();
  #seen = new Set();
  #latest = 0;
  /** Streams opened, and those that may be; of both directions, and of one. */
  #opened = [0, 0];
  #allowed = [0, 0];
  #sent = 0;
  #most = 0;
  #initial = {};
  #waiting = [];
  #over = false;
  #timer = 0;
  #heardAt = performance.now();
  #incoming = [null, null];
  #resolve = {};

  constructor(url) {
    this.ready = new Promise((resolve, reject) => Object.assign(this.#resolve, { ready: resolve, failed: reject }));
    this.closed = new Promise((resolve) => (this.#resolve.closed = resolve));
    this.ready.catch(() => {});
    const source = (kind) => new ReadableStream({ start: (controller) => (this.#incoming[kind] = controller) });
    this.incomingBidirectionalStreams = source(0);
    this.incomingUnidirectionalStreams = source(1);
    this.#socket = new WebSocket(url, [SUBPROTOCOL]);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#socket.send(parameters());
    this.#socket.onmessage = ({ data }) => this.#take(data);
    this.#socket.onclose = () => this.#end(0);
    this.#timer = setInterval(() => this.#look(), SILENCE_MS / 4);
  }

  async createBidirectionalStream() {
    const id = await this.#open(0);
    return { readable: this.#readable(id), writable: this.#writable(id, this.#initial.bidiOurs) };
  }

  async createUnidirectionalStream() {
    return this.#writable(await this.#open(1), this.#initial.uni);
  }

  close() {
    if (this.#socket.readyState === WebSocket.OPEN) this.#send(Uint8Array.of(APPLICATION_CLOSE, 0, 0));
    this.#end(0);
  }

  #send(record) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(record);
  }

  /** Takes a record; what is none ends the session. */
  #take(data) {
    this.#heardAt = performance.now();
    try {
      const record = new Cursor(new Uint8Array(data));
      while (!record.atEnd()) this.#frame(record);
    } catch (error) {
      this.#end(0, error);
    }
  }

  #frame(record) {
    const type = record.type();
    if (type === 0) return;
    if (type >= STREAM && type < MAX_DATA) {
      const id = record.number();
      if (type & OFFSET) record.number();
      const data = record.bytes(type & LENGTH ? record.number() : Infinity);
      this.#arrived(id, data, Boolean(type & FIN));
    } else if (type === RESET_STREAM || type === RESET_STREAM_AT) {
      const id = record.number();
      const code = record.number();
      record.number();
      if (type === RESET_STREAM_AT) record.number();
      const stream = this.#stream(id);
      if (stream && stream.read) stream.read.error(new Error(`the server gave the stream up (${code})`));
      if (stream) this.#forget(id, stream, "read");
    } else if (type === STOP_SENDING) {
      const stream = this.#stream(record.number());
      record.number();
      if (stream && stream.stop) stream.stop();
    } else if (type === MAX_DATA) {
      this.#most = Math.max(this.#most, record.number());
      this.#wake();
    } else if (type === MAX_STREAM_DATA) {
      const stream = this.#streams.get(record.number());
      const most = record.number();
      if (stream) stream.most = Math.max(stream.most, most);
      this.#wake();
    } else if (MAX_STREAMS.includes(type)) {
      const kind = MAX_STREAMS.indexOf(type);
      this.#allowed[kind] = Math.max(this.#allowed[kind], record.number());
      this.#wake();
    } else if (type === CONNECTION_CLOSE || type === APPLICATION_CLOSE) {
      this.#end(record.number());
      record.bytes(Infinity);
    } else if (type === DATAGRAM || type === DATAGRAM + 1) {
      record.bytes(type === DATAGRAM ? Infinity : record.number());
    } else if (type === PARAMETERS) {
      this.#known(new Cursor(record.bytes(record.number())));
    } else if (type === PING) {
      this.#send(join(hex(PONG), varint(record.number())));
    } else if (type === PONG) {
      record.number();
    } else if (type in IGNORED) {
      for (let i = 0; i < IGNORED[type]; i += 1) record.number();
    } else {
      throw new Error(`a frame of an unknown type, ${type}`);
    }
  }

  /** What the server says of itself. */
  #known(record) {
    const told = new Map();
    while (!record.atEnd()) {
      const id = record.type();
      const value = record.bytes(record.number());
      const number = readVarint(value);
      told.set(id, number ? number.number : 0);
    }
    const of = (id) => told.get(id) || 0;
    this.#most = of(INITIAL.data);
    this.#allowed = INITIAL.streams.map(of);
    this.#initial = { bidiOurs: of(INITIAL.bidiOurs), bidiTheirs: of(INITIAL.bidiTheirs), uni: of(INITIAL.uni) };
    this.#resolve.ready();
    this.#wake();
  }

  /** The stream of this number, which begins with its first frame if the server has opened it; null if it is over. */
  #stream(id) {
    const known = this.#streams.get(id);
    const theirs = Boolean(id & 1);
    if (known || !theirs || this.#seen.has(id) || id + MAX_OVERTAKEN < this.#latest) return known || null;
    this.#seen.add(id);
    if (id > this.#latest) this.#latest = id;
    if (this.#seen.size > MAX_OVERTAKEN) {
      for (const old of this.#seen) if (old + MAX_OVERTAKEN < this.#latest) this.#seen.delete(old);
    }
    const kind = id & 2 ? 1 : 0;
    const readable = this.#readable(id);
    const stream = kind ? readable : { readable, writable: this.#writable(id, this.#initial.bidiTheirs) };
    this.#incoming[kind].enqueue(stream);
    return this.#streams.get(id);
  }

  #arrived(id, data, fin) {
    const stream = this.#stream(id);
    if (!stream || !stream.read) return;
    if (data.length > 0) stream.read.enqueue(data);
    if (!fin) return;
    stream.read.close();
    this.#forget(id, stream, "read");
  }

  /** A half of a stream is over; with both, nothing is known of it any more. */
  #forget(id, stream, half) {
    delete stream[half];
    if (!stream.read && !stream.stop) this.#streams.delete(id);
  }

  #entry(id) {
    if (!this.#streams.has(id)) this.#streams.set(id, { most: 0 });
    return this.#streams.get(id);
  }

  #readable(id) {
    const stream = this.#entry(id);
    return new ReadableStream({
      start: (controller) => (stream.read = controller),
      cancel: () => {
        if (!stream.read) return;
        this.#send(join(varint(STOP_SENDING), varint(id), varint(0)));
        this.#forget(id, stream, "read");
      },
    });
  }

  #writable(id, most) {
    const stream = this.#entry(id);
    stream.most = most;
    let sent = 0;
    const over = () => this.#forget(id, stream, "stop");
    const frame = (piece, fin) => {
      const head = join(varint(STREAM | OFFSET | LENGTH | (fin ? FIN : 0)), varint(id), varint(sent), varint(piece.length));
      this.#send(join(head, piece));
      sent += piece.length;
      this.#sent += piece.length;
    };
    const reset = () => this.#send(join(varint(RESET_STREAM), varint(id), varint(0), varint(sent)));
    return new WritableStream({
      start: (controller) => {
        stream.stop = () => {
          reset();
          over();
          controller.error(new Error("the server wants no more of the stream"));
          this.#wake();
        };
      },
      write: async (chunk) => {
        for (let at = 0; at < chunk.length; ) {
          const room = () => Math.min(PIECE_BYTES, stream.most - sent, this.#most - this.#sent);
          await this.#until(() => room() > 0 || !stream.stop);
          if (!stream.stop) throw new Error("the stream is over");
          const piece = chunk.subarray(at, at + room());
          frame(piece, false);
          at += piece.length;
        }
      },
      close: () => {
        frame(new Uint8Array(0), true);
        over();
      },
      abort: () => {
        if (!stream.stop) return;
        reset();
        over();
      },
    });
  }

  /** The number of a new stream of ours: of both directions, or of one. */
  async #open(kind) {
    await this.#until(() => this.#opened[kind] < this.#allowed[kind]);
    const id = this.#opened[kind] * 4 + kind * 2;
    this.#opened[kind] += 1;
    return id;
  }

  /** Waits until something is allowed and the socket takes it. Fails when the session is over. */
  async #until(allowed) {
    for (;;) {
      if (this.#over) throw new Error("the session is over");
      if (this.#socket.bufferedAmount > MAX_BUFFERED) await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
      else if (allowed()) return;
      else await new Promise((resolve) => this.#waiting.push(resolve));
    }
  }

  #wake() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #look() {
    if (performance.now() - this.#heardAt > SILENCE_MS) this.#end(0, new Error("nothing comes any more"));
  }

  #end(closeCode, error = new Error("the websocket was closed")) {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#timer);
    this.#resolve.failed(error);
    for (const stream of this.#streams.values()) {
      if (stream.read) stream.read.error(error);
      delete stream.stop;
    }
    this.#streams.clear();
    for (const controller of this.#incoming) controller.close();
    this.#wake();
    this.#socket.close();
    this.#resolve.closed({ closeCode, reason: "" });
  }
}

/** What we take, as a record: it is the first. */
function parameters() {
  const parameter = (id, value) => join(varint(id), sized(varint(value)));
  const { data, bidiOurs, bidiTheirs, uni, streams } = INITIAL;
  const all = [data, bidiOurs, bidiTheirs, uni, ...streams].map((id) => parameter(id, WINDOW));
  return join(hex(PARAMETERS), sized(...all));
}

function hex(digits) {
  return Uint8Array.from(digits.match(/../g), (pair) => parseInt(pair, 16));
}

/** Takes a record apart. */
class Cursor {
  #bytes;

  constructor(bytes) {
    this.#bytes = bytes;
  }

  atEnd() {
    return this.#bytes.length === 0;
  }

  number() {
    const read = readVarint(this.#bytes);
    if (!read) throw new Error("a record ends too soon");
    this.#bytes = this.#bytes.subarray(read.size);
    return read.number;
  }

  /** A number, or its digits where it is one of eight bytes. */
  type() {
    if (this.atEnd() || this.#bytes[0] < 0xc0) return this.number();
    return Array.from(this.bytes(8), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  /** So many bytes, or all that are left. */
  bytes(size) {
    if (size === Infinity) size = this.#bytes.length;
    if (size > this.#bytes.length) throw new Error("a record ends too soon");
    const taken = this.#bytes.subarray(0, size);
    this.#bytes = this.#bytes.subarray(size);
    return taken;
  }
}
