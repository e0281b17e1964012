// A WHIP and WHEP door to Janus' VideoRoom, which speaks its own protocol: both of its sides make offers, so each is given
// the other's as its answer.
//
//   node door.mjs PORT http://127.0.0.1:8088/janus

import { randomBytes } from "node:crypto";
import http from "node:http";

const ROOM = 1;
/** RFC 8829 lets an answer say who is active: the client is, to both. */
const CLIENT = "active";
const JANUS = "passive";

const [port, janus] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
/** Answers that Janus gives later, by transaction. */
const waiting = new Map();
let session;
let publisher;

const transaction = () => randomBytes(8).toString("hex");

function ask(path, body, method = "POST") {
  const text = body && JSON.stringify(body);
  const headers = text ? { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) } : {};
  return new Promise((resolve, reject) => {
    const request = http.request(`${janus}${path}`, { agent, method, headers }, async (answer) => {
      try {
        resolve(JSON.parse(await read(answer)));
      } catch (error) {
        reject(error);
      }
    });
    request.on("error", reject);
    request.end(text);
  });
}

async function read(stream) {
  let text = "";
  stream.setEncoding("utf8");
  for await (const part of stream) text += part;
  return text;
}

/** Gives Janus' later answers to whoever waits for them, for as long as the process lives. */
async function listen() {
  for (;;) {
    const events = await ask(`/${session}?maxev=20&rid=${Date.now()}`, undefined, "GET");
    for (const event of [events].flat()) {
      const waiter = waiting.get(event.transaction);
      if (!waiter || event.janus === "ack") continue;
      waiting.delete(event.transaction);
      waiter(event);
    }
  }
}

async function attach() {
  const { data } = await ask(`/${session}`, { janus: "attach", plugin: "janus.plugin.videoroom", transaction: transaction() });
  return data.id;
}

async function tell(handle, body, jsep) {
  const name = transaction();
  const told = new Promise((resolve) => waiting.set(name, resolve));
  await ask(`/${session}/${handle}`, { janus: "message", transaction: name, body, jsep });
  const event = await told;
  const refusal = event.plugindata?.data?.error;
  if (refusal) throw new Error(refusal);
  return event;
}

const attribute = (sdp, name) => sdp.match(new RegExp(`^a=${name}:(.*)$`, "m"))?.[1].trim();
const sections = (sdp) => sdp.replace(/\r/g, "").split(/^(?=m=)/m).slice(1);
const kind = (section) => section.match(/^m=(\w+)/)[1];
/** What is said anew, or of no use to the other side. */
const OWN = /^(c=|a=(ice-|fingerprint|setup|candidate|end-of-candidates|mid|sendonly|recvonly|sendrecv|extmap|ssrc|msid))/;

/** An answer to the offer `ours` made of the offer `theirs`: its media and its transport, in our order and under our names. */
function answerTo(ours, theirs, { setup, direction, lite }) {
  const others = sections(theirs);
  const names = sections(ours).map((section) => attribute(section, "mid"));
  const lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", `a=group:BUNDLE ${names.join(" ")}`];
  if (lite) lines.push("a=ice-lite");
  const candidates = [...new Set(theirs.match(/^a=candidate:.*$/gm))].map((line) => line.trim());
  for (const section of sections(ours)) {
    const other = others.find((each) => kind(each) === kind(section));
    const types = [...other.matchAll(/^a=rtpmap:(\d+) (?:H264|opus)\//gim)].map(([, type]) => type);
    const [first, ...rest] = other.split("\n").filter((line) => line && !OWN.test(line));
    lines.push(`${first.split(" ").slice(0, 3).join(" ")} ${types.join(" ")}`, "c=IN IP4 127.0.0.1", `a=mid:${attribute(section, "mid")}`);
    for (const name of ["ice-ufrag", "ice-pwd", "fingerprint"]) lines.push(`a=${name}:${attribute(theirs, name)}`);
    lines.push(`a=setup:${setup}`, `a=${direction}`);
    lines.push(...rest.filter((line) => !/^a=(rtpmap|fmtp|rtcp-fb):/.test(line) || types.includes(line.match(/:(\d+)/)[1])));
    lines.push(...candidates);
  }
  return `${lines.join("\r\n")}\r\n`;
}

async function publish(handle, offer) {
  const sdp = offer.replace(/a=sendrecv/g, "a=sendonly");
  const event = await tell(handle, { request: "joinandconfigure", ptype: "publisher", room: ROOM, audio: true, video: true }, { type: "offer", sdp, trickle: false });
  publisher = event.plugindata.data.id;
  return event.jsep.sdp;
}

async function watch(handle, offer) {
  const event = await tell(handle, { request: "join", ptype: "subscriber", room: ROOM, streams: [{ feed: publisher }] });
  const theirs = event.jsep.sdp;
  const sdp = answerTo(theirs, offer, { setup: CLIENT, direction: "recvonly" });
  await tell(handle, { request: "start" }, { type: "answer", sdp, trickle: false });
  return answerTo(offer, theirs, { setup: JANUS, direction: "sendonly", lite: true });
}

async function serve(request, response) {
  const path = request.url.split("?")[0];
  const body = await read(request);
  if (request.method === "DELETE") {
    await ask(`/${session}/${path.split("/").pop()}`, { janus: "detach", transaction: transaction() });
    response.writeHead(200).end();
  } else if (request.method === "POST") {
    const handle = await attach();
    const sdp = await (path.startsWith("/whip") ? publish(handle, body) : watch(handle, body));
    response.writeHead(201, { "Content-Type": "application/sdp", Location: `${path}/${handle}` }).end(sdp);
  } else {
    response.writeHead(405).end();
  }
}

session = (await ask("", { janus: "create", transaction: transaction() })).data.id;
listen().catch((error) => {
  console.error(`Janus is gone: ${error.message}`);
  process.exit(1);
});
http
  .createServer((request, response) =>
    serve(request, response).catch((error) => {
      console.error(error.message);
      response.writeHead(502).end(error.message);
    }),
  )
  .listen(Number(port), () => console.log("ready"));
