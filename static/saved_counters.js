// @ts-check

/** @import {Counts} from "./counter.js" */

import { Counter, isCount } from "./counter.js";

/**
 * What is kept of one video: `at` is when its counts last grew.
 * @typedef {{counts: Counts, floor: number, at: number}} Item
 */

const PLACE = "visits.kept.";
const OFF = "visits.keep-nothing";
const MOST = 200;
// So long must a cluster have known nothing of what is kept, ms.
const SURE = 10_000;

/**
 * The counters that this browser keeps, so that a page never shows less than an earlier one did. Nothing of them is held
 * in memory: what one tab writes or forgets is so for all.
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
    return this.#try((storage) => storage.getItem(OFF) === null) ?? false;
  }

  /** @param {boolean} on off forgets everything */
  turn(on) {
    if (on) return this.#try((storage) => storage.removeItem(OFF));
    this.forget();
    this.#try((storage) => storage.setItem(OFF, "1"));
  }

  /**
   * @param {string} video
   * @returns {Counts}
   */
  counts(video) {
    return this.#read(video)?.counts ?? {};
  }

  /**
   * Keep counts as a node sent them. If they share no member with those that are kept, the node may belong to another
   * cluster in the same place, and two clusters must not become one counter: then they are left out.
   * @param {string} video
   * @param {Counts} counts
   */
  merge(video, counts) {
    if (!this.on) return;
    const item = this.#read(video) ?? { counts: {}, floor: 0, at: 0 };
    const members = Object.keys(item.counts);
    if (members.length && !members.some((member) => Object.hasOwn(counts, member))) return;
    const counter = new Counter(item.counts);
    if (counter.merge(counts).size) this.#write(video, { ...item, counts: counter.toJSON(), at: this.#now() });
  }

  /**
   * The least number of visits of a video, those included that wait in the outbox.
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
   * A visit that the floor holds was given up.
   * @param {string} video
   */
  lower(video) {
    const item = this.#read(video);
    if (item) this.#write(video, { ...item, floor: 0 });
  }

  /** @param {Iterable<string>} videos all that are kept, if not told */
  forget(videos = this.#videos()) {
    for (const video of videos) this.#try((storage) => storage.removeItem(PLACE + video));
  }

  /**
   * Everything that is kept, by video.
   * @returns {[string, Item][]}
   */
  items() {
    return this.#videos().flatMap((video) => {
      const item = this.#read(video);
      return item ? [[video, item]] : [];
    });
  }

  /**
   * The video that is kept in this place, if any is.
   * @param {string | null} place
   */
  static videoAt(place) {
    return place?.startsWith(PLACE) ? place.slice(PLACE.length) : null;
  }

  #videos() {
    const places = this.#try((storage) => Object.keys(storage)) ?? [];
    return places.map(SavedCounters.videoAt).filter((video) => video !== null);
  }

  /**
   * @param {string} video
   * @returns {Item | null} null also for junk
   */
  #read(video) {
    try {
      const { counts, floor, at } = JSON.parse(this.#storage?.getItem(PLACE + video) ?? "null");
      const sound = new Counter(counts);
      // A sum past the end is none.
      if (!isCount(sound.visits) || !isCount(floor) || !isCount(at)) return null;
      return { counts: sound.toJSON(), floor, at };
    } catch {
      return null;
    }
  }

  /**
   * @param {string} video
   * @param {Item} item
   */
  #write(video, item) {
    const isNew = this.#try((storage) => storage.getItem(PLACE + video)) === null;
    this.#try((storage) => storage.setItem(PLACE + video, JSON.stringify(item)));
    if (!isNew) return;
    const videos = this.#videos();
    if (videos.length <= MOST) return;
    // Junk first: it is of no time.
    const times = new Map(videos.map((its) => [its, this.#read(its)?.at ?? 0]));
    videos.sort((left, right) => (times.get(left) ?? 0) - (times.get(right) ?? 0));
    this.forget(videos.slice(0, videos.length - MOST));
  }

  /**
   * What the storage answers, or nothing: it may be full, or denied.
   * @template T
   * @param {(storage: Storage) => T} act
   */
  #try(act) {
    try {
      return this.#storage ? act(this.#storage) : undefined;
    } catch {
      return undefined;
    }
  }
}

/**
 * The videos whose kept counters name no member that a cluster knows. Only the oldest are meant, up to the first that
 * names one: a cluster that was wiped knows nothing from before, and one that was not knows somebody of old.
 * @param {[string, Item][]} items
 * @param {Iterable<string>} members that the cluster knows
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

/** Strangers who were so at two looks, at least 10 s apart: theirs is a cluster that is gone. */
export class Looks {
  /** @type {Map<string, number>} since when */
  #strangers = new Map();

  /**
   * @param {string[]} videos
   * @param {number} now
   * @returns {string[]} those that are to be forgotten
   */
  look(videos, now) {
    this.#strangers = new Map(videos.map((video) => [video, this.#strangers.get(video) ?? now]));
    return videos.filter((video) => now - (this.#strangers.get(video) ?? now) >= SURE);
  }
}
