// @ts-check

/** @import {Order} from "./tour.js" */

import { Chart, History, apartByName } from "./chart.js";
import { arrange, ask, element, write, written } from "./dom.js";
import { complaint } from "./routes.js";

/**
 * What a node shows of the video; without an answer `visits` is null and `problem` says why.
 * @typedef {{node: string, visits: number | null, state?: string, cut?: boolean, self?: boolean, problem?: string}} Reading
 */

const BURST = 50;

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
    new ResizeObserver(() => this.#draw()).observe(element("chart"));
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
    row.querySelector("th")?.append(node);
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
