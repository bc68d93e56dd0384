// @ts-check

/** @typedef {{state: string, members: {member: string}[]}} Cluster as a node answers `/cluster` */

const APART = 10_000;

/**
 * Notices that a cluster was wiped: that two looks, some time apart, found a ready node which knows none of the members
 * that a page has counts of. A store has an id of its own, and so has the member that counts in it; nodes that begin
 * with new stores are new members, and those before are in nobody's memory.
 *
 * A node that is cut off from the others knows them still. One that lost its store and is ready alone knows nobody, until
 * it hears the others, which takes it less than the time between the looks, unless it is cut off as well.
 */
export class Wiped {
  #since = NaN;

  /** When to look again, in ms from the look that raised a doubt. */
  static apart = APART;

  /**
   * Whether the cluster was wiped, as far as this look tells, and the ones before.
   * @param {Iterable<string>} members of whom the page has counts
   * @param {Cluster | null} cluster null where no node answers
   * @param {number} now in ms
   */
  look(members, cluster, now) {
    // No answer says nothing, and neither does a node that has not heard the others yet.
    if (cluster?.state !== "ready") return false;
    const known = new Set(cluster.members.map(({ member }) => member));
    const theirs = [...members];
    if (!theirs.length || theirs.some((member) => known.has(member))) {
      this.#since = NaN;
      return false;
    }
    if (Number.isNaN(this.#since)) this.#since = now;
    return now - this.#since >= APART;
  }

  /** Whether a look raised a doubt that the next one may settle. */
  get doubts() {
    return !Number.isNaN(this.#since);
  }
}
