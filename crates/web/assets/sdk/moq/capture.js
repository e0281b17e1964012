// A MediaStream's pictures and sound, piece by piece, with the time at which each came, in microseconds since 1970.

const SAMPLES = 960;
const SAMPLE_RATE = 48_000;
/** Sound keeps its own time, sample by sample. From this difference to the clock on it is set anew. */
const DRIFT_MAX_MICROS = 100_000;

export function microsNow() {
  return Math.round((performance.timeOrigin + performance.now()) * 1000);
}

/**
 * Calls `onPicture(frame)` with each `VideoFrame` of a track, which it must close. Returns what ends it.
 */
export function capturePictures(track, onPicture) {
  if ("MediaStreamTrackProcessor" in globalThis) {
    const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
    let over = false;
    const run = async () => {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        if (!over) onPicture(new VideoFrame(value, { timestamp: microsNow() }));
        value.close();
      }
    };
    run().catch(() => {});
    return () => {
      over = true;
      reader.cancel().catch(() => {});
    };
  }
  // Elsewhere an element plays the track, and each of its pictures is taken.
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.srcObject = new MediaStream([track]);
  video.play().catch(() => {});
  let over = false;
  const take = () => {
    if (over) return;
    onPicture(new VideoFrame(video, { timestamp: microsNow() }));
    video.requestVideoFrameCallback(take);
  };
  video.requestVideoFrameCallback(take);
  return () => {
    over = true;
    video.srcObject = null;
  };
}

/**
 * Calls `onSound(data)` with each 20 ms of a track as `AudioData`, two channels, which it must close. Resolves with what
 * ends it.
 */
export async function captureSound(track, onSound) {
  const context = new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: "interactive" });
  await context.audioWorklet.addModule(new URL("./tap.js", import.meta.url));
  const source = context.createMediaStreamSource(new MediaStream([track]));
  const tap = new AudioWorkletNode(context, "haul-tap", { numberOfOutputs: 0, channelCount: 2 });
  source.connect(tap);
  let next = null;
  const step = (SAMPLES / SAMPLE_RATE) * 1e6;
  tap.port.onmessage = ({ data }) => {
    const began = microsNow() - step;
    if (next === null || Math.abs(began - next) > DRIFT_MAX_MICROS) next = began;
    const layout = { format: "f32-planar", sampleRate: SAMPLE_RATE, numberOfFrames: SAMPLES, numberOfChannels: 2 };
    onSound(new AudioData({ ...layout, timestamp: next, data }));
    next += step;
  };
  await context.resume();
  return () => {
    tap.port.onmessage = null;
    source.disconnect();
    context.close().catch(() => {});
  };
}
