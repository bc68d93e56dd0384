// @ts-check

// So many stretches of so many ms: the last three minutes.
export const STRETCHES = 90;
const STRETCH = 2000;

/** How many visits a second came in each stretch of the last minutes, as told by numbers of visits. */
export class Rates {
  /** @type {number[]} visits, oldest stretch first, from when the first number was told */
  #visits = [];
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
    this.#visits.push((this.#visits.pop() ?? 0) + more);
    this.#last = Math.max(visits, this.#last ?? 0);
  }

  /** Numbers do not come for a while: what they grow meanwhile is of no stretch. */
  pause() {
    this.#last = null;
  }

  /**
   * Visits a second, oldest stretch first; fewer than three minutes while no more is known.
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
    if (this.#visits.length) this.#visits = [...this.#visits, ...Array(gone).fill(0)].slice(-STRETCHES);
    this.#stretch = Math.max(stretch, this.#stretch);
  }
}

/**
 * A line through values as the `d` of an SVG path, and the area below it: one unit of width a value, the last at the
 * right, from 0 at the bottom up to the largest value at the top; never steeper than if the largest were 1.
 * @param {number[]} values
 * @param {{width: number, height: number}} size
 */
export function line(values, { width, height }) {
  const most = Math.max(1, ...values);
  const left = width - values.length;
  const points = values.map(
    (value, place) => `${left + place} ${+(height - 1 - (value / most) * (height - 2)).toFixed(2)}`,
  );
  const drawn = points.length ? `M${points.join("L")}` : "";
  return { line: drawn, area: drawn && `${drawn}V${height}H${left}Z` };
}
