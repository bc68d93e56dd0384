// @ts-check

/** @import {Sent, State} from "./live.js" */

import { Counter } from "./counter.js";
import { ask, whileSeen, write, written } from "./dom.js";
import { Live, liveAddress } from "./live.js";
import { complaint, grouped } from "./routes.js";

// How often numbers that do not come over the connection are read, ms.
const REFRESH = 5000;

/**
 * What the numbers need from the page around them; tests pass their own.
 * @typedef {object} Surroundings
 * @property {URL} node the address of this module, and so of a node
 * @property {Pick<Document, "querySelectorAll" | "addEventListener" | "visibilityState"> & {prerendering?: boolean}} page
 * @property {(receive: (sent: Sent) => void, show: (state: State) => void) => {watch: (address: string) => void}} connect
 * @property {(address: string) => Promise<{counters: Sent[]} | null>} read
 * @property {(address: string) => unknown} count reports a visit to a node
 * @property {(act: () => Promise<void>) => void} again runs an action every few seconds while the page is visible
 * @property {(words: string) => void} warn
 */

/** Fills the spans of a page with numbers, and counts its visits. */
export class Numbers {
  /** @type {Map<string, Counter>} by video */
  #counters = new Map();
  /** @type {Map<string, HTMLElement[]>} */
  #spans = new Map();
  /** @type {string[][]} the videos in groups of one request each; the first group is live */
  #groups = [];
  /** @type {State} */
  #state = "connecting";
  /** @type {Set<string>} */
  #counted = new Set();
  /** @type {WeakMap<HTMLElement, string>} spans with an invalid id */
  #refused = new WeakMap();
  #live;
  #around;

  /** @param {Surroundings} surroundings */
  constructor(surroundings) {
    this.#around = surroundings;
    this.#live = surroundings.connect(
      (sent) => this.#receive(sent),
      (state) => {
        this.#state = state;
      },
    );
    this.#around.again(() => this.#read());
    for (const event of ["visibilitychange", "prerenderingchange"]) {
      this.#around.page.addEventListener(event, () => this.#count());
    }
    this.scan();
  }

  /** Find the spans that are on the page now. */
  scan() {
    this.#spans = new Map();
    for (const span of /** @type {Iterable<HTMLElement>} */ (this.#around.page.querySelectorAll("[data-visits]"))) {
      const { visits: video = "" } = span.dataset;
      if (complaint(video)) this.#refuse(span, video);
      else this.#spans.set(video, [...(this.#spans.get(video) ?? []), span]);
    }
    for (const video of this.#spans.keys()) this.#show(video);
    const videos = [...this.#spans.keys()];
    const [live = []] = this.#groups;
    // Videos that left the page, or do not fit into the first group, need no new connection.
    const [first = []] = grouped(videos);
    if (videos.length && first.every((video) => live.includes(video))) {
      this.#groups = [live, ...grouped(videos.filter((video) => !live.includes(video)))];
    } else {
      this.#groups = grouped(videos);
      this.#live.watch(first.length ? liveAddress(first, this.#around.node) : "");
    }
    this.#count();
  }

  /** @param {Sent} sent */
  #receive({ video, visits, counts }) {
    // A joining node knows only a part of the count. A part must not be shown as the whole.
    if (visits === null) return;
    const counter = this.#counters.get(video) ?? new Counter();
    this.#counters.set(video, counter);
    counter.merge(counts);
    this.#show(video);
  }

  /** @param {string} video */
  #show(video) {
    const counter = this.#counters.get(video);
    if (!counter) return;
    for (const span of this.#spans.get(video) ?? []) write(span, written(counter.visits));
  }

  /** Read the numbers that do not come over the connection. */
  async #read() {
    const [live = [], ...others] = this.#groups;
    for (const videos of this.#state === "live" ? others : [live, ...others]) {
      if (videos.length === 0) continue;
      const query = videos.map((video) => `video=${video}`).join("&");
      const answer = await this.#around.read(new URL(`/counts?${query}`, this.#around.node).href);
      answer?.counters.forEach((sent) => this.#receive(sent));
    }
  }

  /** Count one visit for each video with `data-count`, once the page is visible. */
  #count() {
    const { page, node, count } = this.#around;
    if (page.prerendering || page.visibilityState !== "visible") return;
    for (const [video, spans] of this.#spans) {
      if (this.#counted.has(video) || !spans.some((span) => span.dataset.count !== undefined)) continue;
      this.#counted.add(video);
      count(new URL(`/hit/${video}`, node).href);
    }
  }

  /**
   * @param {HTMLElement} span
   * @param {string} video
   */
  #refuse(span, video) {
    if (this.#refused.get(span) === video) return;
    this.#refused.set(span, video);
    this.#around.warn(
      `data-visits="${video.slice(0, 200)}" is no video's id, so its text stays as it is: ` +
        "use 1 to 128 characters out of A-Z a-z 0-9 . _ ~ -",
    );
  }
}

/**
 * Whether elements came or went, or a span names another video.
 * @param {MutationRecord} change
 */
function concernsSpans({ type, addedNodes, removedNodes }) {
  return type === "attributes" || [...addedNodes, ...removedNodes].some((node) => node instanceof Element);
}

/** @type {Numbers | undefined} */
let numbers;

/** Find spans that a script has just added. Without this call they are found a moment later. */
export function scan() {
  numbers?.scan();
}

if (globalThis.document) {
  const found = (numbers = new Numbers({
    node: new URL(import.meta.url),
    page: document,
    connect: (receive, show) => new Live(receive, show),
    read: ask,
    count: (address) => navigator.sendBeacon(address),
    again: (act) => whileSeen(REFRESH, act),
    warn: (words) => console.warn(words),
  }));
  new MutationObserver((changes) => {
    if (changes.some(concernsSpans)) found.scan();
  }).observe(document, {
    subtree: true,
    childList: true,
    attributes: true,
    attributeFilter: ["data-visits", "data-count"],
  });
}
