// The API's description for people, drawn from the two documents that machines read.

import { rest } from "/sdk/haul.js";
import { byId, el, setText } from "../ui/dom.js";
import { fields, messageName, prose, typeOf, variants } from "./schema.js";

const AREAS = [
  { title: "Media", id: "media", fits: (path) => /^\/(whip|whep)\//.test(path), about: "Publish by WHIP (RFC 9725), watch by WHEP. OBS, GStreamer and ffmpeg speak the former, any browser both through the client module." },
  { title: "Lives", id: "lives", fits: (path) => path.startsWith("/v1/lives"), about: "A live, its bag, sales, orders and tokens." },
  { title: "Payments", id: "payments", fits: (path) => /^\/(v1\/payments|sandbox)\//.test(path), about: "Where the payment provider tells what happened, and the sandbox that stands in for one." },
  { title: "Everything else", id: "other", fits: () => true, about: "" },
];
const METHODS = ["get", "post", "put", "patch", "delete"];

draw();

async function draw() {
  const [openapi, asyncapi] = await Promise.all([
    rest("/v1/openapi.json").catch(() => null),
    rest("/v1/asyncapi.json").catch(() => null),
  ]);
  if (!openapi && !asyncapi) {
    setText(byId("loading"), "The description can't be loaded. Try again in a moment.");
    return;
  }
  byId("loading").remove();
  const contents = [];
  if (openapi) {
    byId("about").replaceChildren(...prose(openapi.info.description || ""));
    byId("rest").append(...areas(openapi, contents));
  }
  if (asyncapi) byId("channel").append(channel(asyncapi, contents));
  const schemas = { ...schemasOf(asyncapi), ...schemasOf(openapi) };
  byId("types").append(types(schemas, contents));
  byId("contents").append(...contents);
  wireSearch();
  // The target exists only now.
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target) target.scrollIntoView();
}

function schemasOf(document) {
  return (document && document.components && document.components.schemas) || {};
}

function areas(openapi, contents) {
  const left = Object.keys(openapi.paths);
  return AREAS.flatMap((area) => {
    const paths = left.filter(area.fits);
    if (paths.length === 0) return [];
    for (const path of paths) left.splice(left.indexOf(path), 1);
    const operations = paths.flatMap((path) =>
      METHODS.filter((method) => openapi.paths[path][method]).map((method) => ({ path, method, ...openapi.paths[path][method] })),
    );
    contents.push(
      contentsGroup(area.title, operations.map(({ method, path }) => ({ id: operationId(method, path), label: path, method }))),
    );
    return [
      el(
        "section",
        { class: "area", id: area.id },
        el("h2", {}, area.title),
        area.about && el("p", { class: "muted" }, area.about),
        ...operations.map((operation) => operationCard(operation, openapi)),
      ),
    ];
  });
}

function operationId(method, path) {
  return `${method}${path.replace(/[{}]/g, "").replace(/\//g, "-")}`;
}

function operationCard({ path, method, summary, description, requestBody, responses }, openapi) {
  return el(
    "article",
    { class: "card", id: operationId(method, path), data: { find: `${method} ${path} ${summary}`.toLowerCase() } },
    el(
      "h3",
      { class: "signature" },
      el("span", { class: "method", data: { method } }, method.toUpperCase()),
      el("code", {}, ...pathParts(path)),
    ),
    el("p", {}, ...prose(summary || ""), " ", el("span", { class: "muted" }, ...prose(description || ""))),
    requestBody && body("Request", requestBody.content, openapi),
    ...Object.entries(responses || {})
      .filter(([, response]) => !response.$ref)
      .map(([status, response]) => body(status, response.content, openapi)),
    refusals(responses),
  );
}

/** Parameters in a path stand out. */
function pathParts(path) {
  return path.split(/(\{[^}]+\})/).map((part) => (part.startsWith("{") ? el("em", {}, part) : part));
}

function body(label, content, document) {
  const [mediaType, { schema } = {}] = Object.entries(content || {})[0] || [];
  const head = el(
    "p",
    { class: "body-head" },
    el("b", {}, label),
    mediaType && el("span", { class: "muted small" }, mediaType),
    schema && el("span", { class: "type" }, ...typeOf(schema)),
    !mediaType && el("span", { class: "muted small" }, "no body"),
  );
  return el("div", { class: "body" }, head, schema && fields(schema, document));
}

