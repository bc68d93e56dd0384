// @ts-check

import { backoff } from "./live.js";

/** @typedef {{key: string, video: string, made: number}} Visit */

const PLACE = "visits.outbox";

/** The visits that were made in this page and that no node has answered for yet. */
export class Outbox {
  /** @type {Visit[]} */
  #waiting = [];
  #tries = 0;
  #busy = false;
  /** @type {() => void} */
  onchange = () => {};

  /** @param {{onchange?: () => void}} surroundings */
  constructor({ onchange } = {}) {
    if (onchange) this.onchange = onchange;
    try {
      this.#waiting = JSON.parse(localStorage.getItem(PLACE) ?? "[]");
    } catch {
      this.#waiting = [];
    }
  }

  get waiting() {
    return this.#waiting;
  }

  /** @param {string} video */
  add(video) {
    this.#keep([...this.#waiting, { key: crypto.randomUUID(), video, made: Date.now() }]);
    void this.#send();
  }

  start() {
    addEventListener("online", () => this.#send());
    void this.#send();
  }

  /** @param {Visit[]} waiting */
  #keep(waiting) {
    this.#waiting = waiting;
    try {
      localStorage.setItem(PLACE, JSON.stringify(waiting));
    } catch {
      // Only this page knows them then.
    }
    this.onchange();
  }

  async #send() {
    if (this.#busy || !navigator.onLine) return;
    this.#busy = true;
    for (let visit = this.#waiting[0]; visit; visit = this.#waiting[0]) {
      const { key, video } = visit;
      const answer = await fetch("/visits", {
        method: "POST",
        headers: { "Content-Type": "application/json", "Idempotency-Key": key },
        body: JSON.stringify([{ video }]),
      }).catch(() => null);
      if (!answer?.ok) break;
      this.#tries = 0;
      this.#keep(this.#waiting.filter((one) => one.key !== key));
    }
    this.#busy = false;
    if (this.#waiting.length) setTimeout(() => this.#send(), backoff()(this.#tries++));
  }
}
