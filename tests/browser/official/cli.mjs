// The ecosystem's own command line against this server: `moq` publishes what ffmpeg makes and subscribes to it again, and
// ffprobe counts what has come, in every version and over everything that the two have in common.
//
//   HAUL_MOQ_CLI=moq node cli.mjs     runs target/debug/haul (or $HAUL_BINARY); needs ffmpeg

import { spawn, spawnSync } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { startHaulWithMoq } from "../lib/moq.mjs";
import { endsWithin, exitCode, expect, step, story, until } from "../lib/report.mjs";

const MOQ = process.env.HAUL_MOQ_CLI || "moq";
/** Longer than all takes on a slow machine: something hangs. */
const MOST_MS = 25 * 60_000;
const SECONDS = 4;
const FRAMES_PER_SECOND = 30;
/** Packets a second: 20 ms of Opus, 1,024 samples of 48,000 of AAC. */
const SOUNDS = { opus: 50, aac: 48_000 / 1_024 };
/** The viewer is there before the host, a host's first GOP is kept for them, and what comes before the end is sent to its end:
 * this part of what was sent has to come. */
const LEAST = 0.9;
const GOP_SECONDS = 1;
const BEGIN_MS = 15_000;
const END_MS = 30_000;

const LITE = ["01", "02", "03", "04", "05", "06"].map((version) => `moq-lite-${version}`);
const TRANSPORT = ["14", "15", "16", "17", "18", "19", "20", "21", "22"].map((version) => `moq-transport-${version}`);
/** Before these, raw QUIC has no place for a path, so that it can't say which live is meant. */
const RAW = ["moq-lite-05", "moq-lite-06", ...TRANSPORT];
/** Websockets negotiate a version by its name, or one of those that are negotiated in the session. */
const SOCKET = ["moq-lite-02", "moq-lite-05", "moq-lite-06", "moq-transport-22"];

const watchdog = endsWithin(MOST_MS);
const directory = await mkdtemp(join(tmpdir(), "haul-moq-cli-"));
const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** A program of this test: `{ended, said}`. */
function run(program, args, stdio) {
  const child = spawn(program, args, { stdio });
  running.add(child);
  const told = { said: "", code: null, child };
  child.stderr.on("data", (data) => (told.said = (told.said + data).slice(-4_000)));
  told.ended = new Promise((resolve) => {
    child.once("exit", (code, signal) => {
      running.delete(child);
      told.code = code ?? signal;
      resolve(told.code);
    });
  });
  return told;
}

/** A clip in real time as ffmpeg makes it, fragmented as in docs/moq.md. */
const clip = (sound) => {
  const pictures = `testsrc2=size=320x180:rate=${FRAMES_PER_SECOND}`;
  const encode = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-bf", "0", "-g", String(GOP_SECONDS * FRAMES_PER_SECOND), "-pix_fmt", "yuv420p"];
  const hear = sound === "aac" ? ["-c:a", "aac"] : ["-c:a", "libopus"];
  // By duration: cut at every frame, ffmpeg repeats a time where sound and pictures alternate, which `moq` refuses.
  const fragment = ["-f", "mp4", "-movflags", "cmaf+separate_moof+delay_moov+skip_trailer", "-frag_duration", "30000"];
  const input = ["-re", "-f", "lavfi", "-i", pictures, "-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"];
  return ["-v", "error", ...input, "-t", String(SECONDS), ...encode, ...hear, ...fragment, "-"];
};

/** The packets of each kind in a file, and the codecs: `{video: [codec, packets], audio: …}`. */
function probe(file) {
  const entries = "stream=codec_type,codec_name,nb_read_packets";
  const args = ["-v", "error", "-count_packets", "-show_entries", entries, "-of", "json", file];
  const { stdout, stderr } = spawnSync("ffprobe", args, { encoding: "utf8" });
  const streams = JSON.parse(stdout || "{}").streams || [];
  expect(streams.length > 0, `ffprobe finds nothing: ${stderr}`);
  return Object.fromEntries(streams.map((one) => [one.codec_type, [one.codec_name, Number(one.nb_read_packets)]]));
}

