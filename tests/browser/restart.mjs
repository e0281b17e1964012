// A change of networks in real browsers: host and viewer restart ICE, and neither session nor picture is lost.
//
//   node restart.mjs    runs target/debug/haul (or $HAUL_BINARY) and /usr/bin/chromium (or $CHROMIUM)

import { DESKTOP, Guest, Host, launch } from "./lib/pages.mjs";
import { exitCode, expect, step, story, until } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";

/** Longer than the story takes on a slow machine: something hangs. */
const MOST_MS = 2 * 60_000;

const watchdog = setTimeout(() => {
  console.log(`not ok - everything within ${MOST_MS / 1000} s`);
  process.exit(1);
}, MOST_MS);

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
    await changeNetwork(guest);
    await until("the new path is nominated", async () => (await restarts()) === 1);
    await guest.seesMovingPictures();
    expect(await guest.hasSameConnection(), "the viewer's connection is the one from before");
  });
  await step("so does the host", async () => {
    await changeNetwork(host);
    await until("the new path is nominated", async () => (await restarts()) === 2);
    await guest.seesMovingPictures();
    expect(await guest.hasSameConnection(), "the viewer's connection is the one from before");
    await host.shows("live-state", /^LIVE$/);
  });
  await step("a second change finds a path as well", async () => {
    await until("it may be tried again", async () => {
      await changeNetwork(guest);
      return (await restarts()) === 3;
    });
    await guest.seesMovingPictures();
  });
  await step("a host that is cut off is missed, and seen to come back", async () => {
    await host.page.context().setOffline(true);
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
process.exitCode = exitCode();
