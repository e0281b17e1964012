// Bytes of moq-lite 02 (draft-lcurley-moq-lite-02), the version that every browser can negotiate: its SETUP travels in the
// session, where later ones need WebTransport to offer subprotocols. Numbers are QUIC's variable-length integers (RFC 9000, 16).

/** Types of bidirectional streams, and of unidirectional ones. */
export const ANNOUNCE = 1;
export const SUBSCRIBE = 2;
export const GROUP = 0;

const CLIENT_SETUP = 0x20;
const SERVER_SETUP = 0x21;
const MOQ_LITE_02 = 0xff0dad02;

/** The largest message that is read, and the largest frame: a peer that sends more is not talked to. */
const MAX_MESSAGE_BYTES = 64 * 1024;
export const MAX_FRAME_BYTES = 4 * 1024 * 1024;

/** A number up to 2^53 as bytes. */
export function varint(number) {
  if (number < 2 ** 6) return Uint8Array.of(number);
  const size = number < 2 ** 14 ? 2 : number < 2 ** 30 ? 4 : 8;
  const bytes = new Uint8Array(size);
  let rest = number;
  for (let i = size - 1; i >= 0; i -= 1) {
    bytes[i] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  bytes[0] |= { 2: 0x40, 4: 0x80, 8: 0xc0 }[size];
  return bytes;
}

/** The number that `bytes` begin with: `{number, size}`, or null while it isn't whole. */
export function readVarint(bytes) {
  if (bytes.length === 0) return null;
  const size = 1 << (bytes[0] >> 6);
  if (bytes.length < size) return null;
  let number = bytes[0] & 0x3f;
  for (let i = 1; i < size; i += 1) number = number * 256 + bytes[i];
  return { number, size };
}

export function join(...parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Bytes after their length: a message, a text, a frame. */
export function sized(...parts) {
  const body = join(...parts);
  return join(varint(body.length), body);
}

export function text(words) {
  return sized(new TextEncoder().encode(words));
}

/** What a client says first: the versions that it speaks, and no parameters. */
export function clientSetup() {
  const body = join(varint(1), varint(MOQ_LITE_02), varint(0));
  return join(Uint8Array.of(CLIENT_SETUP, body.length >> 8, body.length & 0xff), body);
}

/** Reads the answer to it; throws if the server chose something else. */
export async function serverSetup(reader) {
  const [type, high, low] = await reader.bytes(3);
  if (type !== SERVER_SETUP) throw new Error("the server's answer is not a SETUP");
  const body = await reader.bytes(high * 256 + low);
  const version = readVarint(body);
  if (!version || version.number !== MOQ_LITE_02) throw new Error("the server speaks no version that is known here");
}

/** Takes apart a message that is here as a whole. */
export class Fields {
  #bytes;

  constructor(bytes) {
    this.#bytes = bytes;
  }

  number() {
    const read = readVarint(this.#bytes);
    if (!read) throw new Error("a message ends too soon");
    this.#bytes = this.#bytes.subarray(read.size);
    return read.number;
  }

  text() {
    const size = this.number();
    if (size > this.#bytes.length) throw new Error("a message ends too soon");
    const words = new TextDecoder().decode(this.#bytes.subarray(0, size));
    this.#bytes = this.#bytes.subarray(size);
    return words;
  }
}

/** Reads a stream in pieces of the sizes that it is made of. */
export class Reader {
  #reader;
  #bytes = new Uint8Array(0);

  constructor(stream) {
    this.#reader = stream.getReader();
  }

  /** Whether the stream is over, known only where a piece may begin. */
  async atEnd() {
    return this.#bytes.length === 0 && !(await this.#more());
  }

  async varint() {
    for (;;) {
      const read = readVarint(this.#bytes);
      if (read) {
        this.#bytes = this.#bytes.subarray(read.size);
        return read.number;
      }
      await this.#need();
    }
  }

  async bytes(size) {
    // Pieces are put together once, however many they come in.
    const parts = [this.#bytes];
    let have = this.#bytes.length;
    while (have < size) {
      this.#bytes = new Uint8Array(0);
      await this.#need();
      parts.push(this.#bytes);
      have += this.#bytes.length;
    }
    const all = parts.length === 1 ? parts[0] : join(...parts);
    this.#bytes = all.subarray(size);
    return all.subarray(0, size);
  }

  async sized(most) {
    const size = await this.varint();
    if (size > most) throw new Error(`${size} bytes are more than ${most}`);
    return this.bytes(size);
  }

  async message() {
    return new Fields(await this.sized(MAX_MESSAGE_BYTES));
  }

  frame() {
    return this.sized(MAX_FRAME_BYTES);
  }

  cancel() {
    this.#reader.cancel().catch(() => {});
  }

  async #need() {
    if (!(await this.#more())) throw new Error("a stream ends too soon");
  }

  async #more() {
    for (;;) {
      const { value, done } = await this.#reader.read();
      if (done) return false;
      if (value.length === 0) continue;
      this.#bytes = this.#bytes.length === 0 ? value : join(this.#bytes, value);
      return true;
    }
  }
}

/** A frame of the `legacy` container: its time in microseconds, and what a decoder takes. */
export function readFrame(bytes) {
  const time = readVarint(bytes);
  return time && { micros: time.number, data: bytes.subarray(time.size) };
}
