// @ts-check

/**
 * What each replica (or member) has counted, by its id.
 * @typedef {Record<string, number>} Counts
 */

/**
 * One node of a counter, as people see it: the sum over the members of that name.
 * @typedef {{name: string, visits: number, members: [string, number][]}} Share
 */

/** The largest count, and the largest number of visits. */
export const MAX_COUNT = Number.MAX_SAFE_INTEGER;

/**
 * A grow-only counter (G-Counter), a state-based CRDT.
 *
 * Each replica raises only its own entry; merging takes the larger entry; the value is the sum. Merging is therefore
 * commutative, associative and idempotent, and the value never falls.
 *
 * Entries are integers from 0 to 2^53 - 1: beyond that JavaScript cannot tell neighbours apart. Whatever else an entry
 * is, is ignored. An absent entry is 0, and 0 is kept as absent. The value stops at 2^53 - 1 too, where entries that were
 * raised apart add up to more; an increment that would take it past the end is ignored.
 *
 * Source: Shapiro, Preguiça, Baquero, Zawirski: A comprehensive study of Convergent and Commutative Replicated Data
 * Types, INRIA RR-7506, 2011, §3.1.1.
 */
export class Counter {
  // A Map, because "__proto__" is a legal name and would change a plain object instead of being counted.
  /** @type {Map<string, number>} */
  #counts = new Map();

  /** @param {Counts} counts */
  constructor(counts = {}) {
    this.merge(counts);
  }

  /**
   * Raise one replica's own entry.
   * @param {string} replica
   * @param {number} by
   */
  increment(replica, by = 1) {
    const count = (this.#counts.get(replica) ?? 0) + by;
    if (isCount(by) && isCount(this.visits + by) && by > 0) this.#counts.set(replica, count);
  }

  /**
   * Take the larger entry of each id, and return by how much each grew: empty when there was nothing new.
   * @param {Counts} counts
   * @returns {Map<string, number>}
   */
  merge(counts) {
    const grew = new Map();
    for (const [replica, count] of Object.entries(counts)) {
      const known = this.#counts.get(replica) ?? 0;
      if (isCount(count) && count > known) {
        this.#counts.set(replica, count);
        grew.set(replica, count - known);
      }
    }
    return grew;
  }

  /** The value: the sum of all entries, up to the limit. */
  get visits() {
    let sum = 0;
    for (const count of this.#counts.values()) sum += count;
    return Math.min(sum, MAX_COUNT);
  }

  /**
   * The entries grouped by name, sorted by name and then by id. An id is `NAME~store`, and no name holds a `~`.
   * @returns {Share[]}
   */
  byName() {
    /** @type {Map<string, Share>} */
    const shares = new Map();
    for (const [id, count] of this.#sorted()) {
      const name = nameOf(id);
      const share = shares.get(name) ?? { name, visits: 0, members: [] };
      share.visits = Math.min(share.visits + count, MAX_COUNT);
      share.members.push([id, count]);
      shares.set(name, share);
    }
    return [...shares.values()].sort((left, right) => order(left.name, right.name));
  }

  /**
   * The entries as a plain object.
   * @returns {Counts}
   */
  toJSON() {
    return Object.fromEntries(this.#sorted());
  }

  #sorted() {
    return [...this.#counts].sort(([left], [right]) => order(left, right));
  }
}

/**
 * The name in a member's or replica's id.
 * @param {string} id
 */
export function nameOf(id) {
  return id.split("~", 1)[0] ?? id;
}

/**
 * Whether a text can be the id of a video.
 * @param {string} text
 */
export function isVideo(text) {
  return /^[A-Za-z0-9._~-]{1,128}$/.test(text);
}

/**
 * Whether something can be a count: an integer from 0 to 2^53 - 1.
 * @param {unknown} value
 * @returns {value is number}
 */
export function isCount(value) {
  return Number.isSafeInteger(value) && /** @type {number} */ (value) >= 0;
}

/**
 * By code units, the same in every locale and the same as Python's order of these ids.
 * @param {string} left
 * @param {string} right
 */
function order(left, right) {
  return left < right ? -1 : left > right ? 1 : 0;
}
