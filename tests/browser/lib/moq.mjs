// The server with Media over QUIC switched on.

import { once } from "node:events";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { startHaul } from "./server.mjs";

const DEFAULT_BINARY = fileURLToPath(new URL("../../../target/debug/haul", import.meta.url));

/** Starts `haul` as `startHaul` does, with MoQ on a free port. */
export async function startHaulWithMoq() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  const directory = await mkdtemp(join(tmpdir(), "haul-moq-"));
  const script = join(directory, "haul");
  const binary = process.env.HAUL_BINARY || DEFAULT_BINARY;
  await writeFile(script, `#!/bin/sh\nHAUL__MOQ__LISTEN=127.0.0.1:${port} exec "${binary}" "$@"\n`);
  await chmod(script, 0o755);
  process.env.HAUL_BINARY = script;
  const haul = await startHaul();
  process.env.HAUL_BINARY = binary;
  return {
    ...haul,
    stop: async () => {
      await rm(directory, { recursive: true, force: true });
      return haul.stop();
    },
  };
}

/** A port whose TCP goes to `port`, and whose UDP goes nowhere: a network that carries no QUIC. `{port, close()}`. */
export async function carryTcpTo(port) {
  const sockets = new Set();
  const server = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  return { port: server.address().port, close };
}
