// A network that carries no UDP: host and viewer are told of our UDP candidates by nobody, so that only TCP is left.
//
//   node tcp.mjs     runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)

import { DESKTOP, Guest, Host, launch } from "./lib/pages.mjs";
import { endsWithin, exitCode, expect, step, story, until } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";

/** Longer than all takes on a slow machine: something hangs. */
const MOST_MS = 2 * 60_000;

const watchdog = endsWithin(MOST_MS);

/** Takes the UDP candidates out of every answer that the page is given. */
const withoutUdp = (page) =>
  page.addInitScript(() => {
    const whole = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function (description) {
      const lines = description.sdp.split("\r\n");
      const sdp = lines.filter((line) => !/^a=candidate:\S+ \d+ udp /i.test(line)).join("\r\n");
      return whole.call(this, { type: description.type, sdp });
    };
  });

/** Which protocol the page's media goes by. */
const protocol = (visitor) =>
  visitor.page.evaluate(async () => {
    const report = await window.haul.pc.getStats();
    const transport = [...report.values()].find((entry) => entry.type === "transport");
    const pair = report.get(transport.selectedCandidatePairId);
    return report.get(pair.remoteCandidateId).protocol;
  });

const browser = await launch();
await story("Media over TCP", async () => {
  const haul = await startHaul({ tcp: true });
  let host, viewer;
  try {
    await step("a host without UDP publishes", async () => {
      host = await Host.open(browser, haul.studioUrl, DESKTOP, withoutUdp);
      await host.click("source-camera");
      await host.goLive();
      await until("pictures are sent", async () => ((await host.stats("outbound-rtp", "video"))?.framesEncoded ?? 0) > 10);
      expect((await protocol(host)) === "tcp", "the host's media goes by TCP");
    });
    await step("a viewer without UDP sees and hears it", async () => {
      viewer = await Guest.enter(browser, `${haul.url}/watch/demo`, DESKTOP, withoutUdp);
      await viewer.seesMovingPictures();
      await viewer.hearsSound();
      expect((await protocol(viewer)) === "tcp", "the viewer's media comes by TCP");
    });
    await step("both leave, and no connection stays", async () => {
      await host.endLive();
      await host.page.close();
      await viewer.page.close();
      await until("no TCP connection is left", async () => {
        const metrics = await (await fetch(`${haul.url}/metrics`)).text();
        const links = [...metrics.matchAll(/^haul_tcp_links\{.*\} (\d+)/gm)].map((found) => Number(found[1]));
        return links.length > 0 && links.every((number) => number === 0);
      }, 20_000);
    });
  } finally {
    const code = await haul.stop();
    expect(code === 0, `the server ends well, not with ${code}:\n${haul.log()}`);
  }
});
await browser.close();
clearTimeout(watchdog);
process.exit(exitCode());
