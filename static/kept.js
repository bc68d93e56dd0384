// @ts-check

/** @import {Counts} from "./counter.js" */

import { Counter } from "./counter.js";

const PLACE = "visits.kept";
const OFF = "visits.kept.off";

/** The counters that this browser keeps, so that a page never shows less than an earlier one did. */
export class Kept {
  /** @type {Storage | null} */
  #storage;
  /** @type {Map<string, {counter: Counter, floor: number}>} */
  #videos = new Map();

  /** @param {Storage | null} storage */
  constructor(storage) {
    this.#storage = storage;
    /** @type {Record<string, {counts: Counts, floor: number}>} */
    const kept = read(storage?.getItem(PLACE));
    for (const [video, { counts, floor }] of Object.entries(kept)) {
      this.#videos.set(video, { counter: new Counter(counts), floor });
    }
  }

  get on() {
    return this.#storage !== null && this.#storage.getItem(OFF) === null;
  }

  /** @param {boolean} on off forgets everything */
  turn(on) {
    if (on) return this.#storage?.removeItem(OFF);
    this.#storage?.setItem(OFF, "1");
    this.forget();
  }

  /**
   * @param {string} video
   * @returns {Counts}
   */
  counts(video) {
    return this.#videos.get(video)?.counter.toJSON() ?? {};
  }

  /**
   * @param {string} video
   * @param {Counts} counts
   */
  merge(video, counts) {
    if (this.on && this.#of(video).counter.merge(counts).size) this.#write();
  }

  /** @param {string} video */
  floor(video) {
    return this.#videos.get(video)?.floor ?? 0;
  }

  /**
   * @param {string} video
   * @param {number} visits
   */
  raise(video, visits) {
    const its = this.#of(video);
    if (!this.on || visits <= its.floor) return;
    its.floor = visits;
    this.#write();
  }

  forget() {
    this.#videos.clear();
    this.#storage?.removeItem(PLACE);
  }

  /** @param {string} video */
  #of(video) {
    const its = this.#videos.get(video) ?? { counter: new Counter(), floor: 0 };
    this.#videos.set(video, its);
    return its;
  }

  #write() {
    const kept = [...this.#videos].map(([video, { counter, floor }]) => [video, { counts: counter, floor }]);
    this.#storage?.setItem(PLACE, JSON.stringify(Object.fromEntries(kept)));
  }
}

/** @param {string | null | undefined} text */
function read(text) {
  try {
    return JSON.parse(text ?? "{}");
  } catch {
    return {};
  }
}
