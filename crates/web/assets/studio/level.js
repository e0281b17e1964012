// A small meter that shows that sound comes in.

import { byId } from "../ui/dom.js";

let current = null;

/** Follows a stream's sound, or none. */
export function showLevel(stream) {
  if (current) current();
  current = null;
  const track = stream ? stream.getAudioTracks()[0] : null;
  const box = byId("level");
  box.hidden = !track;
  const Context = window.AudioContext || window.webkitAudioContext;
  if (!track || !Context) return;
  const context = new Context();
  const source = context.createMediaStreamSource(new MediaStream([track]));
  const analyser = context.createAnalyser();
  analyser.fftSize = 512;
  source.connect(analyser);
  const samples = new Uint8Array(analyser.fftSize);
  const bar = byId("level-bar");
  const timer = setInterval(() => {
    if (context.state === "suspended") context.resume().catch(() => {});
    analyser.getByteTimeDomainData(samples);
    let peak = 0;
    for (const sample of samples) peak = Math.max(peak, Math.abs(sample - 128));
    // The ear hears loudness by its logarithm: 40 dB fill the bar.
    const decibels = 20 * Math.log10(Math.max(peak, 1) / 128);
    bar.style.transform = `scaleX(${Math.max(0, Math.min(1, 1 + decibels / 40))})`;
  }, 100);
  current = () => {
    clearInterval(timer);
    source.disconnect();
    context.close().catch(() => {});
  };
}
