// What a viewer costs the server, beside Janus 1.x (Debian's package `janus`): the same clip, the same harness, in turn on the
// same core.
//
//   node janus.mjs        runs target/release/haul and target/release/haul-loadtest ($HAUL_BINARY, $HAUL_LOADTEST)
//
// The server has the first core, all else the second. A line of JSON a case: `case`, `ours`, `theirs`, `unit`, `ratio`, `max`.
// COMPARE_VIEWERS (80: Janus loses a quarter of the packets of 200 on one core of an AMD EPYC), COMPARE_ROUNDS (3).

import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { endsWithin, exitCode, expect, skip, step, story, until } from "../browser/lib/report.mjs";
import { end, freePort, run, startHaul } from "../browser/lib/server.mjs";

const VIEWERS = Number(process.env.COMPARE_VIEWERS || 80);
const ROUNDS = Number(process.env.COMPARE_ROUNDS || 3);
/** When everybody has joined, and how long the server's time is counted from then on, in milliseconds. */
const JOINED_MS = 20_000;
const COUNTED_MS = 20_000;
const SERVER_CORE = 0;
const OTHER_CORE = 1;
/** The clock of /proc/PID/stat, in ticks a second: fixed on Linux. */
const TICKS = 100;
const PLUGINS = "/usr/lib/x86_64-linux-gnu/janus";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
process.env.HAUL_BINARY ||= here("../../target/release/haul");
const HARNESS = process.env.HAUL_LOADTEST || here("../../target/release/haul-loadtest");

const watchdog = endsWithin(10 * 60_000);
await story("Janus", tell);
clearTimeout(watchdog);
process.exit(exitCode());

