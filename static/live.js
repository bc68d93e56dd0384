// @ts-check

/** @import {Counts} from "./counter.js" */

/**
 * A counter as nodes send it; `visits` is null while the node is joining.
 * @typedef {{video: string, visits: number | null, node: string, counts: Counts, joining?: boolean}} Sent
 */

/** @typedef {"connecting" | "live" | "reconnecting" | "offline"} State */

/**
 * What a connection needs of a WebSocket, or of an EventSource, which has no `onclose`.
 * @typedef {object} Stream
 * @property {((event: any) => void) | null} onopen
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onerror
 * @property {((event: any) => void) | null} [onclose]
 * @property {() => void} close
 */

/**
 * What a connection needs of the browser; tests pass their own.
 * @typedef {object} Surroundings
 * @property {(address: string) => Stream} open opens a WebSocket
 * @property {(address: string) => Stream} listen opens a stream of events
 * @property {(address: string) => Promise<boolean>} answers whether events would come from there
 * @property {(act: () => void, ms: number) => unknown} later
 * @property {(timer: any) => void} cancel
 * @property {(tries: number) => number} delay how long to wait before the next try, in ms
 * @property {EventTarget} frame tells `online`, `pagehide` and `pageshow`
 * @property {EventTarget & {visibilityState: string}} page
 * @property {() => boolean} online whether the browser believes in a network; it is wrong at times
 */

// A node that leaves closes its sockets with this code (RFC 6455: "going away"); another one is there already.
const LEAVING = 1001;
// Browsers wait for minutes on an address that swallows packets, ms.
const PATIENCE = 5000;
// After so many handshakes in a row that were refused by something between the page and a node that answers.
const REFUSALS = 2;
// From here on a page owns up to being offline, though it keeps trying.
const HOPEFUL_TRIES = 5;

/**
 * Waits of 200 ms, 400 ms ... 2 s, each shortened by up to half, so that pages which lost the same node do not come
 * back in one wave.
 * @param {() => number} random from 0 up to 1
 * @returns {(tries: number) => number}
 */
export function backoff(random = Math.random) {
  return (tries) => Math.min(2000, 200 * 2 ** tries) * (1 - random() / 2);
}

/**
 * Where the counter of one video, or of each in a list, is sent from.
 * @param {string | string[]} videos
 * @param {{protocol: string, host: string}} place
 */
export function liveAddress(videos, place = location) {
  const scheme = place.protocol === "https:" ? "wss:" : "ws:";
  const path = Array.isArray(videos)
    ? `/live?${videos.map((video) => `video=${encodeURIComponent(video)}`).join("&")}`
    : `/live/${encodeURIComponent(videos)}`;
  return `${scheme}//${place.host}${path}`;
}

/**
 * A connection that comes back: after a loss with growing waits, at once when the page is seen again or the network
 * returns, and never while the page is hidden. What is no counter is ignored.
 *
 * It is a WebSocket; where those are refused though a node answers, a stream of events, and so for as long as the page
 * is there.
 */
export class Live {
  /** @type {Stream | null} */
  #stream = null;
  #opened = false;
  #refusals = 0;
  /** @type {unknown} */
  #timer;
  #tries = 0;
  #address = "";
  /** @type {(counter: Sent) => void} */
  #receive;
  /** @type {(state: State) => void} */
  #show;
  /** @type {Surroundings} */
  #around;

