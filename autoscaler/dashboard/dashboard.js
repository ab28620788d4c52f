// The page: workloads and incidents, and a view of one workload, from the read-only API. Everything that comes from there is put in as text.
import { chart, NO_VALUE, number, clockTime } from "./chart.js";
import { h, patch } from "./dom.js";

const REFRESH_MS = 2000;
const ANSWER_MS = 10000;
const ROWS_MAX = 300;
const CHART_PADDING = 28;

const main = document.getElementById("main");
const status = document.getElementById("status");
const notices = document.getElementById("notices");
const view = { filter: "", cursor: null, shown: "", timer: 0, asking: null, incidents: [] };

// -- where we are: #/ or #/NAMESPACE/NAME/KIND

function route() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  return parts.length >= 2 ? { namespace: parts[0], name: parts[1], kind: parts[2] || "" } : null;
}

const link = (row) => "#/" + [row.namespace, row.name, row.kind].map(encodeURIComponent).join("/");

// -- asking

async function ask(path, signal) {
  const response = await fetch(path, { signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]), cache: "no-store" });
  const isJson = (response.headers.get("Content-Type") || "").includes("json");
  return { status: response.status, body: isJson ? await response.json() : (await response.text()).trim() };
}

async function refresh() {
  clearTimeout(view.timer);
  view.asking?.abort();
  const asking = (view.asking = new AbortController());
  const at = route();
  const path = at
    ? `api/v1/workloads/${encodeURIComponent(at.namespace)}/${encodeURIComponent(at.name)}?kind=${encodeURIComponent(at.kind)}`
    : "api/v1/workloads";
  try {
    const paths = [path, "readyz", "api/v1/incidents"];
    const [answer, readiness, incidents] = await Promise.all(paths.map((one) => ask(one, asking.signal)));
    if (asking.signal.aborted) return;
    const remarks = readiness.body.split("\n").filter((line) => line && line !== "ok").map((line) => line.replace(/^remark: /, ""));
    if (answer.status === 200) {
      view.data = answer.body;
      view.incidents = incidents.status === 200 ? incidents.body : [];
      render();
      say(`Updated ${clockTime(Date.now() / 1000)}`, remarks);
    } else {
      if (answer.status === 404) replace([back(), h("h2", {}, "Not found")]);
      say("No answer that can be shown", [answer.body.detail || `${path}: ${answer.status}`, ...remarks]);
    }
  } catch (error) {
    if (asking.signal.aborted) return;
    say("Not up to date", [`The service does not answer (${error.message}). What is shown is old; trying again.`]);
  }
  view.timer = setTimeout(refresh, document.hidden ? 10 * REFRESH_MS : REFRESH_MS);
}

function say(state, lines) {
  status.textContent = state;
  patch(notices, lines.map((line) => h("p", { class: "notice" }, line)));
}

// -- the list

