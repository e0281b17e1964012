// A slow or lossy line between a page and the server: the emulated link of tests/link, and pages that are put behind it.

import { createInterface } from "node:readline";
import { dirname, join } from "node:path";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";

import { end, run } from "./server.mjs";

const DEFAULT_BINARY = fileURLToPath(new URL("../../../target/debug/haul", import.meta.url));
const END_WITHIN_MS = 2_000;

/**
 * Starts a link to a UDP port of the server: `{port, udpPort, set(direction, words), stats(), stop()}`. `words` say what it is like,
 * for instance `rate=500k delay=150ms loss=0.03`; `direction` is `up`, `down` or `both`.
 */
export async function startLink(udpPort, { seed = 1, up = "", down = "" } = {}) {
  const binary = join(dirname(process.env.HAUL_BINARY || DEFAULT_BINARY), "haul-test-link");
  const to = ["--to", `127.0.0.1:${udpPort}`];
  const child = run(binary, [...to, "--seed", seed, "--up", up, "--down", down], tmpdir(), {}, "pipe");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`the link ended: ${child.output}`);
    if (value.startsWith("error")) throw new Error(value);
    return value;
  };
  const ask = (line) => {
    child.stdin.write(`${line}\n`);
    return answer();
  };
  const port = Number((await answer()).match(/^listening .*:(\d+)$/)[1]);
  return {
    port,
    udpPort,
    set: (direction, words) => ask(`${direction} ${words}`),
    stats: async () => JSON.parse(await ask("stats")),
    stop: () => {
      child.stdin.end();
      return end(child, "SIGTERM", END_WITHIN_MS);
    },
  };
}

/**
 * Makes a page reach the server's media only over a link: the answers to its offers name a link's address alone. Where there are
 * several, it is that to the port which the answer names.
 */
export function behind(...links) {
  return (page) =>
    page.route(/\/(whip|whep)\//, async (route) => {
      if (route.request().method() !== "POST") return route.continue();
      const response = await route.fetch();
      let named = false;
      const lines = (await response.text()).split("\r\n").flatMap((line) => {
        if (!line.startsWith("a=candidate:")) return [line];
        if (named) return [];
        named = true;
        const port = Number(line.split(" ")[5]);
        const link = links.find(({ udpPort }) => udpPort === port) || links[0];
        return [`a=candidate:1 1 udp 2130706431 127.0.0.1 ${link.port} typ host`];
      });
      return route.fulfill({ response, body: lines.join("\r\n") });
    });
}
