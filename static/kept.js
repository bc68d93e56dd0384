// @ts-check

/** @import {Counts} from "./counter.js" */

import { Counter } from "./counter.js";

/** @typedef {{counts: Counts, floor: number, seen: number}} Item `seen`: when it last grew, Unix time in ms */

const PREFIX = "visits.kept:";
const SWITCH = "visits.keep";
const MOST = 200;

/**
 * The counters that this browser keeps, so that a page never shows less than an earlier one did. An item a video, which
 * is joined with what other tabs have written meanwhile.
 *
 * Whatever the storage refuses, and whatever else is found in it, is as if nothing were kept.
 */
export class Kept {
  /** @type {Storage | null} */
  #storage;
  #now;

  /**
   * @param {Storage | null} storage
   * @param {() => number} now
   */
  constructor(storage, now = () => Date.now()) {
    this.#storage = storage;
    this.#now = now;
    const items = this.#videos().map((video) => ({ video, seen: this.#read(video).seen }));
    items.sort((left, right) => right.seen - left.seen);
    for (const { video } of items.slice(MOST)) this.#remove(PREFIX + video);
  }

  /** Whether anything is kept. */
  get on() {
    return this.#storage !== null && this.#get(SWITCH) !== "off";
  }

  /** @param {boolean} on off forgets everything */
  turn(on) {
    if (on) return this.#remove(SWITCH);
    this.#set(SWITCH, "off");
    this.forget();
  }

  /**
   * @param {string} video
   * @returns {Counts}
   */
  counts(video) {
    return this.on ? this.#read(video).counts : {};
  }

  /**
   * Join the counts of a video with those that are kept.
   * @param {string} video
   * @param {Counts} counts
   */
  merge(video, counts) {
    if (!this.on) return;
    const item = this.#read(video);
    const counter = new Counter(item.counts);
    if (counter.merge(counts).size) this.#write(video, { ...item, counts: counter.toJSON() });
  }

  /**
   * The visits below which the number of a video does not fall: its counter, and visits that no node has counted yet.
   * @param {string} video
   */
  floor(video) {
    return this.on ? this.#read(video).floor : 0;
  }

  /**
   * @param {string} video
   * @param {number} visits
   */
  raise(video, visits) {
    if (!this.on) return;
    const item = this.#read(video);
    if (visits > item.floor) this.#write(video, { ...item, floor: visits });
  }

  /** The members that any of the counters names. */
  members() {
    return new Set(this.#videos().flatMap((video) => Object.keys(this.#read(video).counts)));
  }

  /** Keep nothing of what there was. */
  forget() {
    for (const video of this.#videos()) this.#remove(PREFIX + video);
  }

  #videos() {
    try {
      const names = Array.from({ length: this.#storage?.length ?? 0 }, (_, place) => this.#storage?.key(place) ?? "");
      return names.filter((name) => name.startsWith(PREFIX)).map((name) => name.slice(PREFIX.length));
    } catch {
      return [];
    }
  }

  /**
   * @param {string} video
   * @returns {Item}
   */
  #read(video) {
    try {
      const { counts, floor, seen } = JSON.parse(this.#get(PREFIX + video) ?? "{}");
      return {
        counts: new Counter(counts ?? {}).toJSON(),
        floor: Number.isSafeInteger(floor) ? floor : 0,
        seen: Number.isFinite(seen) ? seen : 0,
      };
    } catch {
      return { counts: {}, floor: 0, seen: 0 };
    }
  }

  /**
   * @param {string} video
   * @param {Item} item
   */
  #write(video, item) {
    this.#set(PREFIX + video, JSON.stringify({ ...item, seen: this.#now() }));
  }

  /** @param {string} name */
  #get(name) {
    try {
      return this.#storage?.getItem(name) ?? null;
    } catch {
      return null;
    }
  }

  /**
   * @param {string} name
   * @param {string} text
   */
  #set(name, text) {
    try {
      this.#storage?.setItem(name, text);
    } catch {
      // Full, or denied: the page works without.
    }
  }

  /** @param {string} name */
  #remove(name) {
    try {
      this.#storage?.removeItem(name);
    } catch {
      // Denied: then nothing is there.
    }
  }
}
