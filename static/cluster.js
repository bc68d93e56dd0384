// @ts-check

import { arrange, ask, element, make, whileSeen, write, written } from "./dom.js";
import { apartInWords } from "./footnotes.js";
import { SideBySide } from "./side_by_side.js";
import { TourPanel } from "./tour_panel.js";

/** @typedef {{kind: string, up: boolean}} Part */
/** @typedef {{member: string, name: string, visits: number, live: boolean, state: string, self: boolean, heard: number | null, behind: number | null, removed: boolean, folded: number, runs: number, store: Part | null, transport: Part | null, visits_per_second: number | null, messages_per_second: number | null}} Member */
/** @typedef {{closed_runs: number, waits_for: {member: string}[]}} Folding */
/** @typedef {{node: string, member: string, state: string, store: Part & {unflushed: number}, transport: Part, folding: Folding, not_counted?: Record<string, number>, log: {unread: number} | null, warnings: string[], members: Member[], ledger?: Ledger}} Cluster */
/** @typedef {{id: string, at: number, by: string, video: string, act: string, withdraw: number, reason: string}} Entry */
/** @typedef {{records: number, latest: Entry[]}} Ledger */

const REFRESH = 1500;
const ASK_NODES = 1000;
// Behind a balancer each answer may come from another node, and the page would flicker between their views. So it asks up
// to four times for the node that it shows.
const TRIES = 4;

const body = /** @type {HTMLElement} */ (element("members").querySelector("tbody"));
const rates = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** @type {Set<string>} the names of nodes that say they are cut off */
let cut = new Set();

/** @param {Cluster} cluster */
function show(cluster) {
  write(element("node"), cluster.node);
  write(element("member"), cluster.member);
  mark(element("state"), cluster.state);
  write(element("unflushed"), written(cluster.store.unflushed));
  if (cluster.log) write(element("unread"), written(cluster.log.unread));
  // A node of the version before, or its page, has none.
  const apart = document.getElementById("apart");
  if (apart && cluster.not_counted) write(apart, apartInWords(cluster.not_counted) || "none");
  write(element("closed-runs"), written(cluster.folding.closed_runs));
  write(element("waits-for"), cluster.folding.waits_for.map(({ member }) => member).join(", ") || "nobody");
  for (const part of /** @type {const} */ (["store", "transport"])) {
    const { kind, up } = cluster[part];
    mark(element(part), up ? "up" : "down", `${kind}, ${up ? "up" : "down"}`);
  }

  const warnings = element("warnings");
  if (warnings.textContent !== cluster.warnings.join("")) {
    warnings.replaceChildren(...cluster.warnings.map((warning) => make("li", warning)));
  }
  warnings.hidden = cluster.warnings.length === 0;

  // A node of the version before, or its page, has none.
  const ledger = document.getElementById("ledger");
  if (ledger && cluster.ledger) showLedger(ledger, cluster.ledger);

  const rows = /** @type {HTMLElement[]} */ ([...body.querySelectorAll("tr[data-member]")]);
  arrange(
    body,
    cluster.members.map((member) => {
      const row = rows.find((known) => known.dataset.member === member.member) ?? newRow(member);
      fill(row, member);
      return row;
    }),
  );
}

/**
 * @param {HTMLElement} section
 * @param {Ledger} ledger
 */
function showLedger(section, { records, latest }) {
  section.hidden = records === 0;
  write(element("records"), written(records));
  const list = /** @type {HTMLElement} */ (section.querySelector("tbody"));
  const known = /** @type {HTMLElement[]} */ ([...list.children]);
  arrange(
    list,
    latest.map((record) => known.find((row) => row.dataset.record === record.id) ?? newRecord(record)),
  );
}