function refusals(responses) {
  const codes = Object.entries(responses || {}).filter(([, response]) => response.$ref).map(([status]) => status);
  if (codes.length === 0) return null;
  return el("p", { class: "small muted refusals" }, "Refusals, as problem documents: ", ...codes.map((code) => el("code", {}, code)));
}

function channel(asyncapi, contents) {
  const [{ address, messages }] = Object.values(asyncapi.channels);
  const groups = [
    { key: "request", title: "Requests", about: "What a client may send. Each has an id and gets one reply." },
    { key: "reply", title: "Replies", about: "The result of a request." },
    { key: "event", title: "Events", about: "What the server tells without being asked." },
    { key: "error", title: "Failures", about: "In place of a reply. Act on the code; the message is for people." },
  ];
  const sections = groups
    .filter(({ key }) => messages[key])
    .map(({ key, title, about }) => {
      const schema = messages[key].payload;
      const found = variants(schema, asyncapi);
      const cards = found.map((variant, i) => {
        const name = messageName(variant);
        const id = `${key}-${(name || String(i)).replace(/\W/g, "-")}`;
        return { id, name, card: messageCard(id, name, variant, asyncapi) };
      });
      const named = cards.filter(({ name }) => name);
      if (named.length > 0) contents.push(contentsGroup(`Channel: ${title.toLowerCase()}`, named.map(({ id, name }) => ({ id, label: name }))));
      return el("section", { class: "area", id: `channel-${key}` }, el("h2", {}, title), el("p", { class: "muted" }, about), ...cards.map(({ card }) => card));
    });
  return el(
    "section",
    { id: "the-channel" },
    el("header", { class: "part" }, el("h2", { class: "part-title" }, "The channel"), el("p", { class: "signature" }, el("span", { class: "method", data: { method: "ws" } }, "WS"), el("code", {}, ...pathParts(address))), el("p", {}, ...prose(asyncapi.info.description || ""))),
    ...sections,
  );
}

function messageCard(id, name, variant, document) {
  return el(
    "article",
    { class: "card", id, data: { find: `${name} ${variant.description || ""}`.toLowerCase() } },
    name && el("h3", { class: "signature" }, el("code", {}, name)),
    variant.description && el("p", {}, ...prose(variant.description)),
    fields(variant, document, ["type"]),
  );
}

function types(schemas, contents) {
  const names = Object.keys(schemas).filter((name) => !["Request", "Reply", "Event"].includes(name)).sort();
  contents.push(contentsGroup("Types", names.map((name) => ({ id: `type-${name}`, label: name }))));
  const document = { components: { schemas } };
  return el(
    "section",
    { class: "area", id: "all-types" },
    el("h2", { class: "part-title" }, "Types"),
    ...names.map((name) =>
      el(
        "article",
        { class: "card", id: `type-${name}`, data: { find: name.toLowerCase() } },
        el("h3", { class: "signature" }, el("code", {}, name)),
        schemas[name].description && el("p", {}, ...prose(schemas[name].description)),
        fields(schemas[name], document),
      ),
    ),
  );
}

function contentsGroup(title, entries) {
  return el(
    "details",
    { open: title !== "Types" },
    el("summary", {}, title),
    el(
      "ul",
      {},
      ...entries.map(({ id, label, method }) =>
        el("li", {}, el("a", { href: `#${id}` }, method && el("span", { class: "method small", data: { method } }, method.toUpperCase()), el("span", {}, label))),
      ),
    ),
  );
}

function wireSearch() {
  const cards = [...document.querySelectorAll(".card")];
  byId("find").addEventListener("input", ({ target }) => {
    const words = target.value.trim().toLowerCase().split(/\s+/);
    for (const card of cards) card.hidden = !words.every((word) => card.dataset.find.includes(word));
    for (const area of document.querySelectorAll(".area")) area.hidden = !area.querySelector(".card:not([hidden])");
  });
}
