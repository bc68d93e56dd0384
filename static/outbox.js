// @ts-check

/**
 * A visit that no node has answered for yet. `asked`: when it was first sent without an answer, so that it may have
 * been counted; Unix time in ms, like `made`.
 * @typedef {{key: string, video: string, made: number, asked?: number}} Visit
 */

/**
 * What an outbox needs of the browser; tests pass their own.
 * @typedef {object} Surroundings
 * @property {Storage | null} storage
 * @property {(path: string, request?: RequestInit) => Promise<Response>} fetch
 * @property {(act: () => Promise<void>) => Promise<void>} alone acts while no other tab of this browser does
 * @property {() => number} now
 * @property {(act: () => void, ms: number) => unknown} later
 * @property {(timer: any) => void} cancel
 * @property {() => number} random from 0 up to 1
 * @property {() => boolean} online
 * @property {(line: string) => void} warn
 */

const PREFIX = "visits.outbox:";
// Nodes know a key for 10 minutes. After that a visit that may have been counted would count a second time.
const SAFE = 9 * 60_000;
const PATIENCE = 10_000;
const LONGEST_WAIT = 10_000;

/**
 * The visits that were made in this browser and that no node has answered for, each an item of its own, under its own
 * key: so tabs never write over each other, and what a crash leaves behind is sent by the next page.
 *
 * A visit leaves when a node has said that it is counted, under that key once, however often it is sent.
 */
export class Outbox {
  /** @type {Surroundings} */
  #around;
  /** @type {Map<string, Visit>} where there is no room in the storage */
  #here = new Map();
  #tries = 0;
  #busy = false;
  #again = false;
  /** @type {unknown} */
  #timer;
  /** Called when there may be more or fewer. */
  onchange = () => {};

