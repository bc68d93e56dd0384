// @ts-check

// The last three minutes, in stretches of two seconds.
export const STRETCHES = 90;
const STRETCH = 2000;

/** The rate of visits in each stretch of the last three minutes, derived from numbers of visits. */
export class Rates {
  /** @type {number[]} visits in each stretch since the first number, oldest first */
  #visits = [];
  /** @type {number | null} the last number; null before the first and after a pause */
  #last = null;
  /** The stretch of the last entry. */
  #stretch = 0;

  /**
   * Record the number of visits. The first number, and the first after a pause, does not say when its visits came.
   * @param {number} visits
   * @param {number} now ms
   */
  note(visits, now) {
    this.#move(now);
    const more = this.#last === null ? 0 : Math.max(0, visits - this.#last);
    this.#visits.push((this.#visits.pop() ?? 0) + more);
    this.#last = Math.max(visits, this.#last ?? 0);
  }

  /** Numbers stop coming for a while. Visits that come meanwhile belong to no stretch. */
  pause() {
    this.#last = null;
  }

  /**
   * Visits per second of each stretch, oldest first. They begin with the first number.
   * @param {number} now ms
   * @returns {number[]}
   */
  at(now) {
    this.#move(now);
    return this.#visits.map((visits) => (visits * 1000) / STRETCH);
  }

  /**
   * How many visits came within the last three minutes.
   * @param {number} now ms
   */
  seen(now) {
    this.#move(now);
    return this.#visits.reduce((sum, visits) => sum + visits, 0);
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
 * A line through values as the `d` of an SVG path, and the area below it. Each value is one unit wide, and the last is at
 * the right. The bottom is 0; the top is the largest value, or 1 if that is smaller.
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