  /**
   * @param {(counter: Sent) => void} receive
   * @param {(state: State) => void} show
   * @param {Partial<Surroundings>} surroundings
   */
  constructor(receive, show, surroundings = {}) {
    this.#receive = receive;
    this.#show = show;
    const around = (this.#around = {
      open: (address) => new WebSocket(address),
      listen: (address) => new EventSource(address),
      answers,
      later: (act, ms) => setTimeout(act, ms),
      cancel: (timer) => clearTimeout(timer),
      delay: backoff(),
      frame: globalThis.window,
      page: globalThis.document,
      online: () => navigator.onLine,
      ...surroundings,
    });
    show("connecting");
    around.page.addEventListener("visibilitychange", () => {
      if (around.page.visibilityState !== "hidden") this.#resume();
      // Browsers have six connections for all requests to one host, of all tabs; WebSockets do not count among them.
      else if (this.#byEvents && this.#stream) this.#hangUp();
    });
    // After a change of networks an open socket may be dead without knowing it.
    around.frame.addEventListener("online", () => this.#connect());
    // A page with an open socket is not kept for the back button, and one that is kept must not look live.
    around.frame.addEventListener("pagehide", () => this.#hangUp());
    around.frame.addEventListener("pageshow", () => this.#resume());
  }

  /**
   * Connect to this address from now on; to none when it is empty.
   * @param {string} address
   */
  watch(address) {
    if (address === this.#address) return;
    this.#address = address;
    // Browsers complain of a socket that is closed while it opens. It gives way once it has.
    if (!this.#stream || this.#opened || this.#byEvents) this.#connect();
  }

  get #byEvents() {
    return this.#refusals >= REFUSALS;
  }

  #resume() {
    if (!this.#stream) this.#connect();
  }

  #connect() {
    this.#drop();
    if (!this.#address || this.#around.page.visibilityState === "hidden") return;
    const { open, listen, later, cancel } = this.#around;
    const address = this.#address;
    const stream = (this.#stream = this.#byEvents ? listen(forEvents(address)) : open(address));
    this.#timer = later(() => this.#lose(), PATIENCE);
    stream.onopen = () => {
      if (!this.#byEvents) this.#refusals = 0;
      if (address !== this.#address) return this.#connect();
      cancel(this.#timer);
      this.#opened = true;
      this.#show("live");
    };
    stream.onmessage = (event) => {
      const counter = read(event.data);
      if (!counter) return;
      // Not on open: a node that takes connections and drops them must not be asked five times a second.
      this.#tries = 0;
      this.#receive(counter);
    };
    stream.onclose = (event) => this.#lose(event.code);
    // An EventSource would try again by itself, at its own pace. A WebSocket tells of an error before it closes.
    stream.onerror = () => this.#lose();
  }

  /** @param {number} [code] */
  #lose(code) {
    if (this.#address && !this.#opened && !this.#byEvents) void this.#doubt();
    this.#drop();
    if (code === LEAVING) this.#tries = 0;
    const tries = this.#tries++;
    const lost = tries >= HOPEFUL_TRIES || (tries > 0 && !this.#around.online());
    this.#show(lost ? "offline" : "reconnecting");
    this.#timer = this.#around.later(() => this.#connect(), this.#around.delay(tries));
  }

  /** Find out whether it was only the WebSocket that did not get through. */
  async #doubt() {
    const answered = await this.#around.answers(forEvents(this.#address));
    if (this.#opened || this.#byEvents) return;
    this.#refusals = answered ? this.#refusals + 1 : 0;
    if (this.#byEvents) this.#resume();
  }

  #hangUp() {
    this.#drop();
    this.#show("reconnecting");
  }

  #drop() {
    this.#around.cancel(this.#timer);
    const stream = this.#stream;
    this.#stream = null;
    this.#opened = false;
    if (!stream) return;
    stream.onopen = stream.onmessage = stream.onclose = stream.onerror = null;
    stream.close();
  }
}

/**
 * Where the events are for which there is no WebSocket.
 * @param {string} address
 */
function forEvents(address) {
  return address.replace(/^ws/, "http");
}

/**
 * Whether a node sends events from there. Asks for the head of the answer only, for which no stream is opened.
 * @param {string} address
 */
async function answers(address) {
  try {
    const headers = { Accept: "text/event-stream" };
    return (await fetch(address, { method: "HEAD", headers, signal: AbortSignal.timeout(PATIENCE) })).ok;
  } catch {
    return false;
  }
}

/**
 * The counter in a message, or null if there is none.
 * @param {unknown} message
 * @returns {Sent | null}
 */
function read(message) {
  try {
    const counter = JSON.parse(String(message));
    const whole = typeof counter.video === "string" && typeof counter.counts === "object" && counter.counts !== null;
    return whole ? counter : null;
  } catch {
    return null;
  }
}
