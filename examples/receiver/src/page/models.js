// Keeps the Models page current. The page is complete without it; this only writes newer numbers into the same cells.
// Text goes in through textContent alone: a model's name is whatever someone sent.
"use strict";

const PERIOD_MS = 2000;
const DEADLINE_MS = 8000;
const COLUMNS = [
  ["requests", "Requests", count],
  ["prompt_tokens", "Prompt", count],
  ["completion_tokens", "Completion", count],
  ["total_tokens", "Total", count],
  ["total_cost_usd", "Cost", money],
  ["avg_latency_ms", "Average", duration],
  ["p50_latency_ms", "p50", duration],
  ["p95_latency_ms", "p95", duration],
];

const byId = (id) => document.getElementById(id);
const hours = document.querySelector("main").dataset.hours;
const body = byId("rows");
let timer = 0;
let polling = false;

// The numbers, as page/format.rs writes them.

function count(number) {
  return number.toLocaleString("en-US", { maximumFractionDigits: 0 });
}

function short(number) {
  for (const [unit, letter] of [
    [1e12, "T"],
    [1e9, "B"],
    [1e6, "M"],
  ]) {
    if (Math.abs(number) >= unit) return (number / unit).toFixed(2) + letter;
  }
  return count(number);
}

function money(dollars) {
  const sign = dollars < 0 ? "-" : "";
  const size = Math.abs(dollars);
  const digits = { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  if (size >= 1) return `${sign}$${size.toLocaleString("en-US", digits)}`;
  if (size === 0) return "$0.00";
  if (size >= 0.01) return `${sign}$${size.toFixed(4)}`;
  return size >= 0.0000005 ? `${sign}$${size.toFixed(6)}` : `${sign}<$0.000001`;
}

function duration(ms) {
  if (ms === null) return "–";
  if (ms < 999.5) return `${ms.toFixed(0)} ms`;
  if (ms < 59995) return `${(ms / 1000).toFixed(2)} s`;
  const seconds = Math.round(ms / 1000);
  return `${count(Math.floor(seconds / 60))} m ${String(seconds % 60).padStart(2, "0")} s`;
}

function unpriced(unknown, requests) {
  return unknown ? `${count(unknown)} of ${count(requests)} unpriced` : "";
}

// Writing.

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function fill(cell, value, text, note = "") {
  cell.dataset.value = value ?? "";
  write(cell.querySelector("span"), text);
  write(cell.querySelector("small"), note);
}

function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function bar() {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 100 1");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const rect = document.createElementNS(space, "rect");
  rect.setAttribute("height", "1");
  svg.append(rect);
  return svg;
}

function newRow(model) {
  const cells = COLUMNS.map(([field, label]) =>
    element(
      "td",
      { role: "cell", "data-field": field, "data-label": label },
      element("span", {}),
      element("small", {}),
    ),
  );
  const share = element(
    "td",
    { role: "cell", class: "share", "data-label": "Share of tokens" },
    element("span", {}),
    bar(),
  );
  const head = element("th", { role: "rowheader", scope: "row" });
  head.textContent = model;
  return element("tr", { role: "row", "data-model": model }, head, ...cells, share);
}

function fillRow(row, stats, tokens) {
  for (const [field, , format] of COLUMNS) {
    const note = field === "total_cost_usd" ? unpriced(stats.unknown_cost_requests, stats.requests) : "";
    fill(row.querySelector(`[data-field="${field}"]`), stats[field], format(stats[field]), note);
  }
  const share = tokens > 0 ? Math.min(100, Math.max(0, (stats.total_tokens / tokens) * 100)) : 0;
  write(row.querySelector(".share span"), `${share.toFixed(1)}%`);
  row.querySelector(".share rect").setAttribute("width", share.toFixed(2));
}

function showRows(models, tokens) {
  const rows = new Map(Array.from(body.children, (row) => [row.dataset.model, row]));
  models.forEach((stats, index) => {
    const row = rows.get(stats.model) ?? newRow(stats.model);
    rows.delete(stats.model);
    fillRow(row, stats, tokens);
    // Moved only where the order changed, so that a selection or the focus stays.
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
  });
  for (const gone of rows.values()) gone.remove();
}

function showSummary(models, tokens) {
  const sum = (field) => models.reduce((total, stats) => total + (stats[field] ?? 0), 0);
  // A stock server does not say how many calls were timed; then every call weighs the same.
  const weight = (stats) => (stats.avg_latency_ms === null ? 0 : (stats.timed_requests ?? stats.requests));
  const timed = models.reduce((total, stats) => total + weight(stats), 0);
  const waited = models.reduce((total, stats) => total + weight(stats) * (stats.avg_latency_ms ?? 0), 0);
  const latency = timed > 0 ? waited / timed : null;
  const cost = sum("total_cost_usd");
  const show = (name, value, text, note) =>
    fill(document.querySelector(`[data-summary="${name}"]`), value, text, note);
  show("total_cost_usd", cost, money(cost), unpriced(sum("unknown_cost_requests"), sum("requests")));
  for (const field of ["requests", "prompt_tokens", "completion_tokens"])
    show(field, sum(field), short(sum(field)));
  show("total_tokens", tokens, short(tokens));
  show("avg_latency_ms", latency, duration(latency));
  show("models", models.length, short(models.length));
}

function show(models) {
  const tokens = models.reduce((total, stats) => total + stats.total_tokens, 0);
  showRows(models, tokens);
  showSummary(models, tokens);
  byId("calls").hidden = models.length === 0;
  byId("empty").hidden = models.length !== 0;
  byId("unknown").hidden = !models.some((stats) => stats.unknown_cost_requests > 0);
}

// Asking.

function report(problem) {
  document.body.classList.toggle("stale", problem !== "");
  write(byId("notice"), problem);
}

async function poll() {
  if (polling || document.hidden) return;
  polling = true;
  try {
    const answer = await fetch(`/api/model-stats?hours=${hours}`, {
      cache: "no-store",
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
    if (answer.status === 401) {
      report("Signed out. Reload the page to sign in again.");
      return;
    }
    if (!answer.ok) throw new Error(`answered ${answer.status}`);
    show(await answer.json());
    write(byId("updated"), `updated ${new Date().toLocaleTimeString("en-GB")}`);
    report("");
  } catch {
    report("The receiver cannot be reached. These numbers are the last it gave; trying again.");
  } finally {
    polling = false;
    schedule();
  }
}

function schedule() {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(poll, PERIOD_MS);
}

byId("origin").textContent = location.origin;
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : poll()));
poll();
