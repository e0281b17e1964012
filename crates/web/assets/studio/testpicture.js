// A picture and a tone that need no camera: for trying things out, for a phone on plain HTTP, and for tests. Every frame
// differs from the one before, and its clock shows how late a viewer sees it.

const FRAMES_A_SECOND = 30;
const COLOURS = ["#f4f1ea", "#ead9b5", "#9fc1b4", "#5d8f9c", "#2337d9", "#7a4a8c", "#d91f3a"];

/** Starts it. `size` is `[width, height]`; `stop()` ends it, `resume()` starts the tone after the first tap. */
export function testPicture([width, height]) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { alpha: false });
  const started = performance.now();
  let frame = 0;
  const draw = () => paint(context, width, height, (performance.now() - started) / 1000, frame++);
  draw();
  const timer = setInterval(draw, 1000 / FRAMES_A_SECOND);
  const stream = canvas.captureStream(FRAMES_A_SECOND);
  const tone = startTone();
  if (tone) stream.addTrack(tone.track);
  return {
    stream,
    resume: () => tone && tone.context.resume().catch(() => {}),
    stop: () => {
      clearInterval(timer);
      for (const track of stream.getTracks()) track.stop();
      if (tone) tone.context.close().catch(() => {});
    },
  };
}

function paint(context, width, height, seconds, frame) {
  const unit = Math.min(width, height) / 100;
  const sky = context.createLinearGradient(0, 0, width * 0.4, height);
  const hue = 228 + 14 * Math.sin(seconds / 9);
  sky.addColorStop(0, `hsl(${hue} 38% 20%)`);
  sky.addColorStop(1, `hsl(${hue + 40} 34% 34%)`);
  context.fillStyle = sky;
  context.fillRect(0, 0, width, height);

  // Three slow bodies, so that motion is everywhere in the picture.
  for (let i = 0; i < 3; i += 1) {
    const angle = seconds * (0.5 + i * 0.21) + i * 2.1;
    context.globalAlpha = 0.2;
    context.fillStyle = COLOURS[i + 1];
    context.beginPath();
    context.arc(width * (0.5 + 0.36 * Math.cos(angle)), height * (0.44 + 0.27 * Math.sin(angle * 1.3)), unit * (24 - i * 5), 0, 2 * Math.PI);
    context.fill();
  }
  context.globalAlpha = 1;

  const x = width / 2;
  const y = height * 0.42;
  const radius = unit * 30;
  context.lineCap = "round";
  for (let tick = 0; tick < 60; tick += 1) {
    const angle = (tick / 60) * 2 * Math.PI;
    context.strokeStyle = tick % 5 === 0 ? "#ffffff" : "rgb(255 255 255 / 40%)";
    context.lineWidth = tick % 5 === 0 ? unit * 0.9 : unit * 0.5;
    context.beginPath();
    context.moveTo(x + Math.sin(angle) * radius * 0.93, y - Math.cos(angle) * radius * 0.93);
    context.lineTo(x + Math.sin(angle) * radius, y - Math.cos(angle) * radius);
    context.stroke();
  }
  const now = new Date();
  const sweep = ((now.getSeconds() + now.getMilliseconds() / 1000) / 60) * 2 * Math.PI;
  context.strokeStyle = COLOURS[1];
  context.lineWidth = unit * 1.6;
  context.beginPath();
  context.arc(x, y, radius * 1.1, -Math.PI / 2, sweep - Math.PI / 2);
  context.stroke();

  const two = (number) => String(number).padStart(2, "0");
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = "#ffffff";
  context.font = `700 ${unit * 13}px Arial, sans-serif`;
  context.fillText(`${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}`, x, y - unit * 2);
  context.font = `600 ${unit * 6}px Arial, sans-serif`;
  context.fillStyle = COLOURS[1];
  context.fillText(`.${String(now.getMilliseconds()).padStart(3, "0")}`, x, y + unit * 9);
  context.fillStyle = "rgb(255 255 255 / 80%)";
  context.font = `500 ${unit * 3.6}px Arial, sans-serif`;
  context.fillText(`Test picture · frame ${frame}`, x, y + unit * 40);

  const bar = width / COLOURS.length;
  const shift = (frame * 3) % width;
  COLOURS.forEach((colour, i) => {
    const left = (i * bar + shift) % width;
    context.fillStyle = colour;
    context.fillRect(left, height - unit * 6, bar + 1, unit * 6);
    if (left + bar > width) context.fillRect(left - width, height - unit * 6, bar + 1, unit * 6);
  });
}

/** Two soft notes in turn, so that sound is seen to move as well. Null where the browser has no audio. */
function startTone() {
  const Context = window.AudioContext || window.webkitAudioContext;
  if (!Context) return null;
  const context = new Context();
  const out = context.createMediaStreamDestination();
  const loudness = context.createGain();
  loudness.gain.value = 0.06;
  loudness.connect(out);
  for (const [hertz, pulse] of [[220, 0.5], [329.63, 0.33]]) {
    const note = context.createOscillator();
    note.frequency.value = hertz;
    const swell = context.createGain();
    swell.gain.value = 0.5;
    const wave = context.createOscillator();
    wave.frequency.value = pulse;
    const depth = context.createGain();
    depth.gain.value = 0.45;
    wave.connect(depth).connect(swell.gain);
    note.connect(swell).connect(loudness);
    note.start();
    wave.start();
  }
  return { context, track: out.stream.getAudioTracks()[0] };
}
