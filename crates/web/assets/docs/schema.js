// JSON Schema as tables: as much of it as our own documents use.

import { el } from "../ui/dom.js";

const NESTING_MAX = 4;

/** Text in which `code` stands between backticks. */
export function prose(text) {
  return text.split(/`([^`]+)`/).map((part, i) => (i % 2 === 1 ? el("code", {}, part) : part));
}

/** The name in a `$ref`. */
function refName(schema) {
  return schema.$ref ? schema.$ref.split("/").pop() : null;
}

function resolve(schema, document) {
  const name = refName(schema);
  return (name && document.components && document.components.schemas && document.components.schemas[name]) || schema;
}

/** A schema with what it refers to laid under its own properties. */
function flat(schema, document) {
  const base = schema.$ref ? resolve(schema, document) : null;
  if (!base || base === schema) return schema;
  return {
    ...base,
    ...schema,
    properties: { ...base.properties, ...schema.properties },
    required: [...(base.required || []), ...(schema.required || [])],
  };
}

/** The alternatives of a schema, or itself. */
export function variants(schema, document) {
  const whole = resolve(schema, document);
  const choices = whole.oneOf || whole.anyOf;
  return choices ? choices : [whole];
}

/** The `type` that names a message. */
export function messageName(variant) {
  const type = variant.properties && variant.properties.type;
  return type && type.const ? type.const : "";
}

/** A schema's type in a few words; named types are links. */
export function typeOf(schema) {
  const name = refName(schema);
  if (name) return [el("a", { href: `#type-${name}` }, name)];
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" | ")];
  const choices = schema.anyOf || schema.oneOf;
  if (choices) return choices.flatMap((choice, i) => (i === 0 ? typeOf(choice) : [" or ", ...typeOf(choice)]));
  if (schema.type === "array") return ["list of ", ...typeOf(schema.items || {})];
  const types = [].concat(schema.type || "anything").map((type) => (type === "integer" ? "whole number" : type === "string" ? "text" : type));
  return [types.join(" or ")];
}

/** The fields of a schema as a table, with those of unnamed objects inside; null where there are none. */
export function fields(schema, document, without = [], depth = 0) {
  const whole = flat(schema, document);
  const choices = whole.oneOf || whole.anyOf;
  if (choices && choices.every((choice) => choice.const !== undefined)) return values(choices);
  if (whole.enum) return values(whole.enum.map((value) => ({ const: value })));
  if (whole.type === "array" && whole.items && depth < NESTING_MAX) return fields(whole.items, document, without, depth + 1);
  const properties = Object.entries(whole.properties || {}).filter(([name]) => !without.includes(name));
  if (properties.length === 0) return null;
  const required = new Set(whole.required || []);
  return el(
    "div",
    { class: "table-box" },
    el(
      "table",
      { class: "fields" },
      el("tbody", {}, ...properties.map(([name, property]) => fieldRow(name, property, required.has(name), document, depth))),
    ),
  );
}

function fieldRow(name, property, required, document, depth) {
  const inner = !property.$ref && property.type === "object" && depth < NESTING_MAX ? fields(property, document, [], depth + 1) : null;
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("code", {}, name), !required && el("span", { class: "optional" }, "optional")),
    el("td", { class: "type" }, ...typeOf(property)),
    el("td", {}, ...prose(property.description || ""), inner),
  );
}

function values(choices) {
  return el(
    "div",
    { class: "table-box" },
    el(
      "table",
      { class: "fields" },
      el("tbody", {}, ...choices.map((choice) => el("tr", {}, el("th", { scope: "row" }, el("code", {}, String(choice.const))), el("td", { colSpan: 2 }, ...prose(choice.description || ""))))),
    ),
  );
}
