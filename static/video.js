// @ts-check

/** @import {Share} from "./counter.js" */
/** @import {Sent} from "./live.js" */

import { Counter, nameOf } from "./counter.js";
import { Live, liveAddress } from "./live.js";
import { arrange, element, make, showConnection, write, written } from "./page.js";

// A climb of this many ms looks calm, and is over before the eye waits for it.
const CLIMB = 600;
// Screen readers would do nothing but read numbers without a pause of this many ms.
const QUIET = 10_000;

const visits = element("visits");
const unit = element("unit");
const table = /** @type {HTMLTableElement} */ (element("by-node"));
const toggle = element("by-node-toggle");
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** @type {Sent} */
const first = JSON.parse(element("video").dataset.counter ?? "{}");
const counter = new Counter();
/** @type {Map<string, HTMLElement>} */
const rows = new Map();
let known = false;
let shown = 0;
let frame = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let announcing;
// The number that came with the page is read with the page.
let announced = Date.now();

/**
 * Take in a counter, and return whether the page shows anything new for it.
 * @param {Sent} sent
 */
function receive(sent) {
  // A joining node knows a part of what was counted, and a part must not be shown as the whole.
  if (sent.video !== first.video || sent.visits === null) return false;
  const grew = counter.merge(sent.counts);
  if (known && grew.size === 0) return false;
  known = true;
  visits.dataset.visits = String(counter.visits);
  element("coming").hidden = true;
  climb();
  fill(new Set([...grew.keys()].map(nameOf)));
  return true;
}

/** Let the number on the page run up to the counter's. It only ever rises. */
function climb() {
  cancelAnimationFrame(frame);
  const from = shown;
  const way = counter.visits - from;
  // A number seen for the first time has nothing to climb from.
  if (still.matches || document.hidden || from === 0) return put(counter.visits);
  /** @type {number | undefined} */
  let began;
  /** @param {number} now */
  const step = (now) => {
    began ??= now;
    const part = Math.min(1, (now - began) / CLIMB);
    put(from + Math.round(way * (1 - (1 - part) ** 3)));
    if (part < 1) frame = requestAnimationFrame(step);
  };
  frame = requestAnimationFrame(step);
}

/** @param {number} value */
function put(value) {
  shown = value;
  const text = written(value);
  write(visits, text);
  write(unit, value === 1 ? "visit" : "visits");
  // The style sheet makes long numbers smaller, so that they stay on one line.
  visits.style.setProperty("--length", String(text.length));
}

/** @param {Set<string>} grew names of the nodes that counted */
function fill(grew) {
  const shares = counter.byName();
  for (const share of shares) {
    const row = rows.get(share.name) ?? newRow(share);
    row.title = share.members.map(([id]) => id).join(", ");
    const cell = /** @type {HTMLElement} */ (row.querySelector("td[data-count]"));
    cell.dataset.count = String(share.visits);
    write(cell, written(share.visits));
    if (grew.has(share.name) && !still.matches) cell.animate({ opacity: [0.35, 1] }, CLIMB);
    const stores = /** @type {HTMLElement} */ (row.querySelector("small"));
    stores.hidden = share.members.length === 1;
    write(stores, share.members.map(([id, count]) => `${id}: ${written(count)}`).join("\n"));
    const bar = /** @type {HTMLProgressElement} */ (row.querySelector("progress"));
    bar.value = share.visits / counter.visits;
  }
  // Counters only grow, and so do their names: every row there is belongs to a share.
  arrange(/** @type {HTMLElement} */ (table.tBodies[0]), shares.map(({ name }) => /** @type {HTMLElement} */ (rows.get(name))));
  write(element("sum"), written(counter.visits));
}

/** @param {Share} share */
function newRow({ name }) {
  const row = make("tr", "", { "data-name": name });
  const head = make("th", name, { scope: "row" });
  head.append(make("small"));
  const part = make("td", "", { class: "part" });
  part.append(make("progress", "", { max: "1", "aria-hidden": "true" }));
  row.append(head, part, make("td", "", { class: "number", "data-count": "0" }));
  rows.set(name, row);
  return row;
}

/** Tell screen readers the newest number, at most once in a while. */
function announce() {
  announcing ??= setTimeout(
    () => {
      announcing = undefined;
      announced = Date.now();
      write(element("announcement"), `${written(counter.visits)} ${unit.textContent}`);
    },
    Math.max(0, announced + QUIET - Date.now()),
  );
}

toggle.addEventListener("click", () => {
  table.hidden = !table.hidden;
  toggle.setAttribute("aria-expanded", String(!table.hidden));
});

receive(first);

new Live((sent) => {
  write(element("live-node"), sent.node);
  if (receive(sent)) announce();
}, showConnection).watch(liveAddress(first.video));
