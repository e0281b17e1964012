import { DESKTOP, Guest, launch } from "./lib/pages.mjs";
import { until } from "./lib/report.mjs";
import { startHaul } from "./lib/server.mjs";
import { publishLayers } from "./lib/simulcast.mjs";
const PICTURE = { width: 320, height: 180, framesPerSecond: 15, maxBitrate: 300_000 };
const variants = process.argv[2].split(",");
const rounds = Number(process.argv[3] || 10);
setTimeout(() => process.exit(1), 280_000);
const browser = await launch();
const haul = await startHaul();
const visits = {};
try {
  const host = await publishLayers(browser, haul, undefined, PICTURE);
  await until("pictures are sent", async () => (await host.layers()).some((layer) => layer.framesEncoded > 10));
  for (let i = 0; i < rounds; i += 1) for (const v of variants) {
    const guest = await Guest.enter(browser, `${haul.url}/watch/demo`, DESKTOP, async (page) => { await page.addInitScript(`window.variant=${JSON.stringify(v)}`); await page.addInitScript(note); });
    await until("the first picture", () => guest.page.evaluate(() => "picture" in window.noted));
    (visits[v] ??= []).push(await guest.page.evaluate(async () => {
      const r = [...(await window.pcs[0].getStats()).values()].find((s) => s.type === "inbound-rtp" && s.kind === "video");
      window.noted.decoder = r.decoderImplementation;
      return window.noted; }));
    await guest.page.context().close();
  }
} finally { await haul.stop(); }
await browser.close();
for (const v of variants) {
  const median = (name) => { const s = visits[v].map((x) => (x[name] ?? NaN) - x.asked).sort((a, b) => a - b); return Math.round((s[(s.length - 1) >> 1] + s[s.length >> 1]) / 2); };
  console.log(v.padEnd(10), ["opened", "posted", "answered", "remote", "checking", "ice", "dtls", "connected", "packet","decoded","present", "picture"].map((n) => `${n} ${median(n)}`).join(" "), "all", visits[v].map((x) => Math.round(x.picture - x.asked)).sort((a, b) => a - b).join(" "), visits[v][0].decoder);
}
process.exit(0);
function note() {
  const noted = (window.noted = { opened: 0 });
  const has = (x) => window.variant.includes(x);
  window.pcs = [];
  let cert = null;
  if (has("cert")) RTCPeerConnection.generateCertificate({ name: "ECDSA", namedCurve: "P-256" }).then((c) => (cert = c));
  const once = (name) => (noted[name] ??= performance.now());
  const Connection = window.RTCPeerConnection;
  if (has("warm")) { window.warm = new Connection(); }
  window.RTCPeerConnection = class extends Connection {
    constructor(config) {
      once("asked");
      if (cert) config = { ...config, certificates: [cert] };
      super(config);
      window.pcs.push(this);
      this.addEventListener("iceconnectionstatechange", () => { once(this.iceConnectionState === "checking" ? "checking" : "ice"); });
      this.addEventListener("connectionstatechange", () => this.connectionState === "connected" && once("connected"));
    }
    addTransceiver(...a) {
      const t = super.addTransceiver(...a);
      if (has("jbt")) t.receiver.jitterBufferTarget = 0;
      if (has("hint")) t.receiver.playoutDelayHint = 0;
      return t;
    }
    async setRemoteDescription(...description) {
      once("answered");
      if (has("noaudio")) {}
      await super.setRemoteDescription(...description);
      once("remote");
      const { transport } = this.getReceivers()[0];
      transport.addEventListener("statechange", () => transport.state === "connected" && once("dtls"));
      if (has("poll")) { const t = setInterval(async () => {
        const r = [...(await this.getStats()).values()].find((s) => s.type === "inbound-rtp" && s.kind === "video");
        if (r?.packetsReceived) once("packet"); if (r?.framesDecoded) { once("decoded"); clearInterval(t); } }, 4); }
    }
  };
  const fetch = window.fetch;
  window.fetch = (url, ...rest) => { if (String(url).includes("/whep/")) once("posted"); return fetch(url, ...rest); };
  addEventListener("DOMContentLoaded", () => {
    document.querySelector("video").requestVideoFrameCallback((now, meta) => { noted.picture = now; noted.present = meta.presentationTime; });
  });
}