  /** @param {Partial<Surroundings>} surroundings */
  constructor(surroundings = {}) {
    const storage = surroundings.storage ?? null;
    this.#around = {
      storage,
      fetch: (path, request) => fetch(path, request),
      alone: (act) => alone(storage, act),
      now: () => Date.now(),
      later: (act, ms) => setTimeout(act, ms),
      cancel: (timer) => clearTimeout(timer),
      random: Math.random,
      online: () => navigator.onLine,
      warn: (line) => console.warn(line),
      ...surroundings,
    };
  }

  /**
   * The visits that wait, oldest first, those of other tabs as well.
   * @returns {Visit[]}
   */
  get waiting() {
    const visits = new Map();
    for (const name of names(this.#around.storage)) {
      const visit = this.#read(name.slice(PREFIX.length));
      if (visit) visits.set(visit.key, visit);
    }
    // What is here is newer: there was no room to say so there.
    for (const [key, visit] of this.#here) visits.set(key, visit);
    return [...visits.values()].sort((left, right) => left.made - right.made);
  }

  /**
   * Keep a visit, and send it.
   * @param {string} video
   */
  add(video) {
    this.#keep({ key: newKey(), video, made: this.#around.now() });
    this.onchange();
    this.send();
  }

  /** Send what waits from now on, whoever left it. */
  start() {
    addEventListener("online", () => this.send());
    addEventListener("storage", ({ key }) => {
      if (key?.startsWith(PREFIX)) this.onchange();
    });
    document.addEventListener("visibilitychange", () => this.send());
    this.send();
  }

  /** Send what waits, now: there is a reason to think that it will get through. */
  send() {
    this.#around.cancel(this.#timer);
    this.#again = this.#busy;
    if (!this.#busy) void this.#turn();
  }

  async #turn() {
    this.#busy = true;
    try {
      await this.#around.alone(() => this.#sendAll());
    } finally {
      this.#busy = false;
    }
    if (this.#again) return this.send();
    if (!this.waiting.length) return;
    const wait = Math.min(LONGEST_WAIT, 500 * 2 ** this.#tries++) * (1 - this.#around.random() / 2);
    this.#timer = this.#around.later(() => this.send(), wait);
  }

  /** One after the other, until there is none or one gets no answer. */
  async #sendAll() {
    if (!this.#around.online() || !this.waiting.length) return;
    // A request that fails may have been counted, and that doubt does not last for ever: so none is sent in vain.
    if (!(await this.#reachesNode())) return;
    for (let visit = this.#next(); visit; visit = this.#next()) {
      if (!(await this.#sendOne(visit))) return;
      this.#tries = 0;
    }
  }

  #next() {
    return this.waiting.find((visit) => !this.#isTooLate(visit));
  }

  /**
   * Whether it may have been counted so long ago that no node would know it again. It was never acknowledged; counted
   * twice, it would be wrong for ever.
   * @param {Visit} visit
   */
  #isTooLate(visit) {
    if (visit.asked === undefined || this.#around.now() - visit.asked < SAFE) return false;
    this.#around.warn(`a visit to ${visit.video} got no answer for 9 minutes, and is not sent again: it may be counted`);
    this.#remove(visit);
    return true;
  }

  async #reachesNode() {
    try {
      const answer = await this.#around.fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      // A hotel's login page answers as well.
      return answer.ok && (await answer.text()).trim() === "alive";
    } catch {
      return false;
    }
  }

  /**
   * Whether to go on: it is counted, or never will be.
   * @param {Visit} visit
   */
  async #sendOne(visit) {
    // Before it is sent: nobody else could tell if the page died meanwhile.
    this.#keep({ asked: this.#around.now(), ...visit });
    const status = await this.#post(visit);
    // Certainly not counted, this time.
    if (status === 503 || status === 429) this.#keep(visit);
    const counted = status >= 200 && status < 300;
    const refused = status >= 400 && status < 500 && ![408, 425, 429].includes(status);
    if (refused) this.#around.warn(`a visit to ${visit.video} was refused with ${status}, and is not sent again`);
    if (counted || refused) this.#remove(visit);
    return counted || refused;
  }

  /**
   * The status of the answer, 0 if there is none from a node.
   * @param {Visit} visit
   */
  async #post({ key, video }) {
    try {
      const answer = await this.#around.fetch("/visits", {
        method: "POST",
        headers: { "Content-Type": "application/json", "Idempotency-Key": key },
        body: JSON.stringify([{ video }]),
        redirect: "error",
        // A page that is left sends it all the same.
        keepalive: true,
        signal: AbortSignal.timeout(PATIENCE),
      });
      if (!answer.ok) return answer.status;
      return (await answer.json()).records === 1 ? answer.status : 0;
    } catch {
      return 0;
    }
  }

  /** @param {Visit} visit */
  #keep(visit) {
    const { key, ...rest } = visit;
    try {
      if (!this.#around.storage) throw new Error("no storage");
      this.#around.storage.setItem(PREFIX + key, JSON.stringify(rest));
      this.#here.delete(key);
    } catch {
      this.#here.set(key, visit);
    }
  }

  /** @param {Visit} visit */
  #remove({ key }) {
    this.#here.delete(key);
    try {
      this.#around.storage?.removeItem(PREFIX + key);
    } catch {
      // Then it is not there either.
    }
    this.onchange();
  }

  /**
   * @param {string} key
   * @returns {Visit | null}
   */
  #read(key) {
    try {
      const { video, made, asked } = JSON.parse(this.#around.storage?.getItem(PREFIX + key) ?? "null");
      if (typeof video !== "string" || typeof made !== "number") return null;
      return typeof asked === "number" ? { key, video, made, asked } : { key, video, made };
    } catch {
      return null;
    }
  }
}

/** @param {Storage | null} storage */
function names(storage) {
  try {
    const all = Array.from({ length: storage?.length ?? 0 }, (_, place) => storage?.key(place) ?? "");
    return all.filter((name) => name.startsWith(PREFIX));
  } catch {
    return [];
  }
}

/** 128 random bits. `crypto.randomUUID` is only for pages that came by https, or from this very machine. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const LEASE = "visits.outbox-lease";
const TERM = 15_000;
const SETTLED = 60;

/**
 * Act while no other tab does: with a Web Lock, or, for a page that came by plain http, with a lease. Two tabs that take
 * the lease in the same moment see it, but for a slow one: then the visits' keys keep them from counting twice.
 * @param {Storage | null} storage
 * @param {() => Promise<void>} act
 */
async function alone(storage, act) {
  if (navigator.locks) return navigator.locks.request(LEASE, act);
  if (!storage) return act();
  const own = newKey();
  const holder = () => {
    const [who = "", until = ""] = (storage.getItem(LEASE) ?? "").split(" ");
    return Number(until) > Date.now() && Number(until) <= Date.now() + TERM ? who : "";
  };
  const take = () => storage.setItem(LEASE, `${own} ${Date.now() + TERM}`);
  try {
    if (holder()) return;
    take();
  } catch {
    return act();
  }
  await new Promise((settled) => setTimeout(settled, SETTLED));
  if (holder() !== own) return;
  const renewing = setInterval(take, TERM / 3);
  try {
    await act();
  } finally {
    clearInterval(renewing);
    storage.removeItem(LEASE);
  }
}
