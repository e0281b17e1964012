// What the server says, as the module gives it. On the wire a time is RFC 3339 text; here it is milliseconds since 1970, so that
// it can be compared with the server's clock.

/** Fields that are times, by the names that all interfaces of the server keep to. */
const TIME = /^(at|since|until|deadline|valid_from|server_time|[a-z_]+_(at|until))$/;

const revived = (key, value) => (typeof value === "string" && TIME.test(key) ? Date.parse(value) : value);

/** The message or answer that `text` is. Throws a `SyntaxError` where it is none. */
export function parse(text) {
  return JSON.parse(text, revived);
}

/** How a time in milliseconds since 1970 is said to the server. */
export function timeText(ms) {
  return new Date(ms).toISOString();
}