async function tell() {
  // Janus gathers no candidates on the loopback interface.
  const address = Object.values(networkInterfaces()).flat().find(({ family, internal }) => family === "IPv4" && !internal)?.address;
  if (!address) return skip("Janus", "this machine has no address beside the loopback's");
  if (!installed("janus")) return skip("Janus", "install Debian's package janus");
  const directory = await mkdtemp(join(tmpdir(), "haul-compare-"));
  const scenario = join(directory, "watch.toml");
  await writeFile(scenario, watching());
  const rounds = [];
  try {
    for (let round = 1; round <= ROUNDS; round += 1) {
      await step(`${VIEWERS} viewers of each, round ${round}`, async () => {
        const ours = await ofHaul(scenario, join(directory, `haul-${round}`));
        const theirs = await ofJanus(address, scenario, join(directory, `janus-${round}`), directory);
        rounds.push({ ours, theirs });
        return `a viewer takes ${ours.cpu.toFixed(0)} µs a second of us, ${theirs.cpu.toFixed(0)} of Janus`;
      });
    }
    await step("a viewer costs no more than with Janus", async () => {
      const cpu = told("processor time of a viewer", "cpu", "µs a second", rounds, 1);
      told("memory of a viewer", "memory", "KB", rounds, 1);
      told("time to the first picture, p95", "picture", "ms", rounds);
      told("delay, p99", "delay", "ms", rounds);
      expect(cpu <= 1, `it costs ${cpu.toFixed(2)} times as much`);
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Writes a case down: the median of the rounds. Returns the ratio. */
function told(name, field, unit, rounds, max) {
  const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
  const ours = median(rounds.map((round) => round.ours[field]));
  const theirs = median(rounds.map((round) => round.theirs[field]));
  const ratio = median(rounds.map((round) => round.ours[field] / round.theirs[field]));
  console.log(JSON.stringify({ case: name, ours: Number(ours.toFixed(1)), theirs: Number(theirs.toFixed(1)), unit, ratio: Number(ratio.toFixed(3)), max }));
  return ratio;
}

async function ofHaul(scenario, report) {
  const haul = await startHaul({ shards: 1 });
  try {
    const token = await haul.mint("--live", "demo", "--role", "host", "--sub", "compare");
    return await measured(haul.pid, scenario, report, `${haul.url}/whip/demo`, `${haul.url}/whep/demo`, token);
  } finally {
    await haul.stop();
  }
}

async function ofJanus(address, scenario, report, directory) {
  const port = await freePort();
  const configuration = join(directory, "etc");
  await mkdir(configuration, { recursive: true });
  for (const [name, text] of Object.entries(configured(configuration, port, address))) await writeFile(join(configuration, name), text);
  const api = `http://127.0.0.1:${port}/janus`;
  const janus = run("janus", ["-F", configuration], directory);
  const door = await (async () => {
    await until("Janus answers", async () => {
      if (janus.ended) throw new Error(`Janus ended at its start:\n${janus.output}`);
      return (await fetch(`${api}/info`).catch(() => null))?.ok;
    });
    return run("taskset", ["-c", OTHER_CORE, process.execPath, here("door.mjs"), await freePort(), api], directory);
  })();
  try {
    await until("its door is open", () => door.output.includes("ready"));
    const url = `http://${address}:${door.spawnargs.at(-2)}`;
    return await measured(janus.pid, scenario, report, `${url}/whip`, `${url}/whep`, "none");
  } finally {
    await end(door, "SIGTERM", 5_000);
    await end(janus, "SIGTERM", 5_000);
  }
}

/** Runs the scenario, and counts the server's time while nobody comes or goes. */
async function measured(pid, scenario, report, whip, whep, token) {
  execFileSync("taskset", ["-apc", String(SERVER_CORE), String(pid)]);
  const before = await memory(pid);
  const harness = run("taskset", ["-c", OTHER_CORE, HARNESS, "run", scenario, "--whip", whip, "--whep", whep, "--token", token, "--report", report, "--threads", "1"], tmpdir());
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  await wait(JOINED_MS);
  const [from, begun] = [await ticks(pid), performance.now()];
  await wait(COUNTED_MS);
  const [to, seconds] = [await ticks(pid), (performance.now() - begun) / 1000];
  const after = await memory(pid);
  await until("the harness is done", () => harness.ended, 60_000);
  const found = JSON.parse(await readFile(join(report, "report.json"), "utf8"));
  const of = (name) => found.measures[name];
  expect(of("join.failed") === 0, `${of("join.failed")} of ${VIEWERS} viewers had no picture:\n${harness.output}`);
  expect(of("media.loss_pct") <= 0.5, `${of("media.loss_pct")} % of the packets were lost:\n${harness.output}`);
  return {
    cpu: (1e6 * (to - from)) / TICKS / seconds / VIEWERS,
    memory: (after - before) / VIEWERS,
    picture: of("join.ttff_p95_ms"),
    delay: of("delay.p99_ms"),
  };
}

/** Processor time of a process with all its threads, in ticks. */
async function ticks(pid) {
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1].split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

/** A process' memory, in KB. */
async function memory(pid) {
  return Number((await readFile(`/proc/${pid}/status`, "utf8")).match(/VmRSS:\s+(\d+)/)[1]);
}

function watching() {
  return `about = "Viewers who stay"
seed = 1
duration_s = ${(JOINED_MS + COUNTED_MS) / 1000 + 5}
levels = ["join.failed_pct <= 0"]
[publisher]
clip = "h264"
[[viewers]]
count = ${VIEWERS}
join_at_s = 2
join_over_s = ${JOINED_MS / 1000 - 6}
`;
}

/** Janus with its VideoRoom, and nothing that would be in the way of a comparison: no limit, no log of each packet. */
function configured(directory, port, address) {
  const others = ["audiobridge", "duktape", "echotest", "lua", "nosip", "recordplay", "sip", "streaming", "textroom", "videocall", "voicemail"];
  const transports = ["mqtt", "nanomsg", "pfunix", "rabbitmq", "websockets"];
  const libraries = (names) => names.map((name) => `libjanus_${name}.so`).join(",");
  return {
    "janus.jcfg": `general: {
  configs_folder = "${directory}"
  plugins_folder = "${PLUGINS}/plugins"
  transports_folder = "${PLUGINS}/transports"
  events_folder = "${directory}/none"
  loggers_folder = "${directory}/none"
  debug_level = 2
  session_timeout = 0
}
media: { ipv6 = false }
nat: { ice_lite = true, full_trickle = false, ice_enforce_list = "${address}" }
plugins: { disable = "${libraries(others)}" }
transports: { disable = "${libraries(transports)}" }
`,
    "janus.transport.http.jcfg": `general: { json = "compact", base_path = "/janus", http = true, port = ${port}, ip = "127.0.0.1", https = false }\n`,
    "janus.plugin.videoroom.jcfg": `room-1: { description = "compared", publishers = 1, bitrate = 8000000, audiocodec = "opus", videocodec = "h264" }\n`,
  };
}

function installed(program) {
  try {
    execFileSync("which", [program]);
    return true;
  } catch {
    return false;
  }
}
