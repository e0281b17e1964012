// The ecosystem's own clients for browsers against this server: `@moq/watch` plays what a host sends by WebRTC, and what
// `@moq/publish` sends is seen by WebRTC in our page. They are installed for this test alone; nothing of them is shipped.
//
//   npm ci && node official.mjs     runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

import { buildSync } from "esbuild";

import { carryTcpTo, startHaulWithMoq } from "../lib/moq.mjs";
import { DESKTOP, Guest, Host, launch } from "../lib/pages.mjs";
import { exitCode, expect, step, story, until } from "../lib/report.mjs";

/** Longer than all takes on a slow machine: something hangs. */
const MOST_MS = 4 * 60_000;

const watchdog = setTimeout(() => {
  console.log(`not ok - everything within ${MOST_MS / 1000} s`);
  process.exit(1);
}, MOST_MS);

const here = fileURLToPath(new URL(".", import.meta.url));
const script = buildSync({
  stdin: { contents: 'import "@moq/watch/element"; import "@moq/publish/element";', resolveDir: here },
  bundle: true,
  format: "esm",
  write: false,
  logLevel: "silent",
}).outputFiles[0].text;
const version = (name) => JSON.parse(readFileSync(`${here}node_modules/@moq/${name}/package.json`)).version;

/** Serves a page with the one element or the other in it. */
const pages = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  if (pathname === "/clients.js") {
    response.setHeader("Content-Type", "text/javascript");
    response.end(script);
    return;
  }
  if (!searchParams.has("url")) {
    response.writeHead(404).end();
    return;
  }
  const url = searchParams.get("url").replace(/&/g, "&amp;");
  const element =
    pathname === "/watch"
      ? `<moq-watch url="${url}" name="" visible="always"><canvas></canvas></moq-watch>`
      : `<moq-publish url="${url}" name="" source="camera"><video muted autoplay></video></moq-publish>`;
  response.setHeader("Content-Type", "text/html");
  response.end(`<!doctype html><script type="module" src="/clients.js"></script>${element}`);
}).listen(0, "127.0.0.1");
await once(pages, "listening");

/** Somebody at such a page, for the MoQ address `url`. */
async function visit(browser, what, url) {
  const context = await browser.newContext({ ...DESKTOP, permissions: ["camera", "microphone"] });
  const page = await context.newPage();
  page.said = [];
  page.on("console", (line) => page.said.push(line.text()));
  page.on("pageerror", (error) => page.said.push(String(error)));
  const address = new URL(`http://127.0.0.1:${pages.address().port}/${what}`);
  address.searchParams.set("url", url);
  await page.goto(address.href);
  return page;
}

const pixels = (page) =>
  page.evaluate(() => {
    const shown = document.querySelector("canvas");
    const small = new OffscreenCanvas(32, 32).getContext("2d");
    small.drawImage(shown, 0, 0, 32, 32);
    return [...small.getImageData(0, 0, 32, 32).data].join(",");
  });

const browser = await launch([], ["--disable-quic"]);
await story("The ecosystem's own clients", async () => {
  const haul = await startHaulWithMoq();
  const { port } = await (await fetch(`${haul.url}/v1/moq`)).json();
  const token = new URL(haul.studioUrl).hash.match(/token=(.+)/)[1];
  let host;
  try {
    await step(`@moq/watch ${version("watch")} draws moving pictures of a host by WebRTC`, async () => {
      host = await Host.open(browser, haul.studioUrl, DESKTOP);
      await host.click("source-camera");
      await host.goLive();
      const page = await visit(browser, "watch", `http://127.0.0.1:${port}/demo`);
      const changes = new Set();
      await until("ten different pictures are drawn", async () => changes.add(await pixels(page)).size >= 10, 30_000).catch((error) => {
        throw new Error(`${error.message}\n${page.said.join("\n")}`);
      });
      await page.context().close();
      await host.endLive();
      await host.page.context().close();
    });
    await step(`where UDP is blocked, @moq/watch plays over a websocket`, async () => {
      host = await Host.open(browser, haul.studioUrl, DESKTOP);
      await host.click("source-camera");
      await host.goLive();
      const tcpOnly = await carryTcpTo(port);
      const page = await visit(browser, "watch", `http://127.0.0.1:${tcpOnly.port}/demo`);
      const changes = new Set();
      await until("ten different pictures are drawn", async () => changes.add(await pixels(page)).size >= 10, 30_000).catch((error) => {
        throw new Error(`${error.message}\n${page.said.join("\n")}`);
      });
      const metrics = await (await fetch(`${haul.url}/metrics`)).text();
      expect(/^haul_moq_websockets 1$/m.test(metrics), "the server counts a websocket");
      await page.context().close();
      tcpOnly.close();
      await host.endLive();
      await host.page.context().close();
    });
    await step(`what @moq/publish ${version("publish")} sends is seen in our page by WebRTC`, async () => {
      const page = await visit(browser, "publish", `http://127.0.0.1:${port}/demo?jwt=${token}`);
      const viewer = await Guest.enter(browser, `${haul.url}/watch/demo`, DESKTOP);
      await viewer.seesMovingPictures(30_000).catch((error) => {
        throw new Error(`${error.message}\n${page.said.join("\n")}`);
      });
      expect(await viewer.page.evaluate(() => window.haul.player.transport === "webrtc"), "it plays by WebRTC");
      await viewer.hearsSound();
      await page.context().close();
    });
  } finally {
    const code = await haul.stop();
    expect(code === 0, `the server ends well, not with ${code}:\n${haul.log()}`);
  }
});
await browser.close();
pages.close();
clearTimeout(watchdog);
process.exit(exitCode());
