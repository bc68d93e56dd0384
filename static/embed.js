// @ts-check

/** @import {Sent, State} from "./live.js" */

import { Counter, isVideo } from "./counter.js";
import { ask, whileSeen, write, written } from "./dom.js";
import { Live, liveAddress } from "./live.js";

// How often the numbers are read that no connection sends, ms.
const REFRESH = 5000;
// A node sends up to 100 counters on one connection, and servers refuse request lines of more than 4 KB.
const MOST_VIDEOS = 100;
const LONGEST_ADDRESS = 3800;

/**
 * What the numbers need of the page that they are in; tests pass their own.
 * @typedef {object} Surroundings
 * @property {URL} node where this module came from
 * @property {Pick<Document, "querySelectorAll" | "addEventListener" | "visibilityState"> & {prerendering?: boolean}} page
 * @property {(receive: (sent: Sent) => void, show: (state: State) => void) => {watch: (address: string) => void}} connect
 * @property {(address: string) => Promise<{counters: Sent[]} | null>} read
 * @property {(address: string) => unknown} count tells a node of a visit
 * @property {(act: () => Promise<void>) => void} again acts every few seconds, while the page is seen
 * @property {(words: string) => void} warn
 */

/** The numbers in the spans of a page, and the visits that it counts. */
export class Numbers {
  /** @type {Map<string, Counter>} of each video that somebody has asked for */
  #counters = new Map();
  /** @type {Map<string, HTMLElement[]>} */
  #spans = new Map();
  /** @type {string[][]} the videos, as many in each as one request may name; the first are live */
  #groups = [];
  /** @type {State} */
  #state = "connecting";
  /** @type {Set<string>} */
  #counted = new Set();
  /** @type {WeakMap<HTMLElement, string>} spans with an id that is none */
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
      // Browsers take the last two for folders.
      if (!isVideo(video) || video === "." || video === "..") this.#refuse(span, video);
      else this.#spans.set(video, [...(this.#spans.get(video) ?? []), span]);
    }
    for (const video of this.#spans.keys()) this.#show(video);
    const videos = [...this.#spans.keys()];
    const [live = []] = this.#groups;
    // What only left the page is no reason for a new connection, nor is what a full one has no place for.
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
    // A joining node knows a part of what was counted, and a part must not be shown as the whole.
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

  /** Read what no connection sends. */
  async #read() {
    const [live = [], ...others] = this.#groups;
    for (const videos of this.#state === "live" ? others : [live, ...others]) {
      if (videos.length === 0) continue;
      const query = videos.map((video) => `video=${video}`).join("&");
      const answer = await this.#around.read(new URL(`/counts?${query}`, this.#around.node).href);
      answer?.counters.forEach((sent) => this.#receive(sent));
    }
  }

  /** Count a visit for each video that asks for it, once somebody sees the page. */
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
      `data-visits="${video.slice(0, 200)}" is no video's id, and is left as it is: ` +
        "use 1 to 128 characters out of A-Z a-z 0-9 . _ ~ -",
    );
  }
}

/**
 * The videos in groups that one request may name.
 * @param {string[]} videos
 * @returns {string[][]}
 */
export function grouped(videos) {
  /** @type {string[][]} */
  const groups = [];
  let room = 0;
  for (const video of videos) {
    const length = "&video=".length + video.length;
    const last = groups.at(-1);
    if (last && last.length < MOST_VIDEOS && length <= room) last.push(video);
    else {
      groups.push([video]);
      room = LONGEST_ADDRESS;
    }
    room -= length;
  }
  return groups;
}

/**
 * Whether something other than text came, or another video is meant.
 * @param {MutationRecord} change
 */
function isNews({ type, addedNodes, removedNodes }) {
  return type === "attributes" || [...addedNodes, ...removedNodes].some((node) => node instanceof Element);
}

/** @type {Numbers | undefined} */
let numbers;

/** Find spans at once that a script has put on the page; without it they are found a moment later. */
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
    if (changes.some(isNews)) found.scan();
  }).observe(document, {
    subtree: true,
    childList: true,
    attributes: true,
    attributeFilter: ["data-visits", "data-count"],
  });
}
