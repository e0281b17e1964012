// A change of networks in real browsers: host and viewer restart ICE, and neither session nor picture is lost.
//
//   node restart.mjs    runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)

import { DESKTOP, Guest, Host, launch } from "./lib/pages.mjs";
import { endsWithin, exitCode, expect, step, story, until } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";

/** Longer than the story takes on a slow machine: something hangs. */
const MOST_MS = 2 * 60_000;

const watchdog = endsWithin(MOST_MS);

const browser = await launch();
await story("ICE restarts", async () => {
  const haul = await startHaul();
  const restarts = async () => {
    const metrics = await (await fetch(`${haul.url}/metrics`)).text();
    const lines = metrics.split("\n").filter((line) => line.startsWith("haul_ice_restarts_total"));
    return lines.reduce((sum, line) => sum + Number(line.split(" ").pop()), 0);
  };
  // What a browser says when the device has got another network.
  const changeNetwork = (visitor) => visitor.page.evaluate(() => window.dispatchEvent(new Event("online")));
  // Said again until it has led to something: a session that restarts already, or has just done so, passes over it.
  const restart = (visitor, before) =>
    until("the new path is nominated", async () => {
      await changeNetwork(visitor);
      return (await restarts()) > before;
    });
  let host, guest;
  await step("a host is watched", async () => {
    host = await Host.enter(browser, haul.studioUrl, "VP8");
    await host.click("source-test");
    await host.goLive();
    guest = await Guest.enter(browser, `${haul.url}/watch/demo`, DESKTOP);
    await guest.seesMovingPictures();
    await guest.markConnection();
  });
  await step("the viewer restarts ICE, in the same connection", async () => {
    const before = await restarts();
    await restart(guest, before);
    await guest.seesMovingPictures();
    expect(await guest.hasSameConnection(), "the viewer's connection is the one from before");
  });
  await step("so does the host", async () => {
    const before = await restarts();
    await restart(host, before);
    await guest.seesMovingPictures();
    expect(await guest.hasSameConnection(), "the viewer's connection is the one from before");
    await host.shows("live-state", /^LIVE$/);
  });
  await step("a second change finds a path as well", async () => {
    const before = await restarts();
    await restart(guest, before);
    await guest.seesMovingPictures();
  });
  await step("a host who is gone is missed, and seen to come back", async () => {
    await host.page.close();
    await guest.shows("live-state", /AWAY/);
    host = await Host.enter(browser, haul.studioUrl, "VP8");
    await host.click("source-test");
    await host.goLive();
    await guest.seesMovingPictures();
    expect(await guest.hasSameConnection(), "the viewer's connection is the one from before");
  });
  await step("no page had an error", () => guest.expectNoErrors());
  await haul.stop();
});
await browser.close();
clearTimeout(watchdog);
process.exit(exitCode());