/** @param {Entry} record it never changes */
function newRecord({ id, at, by, video, act, withdraw, reason }) {
  const template = /** @type {HTMLTemplateElement} */ (element("record-row"));
  const row = /** @type {HTMLElement} */ (template.content.firstElementChild?.cloneNode(true));
  row.dataset.record = id;
  /**
   * @param {string} field
   * @param {string} text
   */
  const fill = (field, text) => write(/** @type {HTMLElement} */ (row.querySelector(`.${field}`)), text);
  fill("of", video);
  fill("act", act);
  fill("withdrawn", withdraw ? written(withdraw) : "–");
  fill("why", reason || "–");
  fill("by", by);
  // What no clock shows is left out.
  fill("when", at < 8.64e15 ? new Date(at).toISOString().slice(0, 19).replace("T", " ") : "–");
  return row;
}

/**
 * A row for another member. `fill` overwrites everything else in it.
 * @param {Member} member
 */
function newRow({ member, name }) {
  // The member that answered has a row from the start.
  const row = /** @type {HTMLElement} */ (body.querySelector("tr")?.cloneNode(true));
  row.dataset.member = member;
  row.querySelector("th")?.replaceChildren(name, make("small", member));
  return row;
}

/**
 * @param {HTMLElement} row
 * @param {Member} member
 */
function fill(row, member) {
  /** @param {string} field */
  const cell = (field) => /** @type {HTMLElement} */ (row.querySelector(`.${field}`));
  row.classList.toggle("self", member.self);
  const state = member.live ? member.state : "silent";
  mark(cell("state"), member.removed ? "removed" : cut.has(member.name) ? "cut off" : state);
  write(cell("visits"), written(member.visits));
  write(cell("behind"), member.behind === null ? "unknown" : member.behind ? written(member.behind) : "in sync");
  cell("behind").classList.toggle("lacking", Boolean(member.behind));
  write(cell("heard"), member.self ? "this node" : ago(member.heard));
  for (const part of /** @type {const} */ (["store", "transport"])) {
    const told = member[part];
    if (told) mark(cell(part), told.up ? "up" : "down", told.up ? told.kind : `${told.kind}, down`);
    else mark(cell(part), "unknown", "–");
  }
  write(cell("visits-pace"), rate(member.visits_per_second));
  write(cell("messages-pace"), rate(member.messages_per_second));
  write(cell("runs"), written(member.runs));
  write(cell("folded"), written(member.folded));
}

/**
 * @param {HTMLElement} place
 * @param {string} state selects the shape and colour
 * @param {string} text
 */
function mark(place, state, text = state) {
  place.dataset.state = state;
  write(place, text);
}

/** @param {number | null} value per second; null if unknown */
function rate(value) {
  return value === null || value === undefined ? "–" : rates.format(value);
}

/** @param {number | null} seconds */
function ago(seconds) {
  if (seconds === null) return "never";
  if (seconds < 60) return `${seconds.toFixed(1)} s ago`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min ago` : `${Math.floor(seconds / 3600)} h ago`;
}

/**
 * The cluster as the node on the page sees it, or as another node does if that one does not answer.
 * @returns {Promise<Cluster | null>}
 */
async function look() {
  /** @type {Cluster | null} */
  let seen = null;
  for (let turn = 0; turn < TRIES; turn++) {
    const answer = await ask("/cluster");
    if (!answer) break;
    seen = answer;
    if (answer.member === element("member").textContent) break;
  }
  return seen;
}

for (const cell of /** @type {NodeListOf<HTMLElement>} */ (body.querySelectorAll(".visits, .behind, .runs, .folded"))) {
  const value = Number(cell.textContent);
  if (!Number.isNaN(value)) write(cell, written(value));
}

const sideBySide = new SideBySide();
const tourPanel = document.getElementById("tour") && new TourPanel(element("tour"), sideBySide);
sideBySide.onreading = (nodes) => {
  cut = new Set(nodes.filter(({ cut }) => cut).map(({ node }) => node));
  tourPanel?.see(nodes);
};
const turn = () => sideBySide.look();
void turn();
whileSeen(ASK_NODES, turn);
whileSeen(REFRESH, async () => {
  const cluster = await look();
  element("stale").hidden = cluster !== null;
  if (cluster) show(cluster);
});
