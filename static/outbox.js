// @ts-check

/**
 * A visit that no node has answered for yet. `tried` is when it was first sent without a certain answer: from then on it
 * may be counted.
 * @typedef {{key: string, video: string, made: number, tried?: number}} Visit
 */

/**
 * What an outbox needs of the browser; tests pass their own.
 * @typedef {object} Surroundings
 * @property {Storage | null} storage
 * @property {(address: string, options: RequestInit) => Promise<Response>} fetch
 * @property {{request: (name: string, act: () => Promise<void>) => Promise<unknown>} | undefined} locks only where a
 *   context is secure
 * @property {() => number} now Unix time, in ms
 * @property {() => number} random from 0 up to 1
 * @property {() => string} mint a new UUID
 * @property {(act: () => void, ms: number) => unknown} later
 * @property {(timer: any) => void} cancel
 * @property {EventTarget} frame tells `online` and `storage`
 * @property {EventTarget & {visibilityState: string}} page
 * @property {() => boolean} online
 * @property {(text: string) => void} warn
 * @property {() => void} onchange other visits wait than before
 * @property {(video: string) => void} onended a visit was given up
 */

const PLACE = "visits.outbox.";
const LOCK = "visits.outbox";
const LEASE = "visits.outbox-lease";
// A lease is renewed before each visit, ms.
const LEASED = 30_000;
// Until a lease that two tabs took at once is that of the later one, ms.
const SETTLED = 100;
// No answer for so long is none, ms.
const PATIENCE = 10_000;
// Nodes know a key for 10 minutes; a repeat must have arrived before that, ms.
const REPEATABLE = 9 * 60_000;
const LONGEST_WAIT = 10_000;
// The visit was looked at and refused; it would be again.
const REFUSED = [400, 409, 413, 415, 422];
// Certainly not counted, but it may be another time.
const LATER = [408, 425, 429, 503];

/**
 * The visits that were made in pages of this browser and that no node has answered for yet: each in an item of its own in
 * the storage, under its UUID, which is also its idempotency key. All tabs have the same outbox, and one of them sends.
 */
export class Outbox {
  /** @type {Map<string, Visit>} those that the storage did not take: only this page knows them */
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

  /** The visits that wait, of all tabs, the oldest first. */
  get waiting() {
    const visits = [...this.#unstored.values()];
    for (const place of this.#places()) {
      const visit = this.#read(place.slice(PLACE.length));
      if (visit) visits.push(visit);
    }
    return visits.sort((left, right) => left.made - right.made);
  }

  /**
   * How many of this page's visits of a video are certainly in no node's number yet.
   * @param {string} video
   */
  uncounted(video) {
    let visits = 0;
    for (const [key, its] of this.#own) {
      if (its !== video) continue;
      const visit = this.#unstored.get(key) ?? this.#read(key);
      if (!visit) this.#own.delete(key);
      else if (visit.tried === undefined) visits++;
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

  /** Send what waits, now and whenever there is a reason to. */
  start() {
    const { frame, page } = this.#around;
    frame.addEventListener("online", () => this.send());
    page.addEventListener("visibilitychange", () => {
      if (page.visibilityState !== "hidden") void this.send();
    });
    frame.addEventListener("storage", (event) => {
      const { key, oldValue, newValue } = /** @type {StorageEvent} */ (event);
      if (key !== null && !key.startsWith(PLACE)) return;
      this.#around.onchange();
      // Another tab made a visit, and may be gone before it has sent it.
      if (oldValue === null && newValue !== null) void this.send();
    });
    void this.send();
  }

  /** Send what waits, one tab at a time; later again what is not answered. */
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
      this.#around.warn(`the outbox waits: ${error}`);
    }
    this.#busy = false;
    if (!this.waiting.length) return void (this.#tries = 0);
    const wait = Math.min(LONGEST_WAIT, 250 * 2 ** this.#tries++) * (1 - this.#around.random() / 2);
    this.#timer = this.#around.later(() => this.send(), wait);
  }

  /**
   * Act while no other tab does. Two that do all the same send the same keys, which count once.
   * @param {() => Promise<void>} act
   */
  async #alone(act) {
    const { locks, later, now, random, storage } = this.#around;
    if (locks) return void (await locks.request(LOCK, act));
    const lease = this.#lease();
    if (lease && lease.tab !== this.#tab && lease.until > now() && lease.until <= now() + LEASED) return;
    this.#renew();
    await new Promise((resolve) => later(() => resolve(null), SETTLED * (1 + random())));
    const settled = this.#lease();
    if (settled && settled.tab !== this.#tab) return;
    await act();
    attempt(() => storage?.removeItem(LEASE));
  }

  #lease() {
    return parsed(attempt(() => this.#around.storage?.getItem(LEASE)));
  }

  #renew() {
    const { locks, now, storage } = this.#around;
    const lease = JSON.stringify({ tab: this.#tab, until: now() + LEASED });
    if (!locks) attempt(() => storage?.setItem(LEASE, lease));
  }

  /** Send each visit once; return whether every one was answered. */
  async #round() {
    // A request to a node that is not there leaves no doubt this way: nothing was sent that may be counted.
    const alive = await this.#ask("/healthz", {});
    if (!alive?.ok) return false;
    const seen = new Set();
    let done = true;
    for (;;) {
      // Read anew each time: other tabs add to it.
      const visit = this.waiting.find(({ key }) => !seen.has(key));
      if (!visit) return done;
      seen.add(visit.key);
      this.#renew();
      const status = await this.#sendOne(visit);
      if (status !== "ended") done = false;
      if (status === "silence") return false;
    }
  }

  /**
   * @param {Visit} visit
   * @returns {Promise<"ended" | "waits" | "silence">} silence: it would be the same with the next
   */
  async #sendOne(visit) {
    const { key, video, tried } = visit;
    const { now, warn } = this.#around;
    if (tried !== undefined && Math.abs(now() - tried) > REPEATABLE) {
      return this.#giveUp(visit, "it may be counted, and is too old to be sent again without counting twice");
    }
    // Before it is sent: a tab may be closed in the middle.
    this.#write({ ...visit, tried: tried ?? now() });
    const answer = await this.#ask("/visits", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": key },
      body: JSON.stringify([{ video }]),
    });
    // What lets nobody out before he has signed in answers everything, but not in JSON.
    if (answer?.ok && answer.headers.get("Content-Type")?.startsWith("application/json")) {
      this.#tries = 0;
      this.#remove(key);
      return "ended";
    }
    if (answer && REFUSED.includes(answer.status)) return this.#giveUp(visit, `a node refused it: ${answer.status}`);
    if (answer && LATER.includes(answer.status)) {
      this.#write(visit);
      return "silence";
    }
    if (answer) warn(`a visit of ${video} waits: the answer was ${answer.status}`);
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
   * @returns {Visit | null} null also for junk, which is removed
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
    // What cannot be written again must not be taken for what it was.
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
 * What a storage answers, or nothing where it throws: it may be full, or denied.
 * @template T
 * @param {() => T} act
 */
function attempt(act) {
  try {
    return act();
  } catch {
    return undefined;
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
