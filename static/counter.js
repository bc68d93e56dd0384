// @ts-check

/**
 * The rule: a grow-only counter (G-Counter), a state-based CRDT, as `{replica: count}`.
 *
 * Each replica increments only its own entry, a merge takes the larger of two entries, and the value is the sum. So
 * merges commute, associate and are idempotent, and the value never falls. The three functions do not change their
 * arguments.
 *
 * Entries are integers from 0 to 2^53 - 1: above that JavaScript cannot tell neighbours apart. Any other entry is ignored.
 * An absent entry is 0, and a 0 is left out. Entries that grew apart may add up to more than 2^53 - 1: the value stops
 * there.
 *
 * Source: Shapiro, Preguiça, Baquero, Zawirski: A comprehensive study of Convergent and Commutative Replicated Data
 * Types, INRIA RR-7506, 2011, §3.1.1. Python's twin is counter/crdt/gcounter.py.
 *
 * @typedef {Record<string, number>} Counts
 */

/**
 * One node of a counter, as people see it: the sum over the members of that name.
 * @typedef {{name: string, visits: number, members: [string, number][]}} Share
 */

/** The largest count, and the largest number of visits. */
export const MAX_COUNT = Number.MAX_SAFE_INTEGER;

/**
 * The counter after a replica has counted. An increment that would take the value past 2^53 - 1 is ignored.
 * @param {Counts} counter
 * @param {string} replica
 * @param {number} by
 * @returns {Counts}
 */
export function increment(counter, replica, by = 1) {
  if (!isCount(by) || !isCount(value(counter) + by)) return counter;
  return merge(counter, { [replica]: entry(counter, replica) + by });
}

/**
 * The least counter that holds both: the larger entry of each replica.
 * @param {Counts} left
 * @param {Counts} right
 * @returns {Counts}
 */
export function merge(left, right) {
  /** @type {Map<string, number>} */
  const merged = new Map();
  for (const [replica, count] of [...Object.entries(left), ...Object.entries(right)]) {
    if (isCount(count) && count > (merged.get(replica) ?? 0)) merged.set(replica, count);
  }
  return Object.fromEntries(merged);
}

/**
 * The number of visits: the sum of all entries, at most 2^53 - 1.
 * @param {Counts} counter
 */
export function value(counter) {
  let sum = 0;
  for (const count of Object.values(counter)) if (isCount(count)) sum += count;
  return Math.min(sum, MAX_COUNT);
}

/**
 * A counter that a page holds and merges into, with the visits that operators have withdrawn. Both only grow, so that a
 * page joins each by the larger, whichever node it hears, and never shows a number that lies between two.
 */
export class Counter {
  /** @type {Counts} */
  #counts = {};
  #withdrawn = 0;

  /**
   * @param {Counts} counts
   * @param {number} withdrawn
   */
  constructor(counts = {}, withdrawn = 0) {
    this.merge(counts);
    this.withdraw(withdrawn);
  }

  /**
   * Add to the entry of one replica.
   * @param {string} replica
   * @param {number} by
   */
  increment(replica, by = 1) {
    this.#counts = increment(this.#counts, replica, by);
  }

  /**
   * Take the larger entry of each id, and return by how much each grew: empty when there was nothing new.
   * @param {Counts} counts
   * @returns {Map<string, number>}
   */
  merge(counts) {
    const before = this.#counts;
    this.#counts = merge(before, counts);
    const grew = new Map(Object.entries(this.#counts).map(([id, count]) => [id, count - entry(before, id)]));
    for (const [id, growth] of grew) if (growth === 0) grew.delete(id);
    return grew;
  }

  /**
   * Take the larger number of withdrawn visits, and return by how much it grew.
   * @param {unknown} withdrawn as a node sends it; nothing stands for none
   */
  withdraw(withdrawn) {
    const before = this.#withdrawn;
    if (isCount(withdrawn) && withdrawn > before) this.#withdrawn = withdrawn;
    return this.#withdrawn - before;
  }

  /** How many of the counted visits are withdrawn. */
  get withdrawn() {
    return this.#withdrawn;
  }

  /** The visits: what was counted, less what was withdrawn. */
  get visits() {
    return Math.max(0, this.counted - this.#withdrawn);
  }

  /** The value: what was counted. */
  get counted() {
    return value(this.#counts);
  }

  /**
   * The entries grouped by name, sorted by name and then by id. An id is `NAME~store`, and no name holds a `~`.
   * @returns {Share[]}
   */
  byName() {
    /** @type {Map<string, Share>} */
    const shares = new Map();
    const entries = Object.entries(this.#counts).sort(([left], [right]) => order(left, right));
    for (const [id, count] of entries) {
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
    return { ...this.#counts };
  }
}

/**
 * One replica's own entry. Only an object's own properties are entries: `constructor` is a legal id.
 * @param {Counts} counter
 * @param {string} replica
 */
function entry(counter, replica) {
  return Object.hasOwn(counter, replica) ? (counter[replica] ?? 0) : 0;
}

/**
 * The name in a member's or replica's id.
 * @param {string} id
 */
export function nameOf(id) {
  return id.split("~", 1)[0] ?? id;
}

/**
 * Whether a text can be the id of a video. Browsers take "." and ".." for folders.
 * @param {string} text
 */
export function isVideo(text) {
  return /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}$/.test(text);
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
