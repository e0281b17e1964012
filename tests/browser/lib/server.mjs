// The server under test, and a Redis of its own: started on free ports in directories that go away with them.

import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { until } from "./report.mjs";

const SHARDS = 2;
const DRAIN_WITHIN_MS = 15_000;
const DEFAULT_BINARY = fileURLToPath(new URL("../../../target/debug/haul", import.meta.url));

const children = new Set();
// Only what this process started, and by its own handle.
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130));

/**
 * Starts `haul` with a demo live: `{url, studioUrl, udpPort, pid, log(), mint(…), stop()}`; `udpPort` is the first shard's. `tcp`
 * opens a port for media over TCP, `variables` go over the rest of the configuration. `mint("--live", "*", …)` is
 * `haul token` with the same secret.
 */
export async function startHaul({ gateUrl = "embedded:", shards = SHARDS, tcp = false, variables = {} } = {}) {
  const directory = await mkdtemp(join(tmpdir(), "haul-browser-"));
  const port = await freePort();
  const udpPort = await freeUdpPorts(shards);
  const binary = process.env.HAUL_BINARY || DEFAULT_BINARY;
  const environment = {
    HAUL__DATA_DIR: directory,
    HAUL__DEMO: "true",
    HAUL__HTTP__LISTEN: `127.0.0.1:${port}`,
    HAUL__MEDIA__UDP_PORT: String(udpPort),
    HAUL__MEDIA__SHARDS: String(shards),
    HAUL__MEDIA__ICE_TCP_PORT: String(tcp ? await freePort() : 0),
    HAUL__STORE__GATE_URL: gateUrl,
    ...variables,
  };
  const child = run(binary, ["serve"], directory, environment);
  const url = `http://127.0.0.1:${port}`;
  await until("the server is ready", async () => {
    if (child.ended) throw new Error(`the server ended at its start:\n${child.output}`);
    const answer = await fetch(`${url}/readyz`).catch(() => null);
    return answer && answer.ok && /Studio\s+\S+/.test(child.output);
  });
  return {
    url,
    studioUrl: child.output.match(/Studio\s+(\S+)/)[1],
    udpPort,
    pid: child.pid,
    log: () => child.output,
    mint: async (...options) => {
      const minting = run(binary, ["token", ...options], directory, environment);
      await until("a token", () => minting.ended && minting.output.includes("eyJ"));
      return minting.output.trim();
    },
    /** Ends it as Ctrl-C does, and returns its exit code. */
    stop: async () => {
      const code = await end(child, "SIGINT", DRAIN_WITHIN_MS);
      await rm(directory, { recursive: true, force: true });
      return code;
    },
  };
}

/** Starts an empty Redis: `{url, stop()}`. */
export async function startRedis() {
  const directory = await mkdtemp(join(tmpdir(), "haul-redis-"));
  const port = await freePort();
  const child = run("redis-server", ["--port", port, "--bind", "127.0.0.1", "--dir", directory, "--save", ""], directory);
  await until("Redis answers", async () => {
    if (child.ended) throw new Error(`Redis ended at its start:\n${child.output}`);
    return reachable(port);
  });
  return {
    url: `redis://127.0.0.1:${port}/0`,
    stop: async () => {
      await end(child, "SIGTERM", DRAIN_WITHIN_MS);
      await rm(directory, { recursive: true, force: true });
    },
  };
}

export function run(command, args, directory, variables = {}, input = "ignore") {
  // The configuration of whoever runs the test must not change it.
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("HAUL__"));
  const env = { ...Object.fromEntries(inherited), ...variables };
  const child = spawn(command, args.map(String), { cwd: directory, env, stdio: [input, "pipe", "pipe"] });
  child.output = "";
  child.ended = false;
  const keep = (bytes) => (child.output += bytes);
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  child.on("error", (error) => {
    keep(`${command}: ${error.message}\n`);
    child.ended = true;
  });
  child.on("exit", () => {
    child.ended = true;
    children.delete(child);
  });
  children.add(child);
  return child;
}

export async function end(child, signal, withinMs) {
  if (child.exitCode !== null) return child.exitCode;
  const ended = once(child, "exit");
  child.kill(signal);
  const timer = setTimeout(() => child.kill("SIGKILL"), withinMs);
  const [code] = await ended;
  clearTimeout(timer);
  return code;
}

export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** The first of `count` UDP ports in a row that are free. */
async function freeUdpPorts(count) {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const first = 20_000 + Math.floor(Math.random() * 10_000);
    const sockets = [];
    let free = true;
    for (let i = 0; i < count && free; i += 1) {
      const socket = createSocket("udp4");
      sockets.push(socket);
      socket.bind(first + i);
      free = await once(socket, "listening").then(() => true, () => false);
    }
    sockets.forEach((socket) => socket.close());
    if (free) return first;
  }
  throw new Error("no free UDP ports");
}

async function reachable(port) {
  const socket = connect(port, "127.0.0.1");
  const open = await once(socket, "connect").then(() => true, () => false);
  socket.destroy();
  return open;
}
