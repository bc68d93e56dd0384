// @ts-check

import { attempt } from "./dom.js";

/**
 * A visit that no node has acknowledged. `tried` is when it was first sent without a definite answer: since then it may
 * be counted.
 * @typedef {{key: string, video: string, made: number, tried?: number}} Visit
 */

/**
 * What an outbox needs from the browser; tests pass their own.
 * @typedef {object} Surroundings
 * @property {Storage | null} storage
 * @property {(address: string, options: RequestInit) => Promise<Response>} fetch
 * @property {{request: (name: string, act: () => Promise<void>) => Promise<unknown>} | undefined} locks only in secure
 *   contexts
 * @property {() => number} now Unix time, in ms
 * @property {() => number} random from 0 up to 1
 * @property {() => string} mint makes a UUID
 * @property {(act: () => void, ms: number) => unknown} later
 * @property {(timer: any) => void} cancel
 * @property {EventTarget} frame dispatches `online` and `storage`
 * @property {EventTarget & {visibilityState: string}} page
 * @property {() => boolean} online
 * @property {(text: string) => void} warn
 * @property {() => void} onchange called when the waiting visits change
 * @property {(video: string) => void} onended called when a visit is given up
 * @property {((uncounted: Uncounted) => void) | null} onuncounted called when a node has answered that a visit does not
 *   count, in every tab; without it, `onended` is called
 */

/**
 * A visit that does not count. own: this page made it; here: this tab has sent it. One tab of all has.
 * @typedef {{video: string, own: boolean, here: boolean}} Uncounted
 */

const PLACE = "visits.outbox.";
const LOCK = "visits.outbox";
const LEASE = "visits.outbox-lease";
// The newest visit that does not count: tabs tell each other of it.
const UNCOUNTED = "visits.outbox-uncounted";
// How long a lease lasts, ms. It is renewed before each visit.
const LEASED = 30_000;
// If two tabs take the lease at once, the later one has it. This is how long a tab waits to find out, ms.
const SETTLED = 100;
// The timeout of a request, ms.
const PATIENCE = 10_000;
// Nodes remember a key for 10 minutes. A repeat must arrive before that, ms.
const REPEATABLE = 9 * 60_000;
const LONGEST_WAIT = 10_000;
// A node read the visit and refused it, and would refuse it again.
const REFUSED = [400, 409, 413, 415, 422];
// What errors of a node come as. A 404 of another server is no word about the video.
const PROBLEM = "application/problem+json";
// Certainly not counted, but a later try may be.
const LATER = [408, 425, 429, 503];

/**
 * The visits made in this browser that no node has acknowledged. The storage holds each as an item under its UUID, which
 * is also its idempotency key. All tabs share the outbox, and one of them sends at a time.
 */
export class Outbox {
  /** @type {Map<string, Visit>} visits that the storage did not take: only this page knows them */
  #unstored = new Map();
  /** @type {Map<string, string>} the videos of this page's own visits, by key */
  #own = new Map();
  #tries = 0;
  #busy = false;
  #again = false;
  /** @type {unknown} */
  #timer;
  /** @type {Surroundings} */
  #around;
  #tab;

