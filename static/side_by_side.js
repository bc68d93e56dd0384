// @ts-check

/** @import {Order} from "./tour.js" */

import { Chart, History, apartByName } from "./chart.js";
import { arrange, ask, element, write, written } from "./dom.js";
import { complaint } from "./routes.js";
import { shortened } from "./short_names.js";

/**
 * What a node shows of the video; without an answer `visits` is null and `problem` says why.
 * @typedef {{node: string, visits: number | null, state?: string, cut?: boolean, self?: boolean, problem?: string}} Reading
 */

const BURST = 50;
// The space between the sample of a line and the name, px. The style sheet has the same.
const GAP = 10;

/** One video as each node shows it: a chart of the last minutes, and a table of the newest numbers. */
export class SideBySide {
  /** @type {(readings: Reading[]) => void} */
  onreading = () => {};
  /** @type {Reading[]} the newest reading of each node */
  nodes = [];
  #history = new History();
  #chart = new Chart(element("chart"));
  #body = /** @type {HTMLElement} */ (element("nodes").querySelector("tbody"));
  #field = /** @type {HTMLInputElement} */ (element("chosen"));
  #video = element("sides").dataset.video ?? "";

  constructor() {
    element("choose").addEventListener("submit", (event) => {
      this.#field.value = this.#field.value.trim();
      const problem = complaint(this.#field.value);
      write(element("chosen-problem"), problem);
      this.#field.setAttribute("aria-invalid", String(problem !== ""));
      // Each video has a page of its own, which can be bookmarked and shared: so the form is sent.
      if (!problem) return;
      event.preventDefault();
      this.#field.focus();
    });
    this.#body.addEventListener("click", (event) => this.#press(event));
    for (const row of this.#rows()) this.#style(row);
    new ResizeObserver(() => {
      this.#draw();
      this.#name();
    }).observe(element("chart"));
  }

  /** Ask each node what it shows now. */
  async look() {
    /** @type {{nodes: Reading[]} | null} */
    const answer = await ask(`/cluster/counts?video=${encodeURIComponent(this.#video)}`);
    if (!answer) return;
    this.nodes = apartByName(answer.nodes).sort((left, right) => (left.node < right.node ? -1 : 1));
    this.#history.note(this.nodes, Date.now());
    this.#show();
    this.#draw();
    this.onreading(this.nodes);
  }

  /**
   * Send orders to nodes for the demonstration, and name the nodes that did not obey.
   * @param {Order[]} orders
   * @returns {Promise<boolean>} whether all did
   */
  async order(orders) {
    const done = await Promise.all(orders.map((order) => send(order, this.#video)));
    const failed = orders.filter((_, place) => !done[place]).map(({ node }) => node);
    write(element("problem"), failed.length ? `${failed.join(" and ")} did not do that. Is it running?` : "");
    return failed.length === 0;
  }

  #rows() {
    return /** @type {HTMLElement[]} */ ([...this.#body.querySelectorAll("tr[data-node]")]);
  }

  #show() {
    const rows = this.#rows();
    const missing = this.#history.missing();
    arrange(
      this.#body,
      this.nodes.map((reading) => {
        const row = rows.find(({ dataset }) => dataset.node === reading.node) ?? this.#newRow(reading.node);
        fill(row, reading, missing.get(reading.node) ?? null);
        return row;
      }),
    );
    this.#agree(missing);
    this.#name();
  }

  /** Write the names of the nodes so that they fit, and so that each differs from the others. */
  #name() {
    const rows = this.#rows();
    const [first] = rows;
    if (!first) return;
    const names = rows.map(({ dataset }) => dataset.node ?? "");
    const [room, width] = roomOf(first);
    const short = shortened(names, (text) => width(text) <= room);
    rows.forEach((row, place) => writeName(row, names[place] ?? "", short[place] ?? "", room < width(short[place] ?? "")));
  }

  /**
   * Say in words what the lines show. Screen readers announce it, so it holds no numbers that change.
   * @param {Map<string, number | null>} missing
   */
  #agree(missing) {
    /** @param {(reading: Reading) => boolean} whether */
    const names = (whether) => this.nodes.filter(whether).map(({ node }) => node).join(" and ");
    const mute = names(({ visits }) => visits === null);
    const cut = names(({ cut }) => cut === true);
    const parted = this.nodes.some(({ node }) => missing.get(node));
    const words = [
      ...(mute ? [`No answer from ${mute}.`] : []),
      ...(cut ? [`Cut off: ${cut}.`] : []),
      parted ? "The numbers have parted." : "The numbers are the same.",
    ];
    const agreement = element("agreement");
    agreement.dataset.state = parted || cut ? "parted" : mute ? "silent" : "ready";
    write(agreement, words.join(" "));
  }

  /** @param {string} node */
  #newRow(node) {
    const { content } = /** @type {HTMLTemplateElement} */ (element("node-row"));
    const row = /** @type {HTMLElement} */ (content.querySelector("tr")?.cloneNode(true));
    row.dataset.node = node;
    writeName(row, node, node);
    row.querySelector(".burst")?.setAttribute("aria-label", `${BURST} visits to ${node}`);
    this.#style(row);
    return row;
  }

  /** @param {HTMLElement} row */
  #style(row) {
    row.querySelector(".sample path")?.setAttribute("data-slot", this.#chart.slot(row.dataset.node ?? ""));
  }

  /** @param {Event} event */
  #press(event) {
    const button = event.target instanceof Element && event.target.closest("button");
    const row = /** @type {HTMLElement | null} */ (button && button.closest("tr"));
    if (!button || !row?.dataset.node) return;
    const { node } = row.dataset;
    if (button.classList.contains("burst")) void this.order([{ act: "burst", node, visits: BURST }]);
    else void this.order([{ act: row.classList.contains("cut-off") ? "heal" : "cut", node }]);
  }

  #draw() {
    this.#chart.draw(this.#history, Date.now());
  }
}