function list(rows) {
  const words = view.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = rows.filter((row) => {
    const text = `${row.namespace}/${row.name} ${row.kind} ${row.policy} ${row.mode} ${row.reason}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const count = words.length ? `${wanted.length} of ${rows.length} workloads` : `${rows.length} workloads`;
  const more = wanted.length > ROWS_MAX ? `, the first ${ROWS_MAX} shown` : "";
  return [
    ...incidentList(view.incidents),
    h("form", { class: "filter", role: "search", key: "filter" },
      h("input", { type: "search", id: "filter", placeholder: "Filter", "aria-label": "Filter workloads by name, kind, policy, mode or reason" }),
      h("span", {}, count + more)),
    rows.length === 0
      ? h("p", { key: "none" }, "No workload has a policy. Policies are read from the directories that the service was started with.")
      : h("div", { class: "scroll", key: "rows" }, h("table", { class: "workloads" },
          h("thead", {}, h("tr", {}, ...["Workload", "Mode", "Demand", "Ready", "Replicas", "Why"].map((title) =>
            h("th", { scope: "col", class: ["Demand", "Ready", "Replicas"].includes(title) ? "number" : "" }, title)))),
          h("tbody", {}, ...wanted.slice(0, ROWS_MAX).map(listRow)))),
  ];
}

function listRow(row) {
  return h("tr", { key: `${row.namespace}/${row.name}/${row.kind}` },
    h("th", { scope: "row" }, h("a", { href: link(row) }, `${row.namespace}/${row.name}`), " ",
      h("span", { class: "kind" }, `${row.kind}, ${row.policy}`)),
    h("td", {}, mode(row)),
    h("td", { class: "number", "data-label": "Demand" }, number(row.demand)),
    h("td", { class: "number", "data-label": "Ready" }, number(row.ready)),
    h("td", { class: "number", "data-label": "Replicas" }, change(row)),
    h("td", { class: "why" }, ...problems(row), row.why));
}

const mode = (row) => (row.mode ? h("span", { class: `badge ${row.mode}` }, row.mode.replace("_", " ")) : "");

function change(row) {
  const moves = row.current !== row.desired && row.current !== null && row.desired !== null;
  return moves
    ? h("span", { class: "changing" }, `${number(row.current)} → ${number(row.desired)}`)
    : h("span", {}, number(row.current ?? row.desired));
}

function problems(row) {
  return [row.target_problem, row.write_problem].filter(Boolean).map((text) => h("div", { class: "problem" }, text));
}

// -- incidents

function incidentList(rows) {
  if (!rows.length) return [];
  const open = rows.filter((row) => row.phase !== "resolved").length;
  return [
    h("h2", { key: "incidents-title" }, `Incidents: ${open} open`),
    h("div", { class: "scroll", key: "incidents" }, h("table", { class: "workloads" },
      h("thead", {}, h("tr", {}, ...["Incident", "Phase", "Pods", "What", "Done"].map((title) =>
        h("th", { scope: "col", class: title === "Pods" ? "number" : "" }, title)))),
      h("tbody", {}, ...rows.slice(0, ROWS_MAX).map(incidentRow)))),
    h("h2", { key: "workloads-title" }, "Workloads"),
  ];
}

function incidentRow(row) {
  const where = row.namespace ? `${row.namespace}/${row.name}` : row.name;
  const code = row.exit_code === null ? "" : `; exit code ${row.exit_code}: ${row.exit_meaning}`;
  const done = row.remedies.filter((one) => one.acted).slice(-1)[0] || row.remedies.slice(-1)[0];
  return h("tr", { key: `${where}/${row.kind}/${row.container}/${row.cause}` },
    h("th", { scope: "row" }, where, " ", h("span", { class: "kind" }, [row.kind, row.container].filter(Boolean).join(", "))),
    h("td", {}, h("span", { class: `badge ${row.phase}` }, row.phase)),
    h("td", { class: "number", "data-label": "Pods" }, row.pods_in_all ? `${row.pods_affected} of ${row.pods_in_all}` : NO_VALUE),
    h("td", { class: "why" }, h("strong", {}, row.cause), `: ${row.text}${code}`, ...row.notes.map((note) => h("div", { class: "faint" }, note))),
    h("td", { class: "why" }, done ? `${done.pod ? `${done.pod}: ` : ""}${done.words}` : ""));
}

// -- one workload

const back = () => h("p", { key: "back" }, h("a", { href: "#/" }, "← All workloads"));

function detail(row) {
  const bounds = row.bounds || {};
  const mine = view.incidents.filter((one) => one.namespace === row.namespace && one.name === row.name && one.kind === row.kind);
  return [
    back(),
    h("h2", { key: "title" }, `${row.namespace}/${row.name} `, h("span", { class: "kind" }, row.kind), " ", mode(row)),
    h("p", { key: "why" }, ...problems(row), row.why),
    h("dl", { class: "facts", key: "facts" },
      fact("Replicas", change(row)), fact("Ready", number(row.ready)), fact("Demand", number(row.demand)),
      fact("Bounds", `${number(bounds.min)} – ${number(bounds.max)}`), fact("Policy", row.policy, "text"),
      fact("Configured in", row.origin || NO_VALUE, "long")),
    ...incidentList(mine).slice(0, 2),
    h("h3", { key: "history-title" }, "History"),
    chart(row.history || {}, bounds, Math.max(300, main.clientWidth - CHART_PADDING), view.cursor),
    h("h3", { key: "decisions-title" }, "Last decisions"),
    ...(row.decisions || []).map(decision),
    row.decisions?.length ? "" : h("p", { key: "undecided" }, "Nothing has been decided yet."),
  ];
}

const fact = (title, value, className = "") => h("div", { class: className }, h("dt", {}, title), h("dd", {}, value));

function decision(one) {
  return h("details", { key: `decision-${one.at_s}` },
    h("summary", {}, h("time", { datetime: new Date(one.at_s * 1000).toISOString() }, clockTime(one.at_s)),
      h("strong", {}, `${number(one.current)} → ${number(one.desired)}`), one.why),
    h("div", { class: "body" },
      h("h4", {}, "Signals"),
      table(["Name", "Load", "Target", "Demand", "Proposal", "State"], (one.series || []).map(signalCells)),
      h("h4", {}, "Stages, from the proposal to the count"),
      table(["Stage", "Replicas", "Why"], (one.stages || []).map((stage) => [
        stage.name, num(stage.replicas), stage.reason === "NONE" ? h("span", { class: "faint" }, stage.why) : `${stage.why} (${stage.reason})`,
      ]))));
}

function signalCells(series) {
  const age = series.age_s === null || series.age_s === undefined ? "" : `, ${number(series.age_s)} s old`;
  const notes = Object.entries(series.notes || {}).map(([name, value]) => `${name} ${number(value)}`).join(", ");
  return [
    h("div", { class: "signal" }, series.name, series.query ? h("div", {}, h("code", {}, series.query)) : "", notes ? h("div", { class: "faint" }, notes) : ""),
    num(series.load), num(series.target), num(series.demand), num(series.proposal),
    h("span", { class: series.signal === "OK" && !series.fault ? "faint" : "problem" }, (series.detail || series.signal) + age,
      series.fault ? h("div", {}, series.fault) : ""),
  ];
}

const num = (value) => ({ number: number(value) });

function table(titles, rows) {
  const numeric = titles.map((_, column) => rows.some((cells) => cells[column]?.number !== undefined));
  return h("table", {},
    h("thead", {}, h("tr", {}, ...titles.map((title, column) => h("th", { scope: "col", class: numeric[column] ? "number" : "" }, title)))),
    h("tbody", {}, ...rows.map((cells) => h("tr", {}, ...cells.map((cell, column) =>
      h("td", { class: numeric[column] ? "number" : "" }, cell?.number ?? cell))))));
}

// -- together

function render() {
  if (view.data === undefined) return;
  replace(Array.isArray(view.data) ? list(view.data) : detail(view.data));
}

function replace(nodes) {
  patch(main, nodes);
}

main.addEventListener("input", (event) => {
  if (event.target.id === "filter") {
    view.filter = event.target.value;
    render();
  }
});
main.addEventListener("submit", (event) => event.preventDefault());

function moveCursor(event) {
  const plot = event.target.closest?.("svg.plot");
  const cursor = plot ? event.clientX - plot.getBoundingClientRect().left : null;
  if (cursor !== view.cursor) {
    view.cursor = cursor;
    render();
  }
}
main.addEventListener("pointermove", moveCursor);
main.addEventListener("pointerleave", moveCursor);
window.addEventListener("resize", render);

window.addEventListener("hashchange", () => {
  view.data = undefined;
  view.cursor = null;
  view.filter = "";
  patch(main, []);
  const at = route();
  document.title = at ? `${at.namespace}/${at.name} – Autoscaler` : "Autoscaler";
  main.focus();
  scrollTo(0, 0);
  refresh();
});
document.addEventListener("visibilitychange", () => document.hidden || refresh());
refresh();
