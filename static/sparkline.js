// @ts-check

// So many stretches of so many ms: the last three minutes.
const STRETCHES = 90;
const STRETCH = 2000;

/** How many visits a second came in each stretch of the last minutes, as told by numbers of visits. */
export class Rates {
  /** @type {number[]} visits, oldest stretch first */
  #visits = Array(STRETCHES).fill(0);
  /** @type {number | null} the last number told */
  #last = null;
  /** The stretch that the last entry is of. */
  #stretch = 0;

  /**
   * Take in how many visits there are now. The first number, and the first after a pause, tells nothing of when they
   * came.
   * @param {number} visits
   * @param {number} now ms
   */
  note(visits, now) {
    this.#move(now);
    const more = this.#last === null ? 0 : Math.max(0, visits - this.#last);
    this.#visits[STRETCHES - 1] = (this.#visits[STRETCHES - 1] ?? 0) + more;
    this.#last = Math.max(visits, this.#last ?? 0);
  }

  /** Numbers do not come for a while: what they grow meanwhile is of no stretch. */
  pause() {
    this.#last = null;
  }

  /**
   * Visits a second, oldest stretch first.
   * @param {number} now ms
   * @returns {number[]}
   */
  at(now) {
    this.#move(now);
    return this.#visits.map((visits) => (visits * 1000) / STRETCH);
  }

  /** @param {number} now */
  #move(now) {
    const stretch = Math.floor(now / STRETCH);
    const gone = Math.min(STRETCHES, Math.max(0, stretch - this.#stretch));
    this.#visits.splice(0, gone);
    while (this.#visits.length < STRETCHES) this.#visits.push(0);
    this.#stretch = Math.max(stretch, this.#stretch);
  }
}

/**
 * A line through values as the `d` of an SVG path, one unit of width a value, from 0 at the bottom up to the largest
 * value at the top; never steeper than if the largest were 1.
 * @param {number[]} values
 * @param {number} height
 */
export function line(values, height) {
  const most = Math.max(1, ...values);
  return values
    .map((value, place) => `${place ? "L" : "M"}${place} ${+(height - 1 - (value / most) * (height - 2)).toFixed(2)}`)
    .join("");
}