  /** @param {Partial<Surroundings>} surroundings */
  constructor(surroundings = {}) {
    this.#around = {
      storage: null,
      fetch: (address, options) => fetch(address, options),
      locks: globalThis.navigator?.locks,
      now: () => Date.now(),
      random: Math.random,
      mint: uuid,
      later: (act, ms) => setTimeout(act, ms),
      cancel: (timer) => clearTimeout(timer),
      frame: globalThis.window,
      page: globalThis.document,
      online: () => navigator.onLine,
      warn: (text) => console.warn(text),
      onchange: () => {},
      onended: () => {},
      onuncounted: null,
      ...surroundings,
    };
    this.#tab = this.#around.mint();
  }

  /** @param {() => void} act */
  set onchange(act) {
    this.#around.onchange = act;
  }

  /** @param {(video: string) => void} act */
  set onended(act) {
    this.#around.onended = act;
  }

  /** @param {(uncounted: Uncounted) => void} act */
  set onuncounted(act) {
    this.#around.onuncounted = act;
  }

  /** The waiting visits of all tabs, oldest first. */
  get waiting() {
    const visits = [...this.#unstored.values()];
    for (const place of this.#places()) {
      const visit = this.#read(place.slice(PLACE.length));
      if (visit) visits.push(visit);
    }
    return visits.sort((left, right) => left.made - right.made);
  }

  /**
   * How many of this page's visits of a video are certainly not in any node's number yet.
   * @param {string} video
   */
  uncounted(video) {
    let visits = 0;
    for (const [key, its] of this.#own) {
      if (its !== video) continue;
      const visit = this.#unstored.get(key) ?? this.#read(key);
      if (visit && visit.tried === undefined) visits++;
    }
    return visits;
  }

  /** @param {string} video */
  add(video) {
    const visit = { key: this.#around.mint(), video, made: this.#around.now() };
    this.#own.set(visit.key, video);
    this.#write(visit);
    this.#around.onchange();
    void this.send();
  }

  /** Send the waiting visits now, and whenever there is a reason to. */
  start() {
    const { frame, page } = this.#around;
    frame.addEventListener("online", () => this.send());
    page.addEventListener("visibilitychange", () => {
      if (page.visibilityState !== "hidden") void this.send();
    });
    frame.addEventListener("storage", (event) => {
      const { key, oldValue, newValue } = /** @type {StorageEvent} */ (event);
      if (key === UNCOUNTED) return this.#hear(newValue);
      if (key !== null && !key.startsWith(PLACE)) return;
      // Another tab has sent it, and said before whether it counts.
      if (key !== null && newValue === null) this.#own.delete(key.slice(PLACE.length));
      this.#around.onchange();
      // Another tab made a visit, and may be closed before it sends it.
      if (oldValue === null && newValue !== null) void this.send();
    });
    void this.send();
  }

  /** Send the waiting visits, one tab at a time. Visits without an answer are sent again later. */
  async send() {
    this.#again = true;
    if (this.#busy || !this.#around.online()) return;
    this.#busy = true;
    this.#around.cancel(this.#timer);
    let done = true;
    try {
      while (this.#again && done) {
        this.#again = false;
        if (this.waiting.length) await this.#alone(async () => void (done = await this.#round()));
      }
    } catch (error) {
      this.#around.warn(`the outbox cannot send and will try again: ${error}`);
    }
    this.#busy = false;
    if (!this.waiting.length) return void (this.#tries = 0);
    const wait = Math.min(LONGEST_WAIT, 250 * 2 ** this.#tries++) * (1 - this.#around.random() / 2);
    this.#timer = this.#around.later(() => this.send(), wait);
  }

  /**
   * Act while no other tab does. If two tabs act at once nevertheless, they send the same keys, which count once.
   * @param {() => Promise<void>} act
   */
  async #alone(act) {
    const { locks, later, now, random, storage } = this.#around;
    if (locks) return void (await locks.request(LOCK, act));
    const lease = this.#lease();
    if (lease && lease.tab !== this.#tab && lease.until > now() && lease.until <= now() + LEASED) return;
    this.#extend();
    await new Promise((resolve) => later(() => resolve(null), SETTLED * (1 + random())));
    const settled = this.#lease();
    if (settled && settled.tab !== this.#tab) return;
    await act();
    attempt(() => storage?.removeItem(LEASE));
  }

  #lease() {
    return parsed(attempt(() => this.#around.storage?.getItem(LEASE)));
  }

  #extend() {
    const { locks, now, storage } = this.#around;
    const lease = JSON.stringify({ tab: this.#tab, until: now() + LEASED });
    if (!locks) attempt(() => storage?.setItem(LEASE, lease));
  }

  /** Send each visit once; return whether every one was answered. */
  async #round() {
    // If no node is there, this request fails, and no visit is sent that might have been counted.
    const alive = await this.#ask("/healthz", {});
    if (!alive?.ok) return false;
    const seen = new Set();
    let done = true;
    for (;;) {
      // Read again each time, because other tabs add visits.
      const visit = this.waiting.find(({ key }) => !seen.has(key));
      if (!visit) return done;
      seen.add(visit.key);
      this.#extend();
      const status = await this.#sendOne(visit);
      if (status !== "ended") done = false;
      if (status === "silence") return false;
    }
  }

  /**
   * @param {Visit} visit
   * @returns {Promise<"ended" | "waits" | "silence">} silence: the next visit would fail in the same way
   */
  async #sendOne(visit) {
    const { key, video, tried } = visit;
    const { now, warn } = this.#around;
    if (tried !== undefined && Math.abs(now() - tried) > REPEATABLE) {
      return this.#giveUp(visit, "it may be counted already, and nodes may have forgotten its key: sent again it could count twice");
    }
    // Written before it is sent, because the tab may be closed meanwhile.
    this.#write({ ...visit, tried: tried ?? now() });
    const answer = await this.#ask("/visits?own&detail", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": key },
      body: JSON.stringify([{ video }]),
    });
    // A captive portal answers every request, but not with JSON.
    if (answer?.ok && answer.headers.get("Content-Type")?.startsWith("application/json")) {
      this.#tries = 0;
      const counts = await isCounted(answer);
      if (counts) this.#remove(key);
      else this.#takeOff(visit);
      return "ended";
    }
    if (answer && REFUSED.includes(answer.status)) return this.#giveUp(visit, `a node refused it: ${answer.status}`);
    if (answer?.status === 404 && answer.headers.get("Content-Type")?.startsWith(PROBLEM)) {
      return this.#giveUp(visit, "only announced videos count");
    }
    if (answer && LATER.includes(answer.status)) {
      this.#write(visit);
      // Too many new videos: other visits may be of known ones.
      return answer.status === 429 ? "waits" : "silence";
    }
    if (answer) warn(`a visit of ${video} waits, because the answer was ${answer.status}`);
    return answer ? "waits" : "silence";
  }

  /**
   * @param {Visit} visit
   * @param {string} why
   * @returns {"ended"}
   */
  #giveUp({ key, video }, why) {
    this.#around.warn(`a visit of ${video} is given up: ${why}`);
    this.#remove(key);
    this.#around.onended(video);
    return "ended";
  }

  /**
   * It was counted in advance by who made it.
   * @param {Visit} visit
   */
  #takeOff({ key, video }) {
    const { storage, onuncounted, onended } = this.#around;
    const own = this.#own.has(key);
    // Before the visit is removed: the tab that made it must still know it as its own.
    attempt(() => storage?.setItem(UNCOUNTED, JSON.stringify({ key, video })));
    attempt(() => storage?.removeItem(UNCOUNTED));
    this.#remove(key);
    if (onuncounted) onuncounted({ video, own, here: true });
    else onended(video);
  }

  /**
   * Hear of another tab that a visit does not count.
   * @param {string | null} text
   */
  #hear(text) {
    const { key, video } = parsed(text) ?? {};
    if (typeof video === "string") this.#around.onuncounted?.({ video, own: this.#own.delete(key), here: false });
  }

  /**
   * @param {string} address
   * @param {RequestInit} options
   * @returns {Promise<Response | null>}
   */
  async #ask(address, options) {
    try {
      const signal = AbortSignal.timeout(PATIENCE);
      return await this.#around.fetch(address, { cache: "no-store", signal, ...options });
    } catch {
      return null;
    }
  }

  #places() {
    const { storage } = this.#around;
    return attempt(() => Object.keys(storage ?? {}).filter((place) => place.startsWith(PLACE))) ?? [];
  }

  /**
   * @param {string} key
   * @returns {Visit | null} null also for an invalid item, which is removed
   */
  #read(key) {
    const { storage } = this.#around;
    const text = attempt(() => storage?.getItem(PLACE + key));
    if (typeof text !== "string") return null;
    const { video, made, tried } = parsed(text) ?? {};
    if (typeof video === "string" && isTime(made) && (tried === undefined || isTime(tried))) {
      return { key, video, made, tried };
    }
    attempt(() => storage?.removeItem(PLACE + key));
    return null;
  }

  /** @param {Visit} visit */
  #write(visit) {
    const { key, ...text } = visit;
    const { storage } = this.#around;
    const stored = attempt(() => {
      storage?.setItem(PLACE + key, JSON.stringify(text));
      return storage !== null;
    });
    if (stored) this.#unstored.delete(key);
    else this.#unstored.set(key, visit);
    // An item that cannot be updated must not be read in its old state.
    if (!stored) attempt(() => storage?.removeItem(PLACE + key));
  }

  /** @param {string} key */
  #remove(key) {
    this.#own.delete(key);
    this.#unstored.delete(key);
    attempt(() => this.#around.storage?.removeItem(PLACE + key));
    this.#around.onchange();
  }
}

/** A UUID of version 4; `crypto.randomUUID` exists only in secure contexts. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/**
 * Whether the visit of a request counts, as its answer says; one that says nothing of it is of a version before.
 * @param {Response} answer
 */
async function isCounted(answer) {
  try {
    return (await answer.json()).results?.[0]?.counted !== false;
  } catch {
    // The head says that it was taken.
    return true;
  }
}

/** @param {string | null | undefined} text */
function parsed(text) {
  const value = attempt(() => JSON.parse(text ?? "null"));
  return typeof value === "object" ? value : null;
}

/** @param {unknown} value */
function isTime(value) {
  return typeof value === "number" && Number.isFinite(value);
}
