// @ts-check

/** @import {Order} from "./tour.js" */

import { Chart, History, apartByName } from "./chart.js";
import { arrange, ask, element, make, write, written } from "./dom.js";
import { complaint } from "./routes.js";

/** @typedef {{node: string, visits: number | null, state?: string, cut?: boolean, self?: boolean, problem?: string}} Side */
/** @typedef {{video: string, nodes: Side[], dev: boolean}} Reading */

const BURST = 50;

/** One video as each node shows it: a chart of the last minutes, and a table of the newest numbers. */
export class SideBySide {
  /** @type {(reading: Reading) => void} */
  onreading = () => {};
  /** @type {Reading | null} */
  reading = null;
  #history = new History();
  #chart = new Chart(element("chart"));
  #body = /** @type {HTMLElement} */ (element("nodes").querySelector("tbody"));
  #field = /** @type {HTMLInputElement} */ (element("chosen"));
  #dev = document.getElementById("tour") !== null;
  #video = element("sides").dataset.video ?? "";

  constructor() {
    element("choose").addEventListener("submit", (event) => {
      this.#field.value = this.#field.value.trim();
      const wrong = complaint(this.#field.value);
      this.#complain(wrong);
      // A good one is a page of its own: it can be kept and sent to others.
      if (!wrong) return;
      event.preventDefault();
      this.#field.focus();
    });
    this.#body.addEventListener("click", (event) => this.#press(event));
    for (const row of this.#rows()) this.#style(row);
    new ResizeObserver(() => this.#draw()).observe(element("chart"));
  }

  /** The nodes as they were heard last. */
  get nodes() {
    return this.reading?.nodes ?? [];
  }

  /** Ask what each node shows now. */
  async look() {
    /** @type {Reading | null} */
    const answer = await ask(`/cluster/counts?video=${encodeURIComponent(this.#video)}`);
    if (!answer) return;
    const reading = { ...answer, nodes: apartByName(answer.nodes) };
    this.reading = reading;
    this.#history.note(reading.nodes, Date.now());
    this.#show(reading);
    this.#draw();
    this.onreading(reading);
  }

  /**
   * Have nodes do something for the demonstration, and say so if they do not.
   * @param {Order[]} orders
   * @returns {Promise<boolean>} whether all did
   */
  async order(orders) {
    const done = await Promise.all(orders.map((order) => send(order, this.#video)));
    const failed = orders.filter((_, place) => !done[place]).map(({ node }) => node);
    write(element("problem"), failed.length ? `${failed.join(" and ")} did not do that. Is it running?` : "");
    return failed.length === 0;
  }

  /** @param {string} problem */
  #complain(problem) {
    write(element("chosen-problem"), problem);
    this.#field.setAttribute("aria-invalid", String(problem !== ""));
  }

  #rows() {
    return /** @type {HTMLElement[]} */ ([...this.#body.querySelectorAll("tr[data-node]")]);
  }

  /** @param {Reading} reading */
  #show({ nodes }) {
    const rows = this.#rows();
    const missing = this.#history.missing();
    const sorted = nodes.toSorted((left, right) => (left.node < right.node ? -1 : 1));
    arrange(
      this.#body,
      sorted.map((node) => {
        const row = rows.find(({ dataset }) => dataset.node === node.node) ?? this.#newRow(node.node);
        this.#fill(row, node, missing.get(node.node) ?? null);
        return row;
      }),
    );
    this.#agree(sorted, missing);
  }

  /**
   * Say in words what the lines show; this is told to screen readers, so it holds no numbers that change.
   * @param {Side[]} sides
   * @param {Map<string, number | null>} missing
   */
  #agree(sides, missing) {
    /** @param {(side: Side) => boolean} whether */
    const names = (whether) => sides.filter(whether).map(({ node }) => node).join(" and ");
    const mute = names(({ visits }) => visits === null);
    const cut = names(({ cut }) => cut === true);
    const parted = sides.some(({ node }) => missing.get(node));
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
    const row = make("tr", "", { "data-node": node });
    const head = make("th", node, { scope: "row" });
    head.prepend(sample());
    row.append(head, make("td", "", { class: "number visits" }), make("td", "", { class: "number missing" }));
    if (this.#dev) {
      const buttons = make("div", "", { class: "buttons" });
      buttons.append(
        make("button", `${BURST} visits`, { type: "button", class: "plain burst", "aria-label": `${BURST} visits to ${node}` }),
        make("button", "Cut off", { type: "button", class: "plain cut", "aria-label": `Cut off ${node}` }),
      );
      const cell = make("td", "", { class: "try" });
      cell.append(buttons);
      row.append(cell);
    }
    this.#style(row);
    return row;
  }

  /** @param {HTMLElement} row */
  #style(row) {
    row.querySelector(".sample path")?.setAttribute("data-slot", this.#chart.slot(row.dataset.node ?? ""));
  }

  /**
   * @param {HTMLElement} row
   * @param {Side} side
   * @param {number | null} missing
   */
  #fill(row, { node, visits, cut, state, problem }, missing) {
    /** @param {string} field */
    const cell = (field) => /** @type {HTMLElement} */ (row.querySelector(`.${field}`));
    write(cell("visits"), visits === null ? "–" : written(visits));
    const behind = missing === null ? "–" : written(missing);
    write(cell("missing"), visits !== null ? behind : state === "joining" ? "joining" : "no answer");
    cell("missing").title = problem ?? "";
    cell("missing").classList.toggle("lacking", visits === null || Boolean(missing));
    row.classList.toggle("cut-off", cut === true);
    const button = this.#dev && cell("cut");
    if (!button) return;
    const act = cut ? "Heal" : "Cut off";
    write(button, act);
    if (button.getAttribute("aria-label") !== `${act} ${node}`) button.setAttribute("aria-label", `${act} ${node}`);
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

/** A piece of a line, as a key to the chart. */
function sample() {
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawn.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  for (const [name, value] of [["class", "sample"], ["viewBox", "0 0 28 10"], ["aria-hidden", "true"]]) {
    drawn.setAttribute(name ?? "", value ?? "");
  }
  drawn.firstElementChild?.setAttribute("d", "M0 5h28");
  return drawn;
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
