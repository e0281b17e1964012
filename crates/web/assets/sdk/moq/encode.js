// Pictures and sound made into what travels, by WebCodecs.

/**
 * Codecs in the order in which they are tried: what every phone decodes in hardware first. H.264 at level 3.1 and constrained
 * baseline, or 4.0 for larger pictures.
 */
const VIDEO_CODECS = {
  H264: ({ width, height }) => (width * height > 1280 * 720 ? "avc1.42e028" : "avc1.42e01f"),
  VP8: () => "vp8",
  VP9: () => "vp09.00.40.08",
};

/** A keyframe begins a group, and a group is what newcomers begin with. */
const KEYFRAME_EVERY_MICROS = 2_000_000;
/** Pictures waiting for the encoder: a slow one makes fewer, not later ones. */
const MAX_ENCODING = 2;

/**
 * An encoder's configuration for pictures of this size; `codec` is tried first. Null if this browser can encode none.
 */
export async function videoConfig({ codec, width, height, bitrate, framerate }) {
  // H.264 halves what it knows of colour: odd sizes have no half.
  const size = { width: width & ~1, height: height & ~1 };
  const order = [codec, ...Object.keys(VIDEO_CODECS)].filter((name) => name in VIDEO_CODECS);
  for (const name of new Set(order)) {
    const config = {
      codec: VIDEO_CODECS[name](size),
      ...size,
      bitrate,
      framerate,
      latencyMode: "realtime",
      // Parameter sets in the stream, so that whoever joins finds them there.
      ...(name === "H264" ? { avc: { format: "annexb" } } : {}),
    };
    const { supported } = await VideoEncoder.isConfigSupported(config).catch(() => ({ supported: false }));
    if (supported) return { name, config };
  }
  return null;
}

/** Encodes pictures. `onChunk({micros, data, key})` is called with each. */
export class PictureEncoder {
  #encoder;
  #config;
  #keyAt = -Infinity;
  #wantsKey = true;

  constructor(config, onChunk, onFailed) {
    this.#config = config;
    this.encoded = 0;
    this.skipped = 0;
    this.#encoder = new VideoEncoder({
      output: (chunk) => {
        const data = new Uint8Array(chunk.byteLength);
        chunk.copyTo(data);
        this.encoded += 1;
        onChunk({ micros: chunk.timestamp, data, key: chunk.type === "key" });
      },
      error: onFailed,
    });
    this.#encoder.configure(config);
  }

  get bitrate() {
    return this.#config.bitrate;
  }

  /** Encodes a picture, and closes it. */
  push(picture) {
    if (this.#encoder.state !== "configured" || this.#encoder.encodeQueueSize >= MAX_ENCODING) {
      this.skipped += 1;
      picture.close();
      return;
    }
    const keyFrame = this.#wantsKey || picture.timestamp - this.#keyAt >= KEYFRAME_EVERY_MICROS;
    if (keyFrame) this.#keyAt = picture.timestamp;
    this.#wantsKey = false;
    this.#encoder.encode(picture, { keyFrame });
    picture.close();
  }

  /** The next picture is a keyframe. */
  wantKey() {
    this.#wantsKey = true;
  }

  setBitrate(bitrate) {
    if (this.#encoder.state !== "configured" || bitrate === this.#config.bitrate) return;
    this.#config = { ...this.#config, bitrate };
    this.#encoder.configure(this.#config);
    this.#wantsKey = true;
  }

  close() {
    if (this.#encoder.state !== "closed") this.#encoder.close();
  }
}

/** Encodes sound as Opus, two channels. `onChunk({micros, data})` is called with each packet. */
export class SoundEncoder {
  #encoder;

  constructor(bitrate, onChunk, onFailed) {
    this.#encoder = new AudioEncoder({
      output: (chunk) => {
        const data = new Uint8Array(chunk.byteLength);
        chunk.copyTo(data);
        onChunk({ micros: chunk.timestamp, data });
      },
      error: onFailed,
    });
    this.#encoder.configure({ codec: "opus", sampleRate: 48_000, numberOfChannels: 2, bitrate });
  }

  push(sound) {
    if (this.#encoder.state === "configured") this.#encoder.encode(sound);
    sound.close();
  }

  close() {
    if (this.#encoder.state !== "closed") this.#encoder.close();
  }
}