const version = spawnSync(MOQ, ["--version"], { encoding: "utf8" }).stdout.trim();

await story(`The ecosystem's command line, ${version}`, async () => {
  const haul = await startHaulWithMoq();
  const { port, certificate_sha256: hash } = await (await fetch(`${haul.url}/v1/moq`)).json();
  const token = new URL(haul.studioUrl).hash.match(/token=(.+)/)[1];
  const metric = async (name) => {
    const metrics = await (await fetch(`${haul.url}/metrics`)).text();
    return Number(metrics.match(new RegExp(`^${name} (\\d+)`, "m"))?.[1] ?? NaN);
  };

  /** Publishes and subscribes; returns what has come. */
  async function around(scheme, versions, sound = "opus") {
    const connect = (query) => {
      const options = ["--log-level", "warn", "--connect", `${scheme}://127.0.0.1:${port}/demo${query}`];
      const trust = scheme.startsWith("ws") ? [] : ["--connect-tls-fingerprint", hash, "--connect-websocket-enabled=false"];
      return [...options, ...trust, ...versions.flatMap((one) => ["--connect-version", one])];
    };
    const file = join(directory, "seen.mp4");
    const viewer = run(MOQ, [...connect(""), "export", "fmp4"], ["ignore", "pipe", "pipe"]);
    viewer.child.stdout.pipe(createWriteStream(file));
    const ended = (who) => () => {
      if (who.code !== null) throw new Error(`it ended with ${who.code}: ${who.said}`);
    };
    await until("the viewer is there", async () => {
      ended(viewer)();
      return (await metric("haul_moq_viewers")) === 1;
    }, BEGIN_MS);
    const host = run(MOQ, [...connect(`?jwt=${token}`), "import", "fmp4"], ["pipe", "ignore", "pipe"]);
    const encoder = run("ffmpeg", clip(sound), ["ignore", "pipe", "pipe"]);
    host.child.stdin.on("error", () => {});
    encoder.child.stdout.pipe(host.child.stdin);
    try {
      await until("the viewer has seen the end", () => viewer.code !== null, END_MS);
    } catch (error) {
      throw new Error(`${error.message}\nhost: ${host.said}\nviewer: ${viewer.said}\nencoder: ${encoder.said}`);
    } finally {
      for (const { child } of [viewer, host, encoder]) child.kill("SIGTERM");
      await Promise.all([viewer.ended, host.ended, encoder.ended]);
    }
    await until("nobody is left", async () => (await metric("haul_moq_connections")) === 0, BEGIN_MS);
    const { video = ["none", 0], audio = ["none", 0] } = probe(file);
    const words = `${video[0]} ${video[1]} of ${SECONDS * FRAMES_PER_SECOND}, ${audio[0]} ${audio[1]} of ${Math.round(SECONDS * SOUNDS[sound])}`;
    expect(video[0] === "h264" && video[1] >= LEAST * SECONDS * FRAMES_PER_SECOND, `pictures: ${words}\n${viewer.said}`);
    expect(audio[0] === sound && audio[1] >= LEAST * SECONDS * SOUNDS[sound], `sound: ${words}\n${viewer.said}`);
    return words;
  }

  try {
    await step("over WebTransport, whatever version they agree on", () => around("https", []));
    await step("over raw QUIC, the same", () => around("moqt", []));
    await step("over a websocket, the same", () => around("ws", []));
    await step("with AAC", () => around("https", [], "aac"));
    for (const one of [...LITE, ...TRANSPORT]) await step(`over WebTransport, ${one}`, () => around("https", [one]));
    for (const one of RAW) await step(`over raw QUIC, ${one}`, () => around("moqt", [one]));
    for (const one of SOCKET) await step(`over a websocket, ${one}`, () => around("ws", [one]));
  } finally {
    const code = await haul.stop();
    expect(code === 0, `the server ends well, not with ${code}:\n${haul.log()}`);
  }
});
await rm(directory, { recursive: true, force: true });
clearTimeout(watchdog);
process.exit(exitCode());
