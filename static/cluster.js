// @ts-check

import { arrange, ask, element, make, whileSeen, write, written } from "./page.js";

/** @typedef {{member: string, name: string, visits: number, live: boolean, state: string, self: boolean, heard: number | null, behind: number | null, removed: boolean, runs: number}} Member */
/** @typedef {{closed_runs: number, waits_for: {member: string}[]}} Folding */
/** @typedef {{node: string, member: string, state: string, store: {kind: string, up: boolean, unflushed: number}, transport: {kind: string, up: boolean}, folding: Folding, log: {unread: number} | null, warnings: string[], members: Member[]}} Cluster */

const REFRESH = 2000;

const body = /** @type {HTMLElement} */ (element("members").querySelector("tbody"));

/** @param {Cluster} cluster */
function show(cluster) {
  write(element("node"), cluster.node);
  write(element("member"), cluster.member);
  mark(element("state"), cluster.state);
  write(element("unflushed"), written(cluster.store.unflushed));
  if (cluster.log) write(element("unread"), written(cluster.log.unread));
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

/** @param {Member} member */
function newRow({ member, name }) {
  const row = make("tr", "", { "data-member": member });
  const head = make("th", name, { scope: "row" });
  head.append(make("small", member));
  const state = make("td");
  state.append(make("span", "", { class: "state" }));
  /** @param {string} field */
  const number = (field) => make("td", "", { class: `number ${field}` });
  row.append(head, state, ...["visits", "heard", "behind", "runs"].map(number));
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
  mark(cell("state"), member.removed ? "removed" : member.live ? member.state : "silent");
  write(cell("visits"), written(member.visits));
  write(cell("heard"), member.self ? "this node" : ago(member.heard));
  write(cell("behind"), member.behind === null ? "unknown" : written(member.behind));
  write(cell("runs"), written(member.runs));
}

/**
 * @param {HTMLElement} place
 * @param {string} state gives the mark its shape and colour
 * @param {string} text
 */
function mark(place, state, text = state) {
  place.dataset.state = state;
  write(place, text);
}

/** @param {number | null} seconds */
function ago(seconds) {
  if (seconds === null) return "never";
  if (seconds < 60) return `${seconds.toFixed(1)} s ago`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min ago` : `${Math.floor(seconds / 3600)} h ago`;
}

for (const cell of /** @type {NodeListOf<HTMLElement>} */ (body.querySelectorAll(".visits, .behind, .runs"))) {
  const value = Number(cell.textContent);
  if (!Number.isNaN(value)) write(cell, written(value));
}
whileSeen(REFRESH, async () => {
  const cluster = await ask("/cluster");
  element("stale").hidden = cluster !== null;
  if (cluster) show(cluster);
});
