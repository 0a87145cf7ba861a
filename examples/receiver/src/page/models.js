// Keeps the Models page current. The page is whole without it: this asks for the same address again when the server
// says that something was stored, and carries over what differs. All text was escaped by the server, and nothing that a
// record holds is ever run: the policy of the page allows no script but this file.
"use strict";

// A page may wait for 20 s, and read for 10 s.
const DEADLINE_MS = 35000;
// The window moves on although nothing is stored.
const AT_LEAST_EVERY_MS = 60000;
const AGAIN_MS = 5000;
const POLL_MS = 5000;
const LAST = "These numbers are the last it gave; trying again.";

const byId = (id) => document.getElementById(id);
let source;
let timer = 0;
let isAsking = false;
let isBehind = false;

// Carrying over.

/** What tells a node from its neighbours, so that a row that moved stays the same row. */
function keyOf(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return undefined;
  return node.id || (node.tagName === "TR" ? node.cells[0]?.textContent : undefined);
}

function isSame(here, there) {
  return here.nodeType === there.nodeType && here.nodeName === there.nodeName && keyOf(here) === keyOf(there);
}

/** Whether a person has it in hand: it is left as it is. */
function isHeld(node) {
  return node.tagName === "FORM" && node.contains(document.activeElement);
}

function carryAttributes(here, there) {
  for (const { name, value } of there.attributes) {
    // What was opened stays open.
    if (name === "open") continue;
    if (here.getAttribute(name) !== value) here.setAttribute(name, value);
  }
  for (const { name } of [...here.attributes])
    if (name !== "open" && !there.hasAttribute(name)) here.removeAttribute(name);
}

/** Makes `here` look like `there`, changing no node that needs no change: focus and selection stay. */
function carry(here, there) {
  if (here.nodeType !== Node.ELEMENT_NODE) {
    if (here.nodeValue !== there.nodeValue) here.nodeValue = there.nodeValue;
    return;
  }
  if (isHeld(here)) return;
  carryAttributes(here, there);
  const keyed = new Map();
  for (const child of here.childNodes) {
    const key = keyOf(child);
    if (key !== undefined) keyed.set(key, child);
  }
  let place = here.firstChild;
  for (const wanted of [...there.childNodes]) {
    const key = keyOf(wanted);
    const known = key === undefined ? place : keyed.get(key);
    // Two rows may have one key: a node stands for one of them.
    keyed.delete(key);
    if (known && known.parentNode === here && isSame(known, wanted)) {
      carry(known, wanted);
      if (known === place) place = place.nextSibling;
      else here.insertBefore(known, place);
    } else {
      here.insertBefore(document.importNode(wanted, true), place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

/** Shows the page. Returns the problem that its text names instead of figures, if any. */
function show(text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  const main = page.querySelector("main");
  if (!main?.dataset.events)
    return `${main?.querySelector("[role=alert]")?.textContent ?? "This is not the page."} ${LAST}`;
  carry(document.querySelector("main"), main);
  carry(document.querySelector(".fresh"), page.querySelector(".fresh"));
  byId("zone").textContent = page.getElementById("zone").textContent;
  nameOrigin();
  return "";
}

// Times. The server writes them in the zone that this cookie names; a browser without cookies sees UTC.

const own = new Intl.DateTimeFormat().resolvedOptions().timeZone;
let zone = cookie() === "UTC" ? "UTC" : own;

/** The zone in the cookie, percent-encoded. */
function cookie() {
  return /(?:^|; )zone=([^;]*)/.exec(document.cookie)?.[1] ?? "";
}

/** Asks for the page in the zone, unless it is in it. */
function showZone() {
  const button = byId("other-zone");
  if (button && own !== "UTC") {
    button.textContent = zone === "UTC" ? "Show local time" : "Show UTC";
    button.hidden = false;
  }
  if ((cookie() || "UTC") === encodeURIComponent(zone)) return;
  const year = 365 * 86400;
  document.cookie = `zone=${encodeURIComponent(zone)}; path=/models; max-age=${year}; samesite=strict`;
  refresh();
}

// Asking.

/** A person is told when the connection is lost and when it is back, and of nothing in between. */
function report(problem) {
  document.body.classList.toggle("stale", problem !== "");
  const notice = byId("notice");
  if (notice.textContent !== problem) notice.textContent = problem;
}

async function refresh() {
  if (isAsking) {
    isBehind = true;
    return;
  }
  isAsking = true;
  isBehind = false;
  try {
    const answer = await fetch(location.pathname + location.search, {
      cache: "no-store",
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
    if (answer.redirected) {
      report("Signed out. Reload the page to sign in again.");
      stop();
      return;
    }
    if (!answer.ok) throw new Error(`answered ${answer.status}`);
    report(show(await answer.text()));
  } catch {
    report(`The receiver cannot be reached. ${LAST}`);
  } finally {
    isAsking = false;
    if (isBehind) refresh();
  }
}

// Listening. A browser comes back by itself where the connection broke, but not where the server refused it.

function listen() {
  clearInterval(timer);
  source?.close();
  if (typeof EventSource === "undefined") {
    timer = setInterval(refresh, POLL_MS);
    return;
  }
  timer = setInterval(refresh, AT_LEAST_EVERY_MS);
  source = new EventSource(document.querySelector("main").dataset.events);
  source.addEventListener("changed", refresh);
  source.addEventListener("error", () => {
    refresh();
    if (source.readyState !== EventSource.CLOSED) return;
    clearInterval(timer);
    timer = setTimeout(listen, AGAIN_MS);
  });
}

function stop() {
  clearInterval(timer);
  source?.close();
}

function nameOrigin() {
  const origin = byId("origin");
  if (origin) origin.textContent = location.origin;
}

nameOrigin();
byId("other-zone")?.addEventListener("click", () => {
  zone = zone === "UTC" ? own : "UTC";
  showZone();
});
showZone();
document.addEventListener("visibilitychange", () => (document.hidden ? stop() : listen()));
if (!document.hidden) listen();