/**
 * How much room a row has for its name, in px, and how wide a text is in its letters.
 * @param {HTMLElement} row
 * @returns {[number, (text: string) => number]}
 */
function roomOf(row) {
  const head = /** @type {HTMLElement} */ (row.querySelector("th"));
  const { maxWidth, paddingLeft, paddingRight, fontWeight, fontSize, fontFamily } = getComputedStyle(head);
  // In a table the width follows the text, up to this limit; in a grid the text has what the numbers leave.
  const limit = parseFloat(maxWidth);
  const whole = Number.isNaN(limit) ? head.clientWidth : limit;
  const sample = head.querySelector("svg")?.getBoundingClientRect().width ?? 0;
  const pen = document.createElement("canvas").getContext("2d");
  // Where figures have one width, which a shorthand cannot say, the computed `font` is empty.
  if (pen) pen.font = `${fontWeight} ${fontSize} ${fontFamily}`;
  // The least part of a pixel may be lost where the browser draws it.
  const width = (/** @type {string} */ text) => (pen ? Math.ceil(pen.measureText(text).width) : 0);
  return [whole - parseFloat(paddingLeft) - parseFloat(paddingRight) - sample - GAP, width];
}

/**
 * Write a node's name, short for the eye and whole for everything else.
 * @param {HTMLElement} row
 * @param {string} name
 * @param {string} short
 * @param {boolean} wraps whether it may take more than one line
 */
function writeName(row, name, short, wraps = false) {
  const head = /** @type {HTMLElement} */ (row.querySelector("th"));
  const [seen, heard] = /** @type {HTMLElement[]} */ ([...head.querySelectorAll(".name, .unseen")]);
  head.title = name;
  if (!seen || !heard) return;
  seen.classList.toggle("wraps", wraps);
  write(seen, short);
  write(heard, short === name ? "" : name);
  if (short === name) seen.removeAttribute("aria-hidden");
  else seen.setAttribute("aria-hidden", "true");
}

/**
 * @param {HTMLElement} row
 * @param {Reading} reading
 * @param {number | null} missing
 */
function fill(row, { node, visits, cut, state, problem }, missing) {
  /** @param {string} field */
  const cell = (field) => /** @type {HTMLElement} */ (row.querySelector(`.${field}`));
  write(cell("visits"), visits === null ? "–" : written(visits));
  const behind = missing === null ? "–" : written(missing);
  write(cell("missing"), visits !== null ? behind : state === "joining" ? "joining" : "no answer");
  cell("missing").title = problem ?? "";
  cell("missing").classList.toggle("lacking", visits === null || Boolean(missing));
  row.classList.toggle("cut-off", cut === true);
  // Only with DEV_MODE.
  const button = row.querySelector("button.cut");
  const act = cut ? "Heal" : "Cut off";
  if (!(button instanceof HTMLElement) || button.getAttribute("aria-label") === `${act} ${node}`) return;
  write(button, act);
  button.setAttribute("aria-label", `${act} ${node}`);
}

/**
 * @param {Order} order
 * @param {string} video
 */
async function send({ act, node, visits = BURST }, video) {
  const query = new URLSearchParams(act === "burst" ? { node, video, visits: String(visits) } : { node });
  try {
    const answer = await fetch(`/dev/${act}?${query}`, { method: "POST", signal: AbortSignal.timeout(5000) });
    return answer.ok;
  } catch {
    return false;
  }
}
