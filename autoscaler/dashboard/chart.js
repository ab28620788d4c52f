// Replicas and demand over time, as an inline SVG.
import { h } from "./dom.js";

export const NO_VALUE = "–";

export function number(value) {
  if (value === null || value === undefined) return NO_VALUE;
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

export const clockTime = (atS) => new Date(atS * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

const HEIGHT = 260, LEFT = 44, RIGHT = 10, TOP = 10, BOTTOM = 26;
const LINES = [
  { name: "demand", title: "Demand", steps: false },
  { name: "current", title: "Replicas", steps: true },
  { name: "desired", title: "Desired", steps: true },
];

// `cursor` is the pointer's place in units of `width`, or null; the legend tells the values there.
export function chart(history, bounds, width, cursor) {
  const at = history.at_s || [];
  if (at.length < 2) return h("p", { key: "chart", class: "faint" }, "The chart begins with the second tick.");
  const values = LINES.flatMap((line) => (history[line.name] || []).filter((value) => value !== null));
  const top = ceiling(Math.max(1, ...values));
  const x = (atS) => LEFT + ((width - LEFT - RIGHT) * (atS - at[0])) / (at.at(-1) - at[0] || 1);
  const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * value) / top;
  const index = cursor === null ? at.length - 1 : nearest(at, x, cursor);
  const bound = (name) => (bounds[name] !== null && bounds[name] !== undefined && bounds[name] <= top
    ? h("line", { class: "bound", x1: LEFT, x2: width - RIGHT, y1: y(bounds[name]), y2: y(bounds[name]) },
        h("title", {}, `${name}Replicas ${bounds[name]}`)) : "");
  return h("figure", { key: "chart", class: "chart" },
    h("svg", { class: "plot", viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": summary(history, at) },
      ...gridLines(top, y, width), ...timeLabels(at, x, width < 600 ? [0, 1] : [0, 0.25, 0.5, 0.75, 1]), bound("min"), bound("max"),
      ...LINES.map((line) => h("path", { class: line.name, d: path(at, history[line.name] || [], x, y, line.steps) })),
      cursor === null ? "" : h("line", { class: "cursor", x1: x(at[index]), x2: x(at[index]), y1: TOP, y2: HEIGHT - BOTTOM })),
    h("ul", { class: "legend" },
      h("li", {}, clockTime(at[index])),
      ...LINES.map((line) => h("li", {},
        h("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, h("path", { class: line.name, d: "M0 5H26" })),
        `${line.title} ${number((history[line.name] || [])[index])}`))));
}

function summary(history, at) {
  const parts = LINES.map((line) => {
    const known = (history[line.name] || []).filter((value) => value !== null);
    return known.length ? `${line.title.toLowerCase()} from ${number(Math.min(...known))} to ${number(Math.max(...known))}, now ${number(known.at(-1))}` : "";
  });
  return `Chart from ${clockTime(at[0])} to ${clockTime(at.at(-1))}: ${parts.filter(Boolean).join("; ")}.`;
}

// A gap where nothing is known; steps because a count holds until the next tick.
function path(at, values, x, y, steps) {
  let text = "", drawing = false;
  values.forEach((value, index) => {
    if (value === null || value === undefined) {
      drawing = false;
      return;
    }
    const [px, py] = [x(at[index]).toFixed(1), y(value).toFixed(1)];
    text += !drawing ? `M${px} ${py}` : steps ? `H${px}V${py}` : `L${px} ${py}`;
    drawing = true;
  });
  return text;
}

function ceiling(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 5, 6, 8, 10].map((step) => step * unit).find((round) => round >= value * 1.05) || 20 * unit;
}

function gridLines(top, y, width) {
  const steps = [4, 5, 3, 2, 1].find((count) => Number.isInteger(top / count)) || 4;
  return Array.from({ length: steps + 1 }, (_, k) => (top * k) / steps).flatMap((value) => [
    h("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
    h("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, number(value)),
  ]);
}

function timeLabels(at, x, shares) {
  const span = at.at(-1) - at[0];
  return shares.map((share) => {
    const atS = at[0] + share * span;
    return h("text", { x: x(atS), y: HEIGHT - 6, "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle" }, clockTime(atS));
  });
}

function nearest(at, x, px) {
  let best = 0;
  for (let k = 1; k < at.length; k += 1) if (Math.abs(x(at[k]) - px) < Math.abs(x(at[best]) - px)) best = k;
  return best;
}
