// Viewers, orders and revenue over the time that this page has been open, as three thin lines.

import { byId, el, setText } from "../ui/dom.js";
import { formatMoney } from "/sdk/haul.js";
import { locale, t } from "../ui/tongue.js";

const SVG = "http://www.w3.org/2000/svg";
const SAMPLE_MS = 2_000;
/** An hour and a half; then every second point goes, and points come half as often. */
const POINTS_MAX = 2_700;
const WIDTH = 300;
const HEIGHT = 40;

export function showPlot(room) {
  const series = [
    { id: "viewers", value: () => room.viewers, text: () => t("{now} (max {most})", { now: room.viewers.toLocaleString(locale), most: room.peak.toLocaleString(locale) }) },
    { id: "orders", value: () => (room.host ? room.host.totals.orders : 0), text: (now) => now.toLocaleString(locale) },
    {
      id: "revenue",
      value: () => (room.host ? room.host.totals.revenue.reduce((sum, { amount_minor: amount }) => sum + amount, 0) : 0),
      text: () => (room.host && room.host.totals.revenue.length ? room.host.totals.revenue.map((sum) => formatMoney(sum)).join(" + ") : "–"),
    },
  ].map((one) => ({ ...one, points: [], line: lineIn(byId(`plot-${one.id}`)) }));

  let every = 1;
  let turn = 0;
  setInterval(() => {
    turn += 1;
    if (!room.ready || turn % every) return;
    for (const one of series) {
      const now = one.value();
      one.points.push(now);
      draw(one);
      setText(byId(`plot-${one.id}-now`), one.text(now));
    }
    if (series[0].points.length < POINTS_MAX) return;
    every *= 2;
    for (const one of series) one.points = one.points.filter((_, i) => i % 2);
  }, SAMPLE_MS);
}

function lineIn(box) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "polyline");
  svg.append(line);
  box.append(svg, el("span", {}));
  return line;
}

function draw({ points, line }) {
  const most = Math.max(1, ...points);
  const step = WIDTH / Math.max(1, points.length - 1);
  line.setAttribute(
    "points",
    points.map((value, i) => `${(i * step).toFixed(1)},${(HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1)}`).join(" "),
  );
}
