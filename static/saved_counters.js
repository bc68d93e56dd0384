// @ts-check

/** @import {Counts} from "./counter.js" */

import { Counter, isCount } from "./counter.js";
import { attempt } from "./dom.js";

/**
 * What the browser keeps of one video. `at` is when its counts last grew, Unix time in ms.
 * @typedef {{counts: Counts, floor: number, at: number, withdrawn?: number}} Item
 */

const PLACE = "visits.kept.";
const OFF = "visits.keep-nothing";
const MAX_ITEMS = 200;
// How long a cluster must not have known the members of a counter before it is forgotten, ms.
const SURE = 10_000;

/**
 * The counters that this browser keeps, so that a page never shows less than an earlier page did. They are only in the
 * storage, never in memory: what one tab writes or forgets, all tabs see.
 */
export class SavedCounters {
  #storage;
  #now;

  /**
   * @param {Storage | null} storage
   * @param {() => number} now
   */
  constructor(storage, now = () => Date.now()) {
    this.#storage = storage;
    this.#now = now;
  }

  get on() {
    return attempt(() => this.#storage?.getItem(OFF)) === null;
  }

  /** @param {boolean} on off forgets everything */
  turn(on) {
    if (on) return attempt(() => this.#storage?.removeItem(OFF));
    this.forget();
    attempt(() => this.#storage?.setItem(OFF, "1"));
  }

  /**
   * @param {string} video
   * @returns {Counts}
   */
  counts(video) {
    return this.#read(video)?.counts ?? {};
  }

  /**
   * Merge counts that a node sent. If they share no member with the saved ones, they are ignored: the node may belong to
   * another cluster at the same address, and two clusters must not become one counter.
   * @param {string} video
   * @param {Counts} counts
   * @param {number} withdrawn lowers the least number to show by as much as it grew
   */
  merge(video, counts, withdrawn = 0) {
    if (!this.on) return;
    const item = this.#read(video) ?? { counts: {}, floor: 0, at: 0 };
    const members = Object.keys(item.counts);
    if (members.length && !members.some((member) => Object.hasOwn(counts, member))) return;
    const counter = new Counter(item.counts, item.withdrawn);
    const less = counter.withdraw?.(withdrawn) ?? 0;
    if (!counter.merge(counts).size && !less) return;
    const floor = Math.max(0, item.floor - less);
    const kept = counter.withdrawn ? { withdrawn: counter.withdrawn } : {};
    this.#write(video, { ...item, ...kept, floor, counts: counter.toJSON(), at: this.#now() });
  }

  /**
   * How many visits are withdrawn.
   * @param {string} video
   */
  withdrawn(video) {
    return this.#read(video)?.withdrawn ?? 0;
  }

  /**
   * The least number of visits to show, including those that wait in the outbox.
   * @param {string} video
   */
  floor(video) {
    return this.#read(video)?.floor ?? 0;
  }

  /**
   * @param {string} video
   * @param {number} visits
   */
  raise(video, visits) {
    const item = this.#read(video) ?? { counts: {}, floor: 0, at: this.#now() };
    if (this.on && visits > item.floor) this.#write(video, { ...item, floor: visits });
  }

  /**
   * Lower the floor, because it includes visits that do not count, or drop it for one that was given up.
   * @param {string} video
   * @param {number} visits
   */
  lower(video, visits = Infinity) {
    const item = this.#read(video);
    if (item) this.#write(video, { ...item, floor: Math.max(0, item.floor - visits) });
  }

  /** @param {Iterable<string>} videos by default all */
  forget(videos = this.#videos()) {
    for (const video of videos) attempt(() => this.#storage?.removeItem(PLACE + video));
  }

  /**
   * Everything that is saved, by video.
   * @returns {[string, Item][]}
   */
  items() {
    return this.#videos().flatMap((video) => {
      const item = this.#read(video);
      return item ? [[video, item]] : [];
    });
  }

  /**
   * The video whose counter is stored under this key, if any.
   * @param {string | null} place
   */
  static videoAt(place) {
    return place?.startsWith(PLACE) ? place.slice(PLACE.length) : null;
  }

  #videos() {
    const places = attempt(() => Object.keys(this.#storage ?? {})) ?? [];
    return places.map(SavedCounters.videoAt).filter((video) => video !== null);
  }

  /**
   * @param {string} video
   * @returns {Item | null} null also for an invalid item
   */
  #read(video) {
    const item = attempt(() => {
      const { counts, floor, at, withdrawn } = JSON.parse(this.#storage?.getItem(PLACE + video) ?? "null");
      const kept = isCount(withdrawn) && withdrawn ? { withdrawn } : {};
      return isCount(floor) && isCount(at) ? { counts: new Counter(counts).toJSON(), floor, at, ...kept } : null;
    });
    return item ?? null;
  }

  /**
   * @param {string} video
   * @param {Item} item
   */
  #write(video, item) {
    const isNew = attempt(() => this.#storage?.getItem(PLACE + video)) === null;
    attempt(() => this.#storage?.setItem(PLACE + video, JSON.stringify(item)));
    if (!isNew) return;
    const videos = this.#videos();
    if (videos.length <= MAX_ITEMS) return;
    // Invalid items have no time, so they go first.
    const times = new Map(videos.map((its) => [its, this.#read(its)?.at ?? 0]));
    videos.sort((left, right) => (times.get(left) ?? 0) - (times.get(right) ?? 0));
    this.forget(videos.slice(0, videos.length - MAX_ITEMS));
  }
}

/**
 * The videos whose saved counters name no member of a cluster, from the oldest to the first that names one. Later ones
 * are left out: a cluster that was wiped knows no old member, and a cluster that was not knows one.
 * @param {[string, Item][]} items
 * @param {Iterable<string>} members of the cluster
 */
export function strangers(items, members) {
  const known = new Set(members);
  /** @type {string[]} */
  const found = [];
  /** @type {string[]} */
  let nameless = [];
  for (const [video, { counts }] of items.sort(([, left], [, right]) => left.at - right.at)) {
    const named = Object.keys(counts);
    if (named.some((member) => known.has(member))) break;
    if (named.length) found.push(...nameless, video);
    else nameless.push(video);
    if (named.length) nameless = [];
  }
  return found;
}

/** Finds the strangers of two looks at least 10 s apart: their cluster is gone. */
export class Looks {
  /** @type {Map<string, number>} since when each is a stranger, ms */
  #strangers = new Map();

  /**
   * @param {string[]} videos
   * @param {number} now ms
   * @returns {string[]} the videos to forget
   */
  look(videos, now) {
    this.#strangers = new Map(videos.map((video) => [video, this.#strangers.get(video) ?? now]));
    return videos.filter((video) => now - (this.#strangers.get(video) ?? now) >= SURE);
  }
}
