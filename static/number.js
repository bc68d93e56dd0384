// @ts-check

import { isStill } from "./dom.js";

// How long a number takes to climb, ms: slow enough to look calm, and over before anyone waits for it.
const CLIMB = 600;
// The least time between two announcements, ms. Without it screen readers would do nothing but read numbers.
const QUIET = 10_000;

/**
 * What a number needs from the browser; tests pass their own.
 * @typedef {object} Surroundings
 * @property {(step: (now: number) => void) => number} frame
 * @property {(frame: number) => void} cancel
 * @property {() => boolean} still whether nothing should move
 */

/** A number that climbs to the newest value. It falls only when it is set. */
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
      still: () => document.hidden || isStill(),
      ...surroundings,
    };
  }

  /**
   * Show a value at once, whatever was shown before.
   * @param {number} value
   */
  set(value) {
    this.#around.cancel(this.#frame);
    this.#shown = this.#goal = value;
    this.#put(value);
  }

  /**
   * Climb to a value, unless it is no larger.
   * @param {number} value
   */
  rise(value) {
    if (value <= this.#goal) return;
    // The first number has nothing to climb from.
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

/** Announces the newest text to screen readers, at most every ten seconds. */
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

  /** Stay quiet for a while: screen readers read what is on the page now as part of the page. */
  hush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#last = Date.now();
  }

  /** @param {() => string} text called when the announcement is made */
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
