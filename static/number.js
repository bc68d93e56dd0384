// @ts-check

// A climb of this many ms looks calm, and is over before the eye waits for it.
const CLIMB = 600;
// Screen readers would do nothing but read numbers without a pause of this many ms.
const QUIET = 10_000;

/**
 * What a number needs of the browser; tests pass their own.
 * @typedef {object} Surroundings
 * @property {(step: (now: number) => void) => number} frame
 * @property {(frame: number) => void} cancel
 * @property {() => boolean} still whether nothing is to move
 */

/** A number that runs up to the newest value. It never falls, until it is set to another. */
export class Climb {
  #shown = 0;
  #goal = 0;
  #frame = 0;
  /** @type {(value: number) => void} */
  #put;
  /** @type {Surroundings} */
  #around;

  /**
   * @param {(value: number) => void} put
   * @param {Partial<Surroundings>} surroundings
   */
  constructor(put, surroundings = {}) {
    this.#put = put;
    this.#around = {
      frame: (step) => requestAnimationFrame(step),
      cancel: (frame) => cancelAnimationFrame(frame),
      still: () => document.hidden || matchMedia("(prefers-reduced-motion: reduce)").matches,
      ...surroundings,
    };
  }

  /**
   * Show this at once, whatever was shown.
   * @param {number} value
   */
  set(value) {
    this.#around.cancel(this.#frame);
    this.#shown = this.#goal = value;
    this.#put(value);
  }

  /**
   * Run up to this.
   * @param {number} value
   */
  rise(value) {
    if (value <= this.#goal) return;
    // A number seen for the first time has nothing to climb from.
    if (this.#shown === 0 || this.#around.still()) return this.set(value);
    this.#around.cancel(this.#frame);
    this.#goal = value;
    const from = this.#shown;
    /** @type {number | undefined} */
    let began;
    /** @param {number} now */
    const step = (now) => {
      began ??= now;
      const part = Math.min(1, (now - began) / CLIMB);
      this.#shown = from + Math.round((value - from) * (1 - (1 - part) ** 3));
      this.#put(this.#shown);
      if (part < 1) this.#frame = this.#around.frame(step);
    };
    this.#frame = this.#around.frame(step);
  }
}

/** Tells screen readers the newest text, at most once in a while. */
export class Announcer {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #last = Date.now();
  /** @type {(text: string) => void} */
  #say;

  /** @param {(text: string) => void} say */
  constructor(say) {
    this.#say = say;
  }

  /** What is on the page now is read with the page: be quiet for a while. */
  hush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#last = Date.now();
  }

  /** @param {() => string} text asked for when it is to be said */
  tell(text) {
    this.#timer ??= setTimeout(
      () => {
        this.hush();
        this.#say(text());
      },
      Math.max(0, this.#last + QUIET - Date.now()),
    );
  }
}
