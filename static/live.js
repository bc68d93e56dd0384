// @ts-check

/** @import {Counts} from "./counter.js" */
/** @import {Notes} from "./footnotes.js" */

import { attempt } from "./dom.js";

/**
 * A counter as a node sends it. `visits` is null while the node is joining.
 * @typedef {{video: string, visits: number | null, node: string, counts: Counts, joining?: boolean, withdrawn?: number, blocked?: boolean} & Notes} Sent
 */

/** @typedef {"connecting" | "live" | "reconnecting" | "offline"} State */

/**
 * What a connection needs from a WebSocket, or from an EventSource, which has no `onclose`.
 * @typedef {object} Stream
 * @property {((event: any) => void) | null} onopen
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onerror
 * @property {((event: any) => void) | null} [onclose]
 * @property {() => void} close
 */

/**
 * What a connection needs from the browser; tests pass their own.
 * @typedef {object} Surroundings
 * @property {(address: string) => Stream} open opens a WebSocket
 * @property {(address: string) => Stream} listen opens a stream of events
 * @property {(address: string) => Promise<boolean>} answers whether a node would send events from this address
 * @property {(act: () => void, ms: number) => unknown} later
 * @property {(timer: any) => void} cancel
 * @property {(tries: number) => number} delay how long to wait before the next try, in ms
 * @property {EventTarget} frame dispatches `online`, `pagehide` and `pageshow`
 * @property {EventTarget & {visibilityState: string}} page
 * @property {() => boolean} online whether the browser believes that it has a network; sometimes it is wrong
 */

// A node that leaves closes its sockets with this code (RFC 6455: "going away"). Another node is there already.
const LEAVING = 1001;
// The timeout of a try, ms. Browsers would wait for minutes on an address that drops packets.
const PATIENCE = 5000;
// How many refused handshakes in a row, while a node answers, make the page use events instead.
const REFUSALS = 2;
// After this many tries a page says that it is offline, but keeps trying.
const HOPEFUL_TRIES = 5;

/**
 * Waits of 200 ms, 400 ms ... 2 s. Jitter shortens each by up to half, so that pages that lost the same node do not all
 * reconnect at once.
 * @param {() => number} random from 0 up to 1
 * @returns {(tries: number) => number}
 */
export function backoff(random = Math.random) {
  return (tries) => Math.min(2000, 200 * 2 ** tries) * (1 - random() / 2);
}

/**
 * The address that sends the counter of one video, or of each in a list.
 * @param {string | string[]} videos
 * @param {{protocol: string, host: string}} place
 * @param {string} folder where the node is at that place, with a slash at both ends
 */
export function liveAddress(videos, place = location, folder = "/") {
  const scheme = place.protocol === "https:" ? "wss:" : "ws:";
  const path = Array.isArray(videos)
    ? `live?${videos.map((video) => `video=${encodeURIComponent(video)}`).join("&")}`
    : `live/${encodeURIComponent(videos)}`;
  return `${scheme}//${place.host}${folder}${path}`;
}

/**
 * A connection that reconnects: with backoff after a loss, at once when the page becomes visible or the network returns,
 * and never while the page is hidden. Messages that are not counters are ignored.
 *
 * It is a WebSocket. Where WebSockets are refused although a node answers, it is a stream of events, until the page is
 * closed.
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
      // A browser opens six connections to one host for all tabs together. A stream takes one of them, a WebSocket does not.
      else if (this.#byEvents && this.#stream) this.#hangUp();
    });
    // After a change of networks an open socket may be dead without any event.
    around.frame.addEventListener("online", () => this.#connect());
    // Browsers do not keep a page with an open socket for the back button, and a page they keep must not look live.
    around.frame.addEventListener("pagehide", () => this.#hangUp());
    around.frame.addEventListener("pageshow", () => this.#resume());
  }

  /**
   * Connect to this address from now on, or to none if it is empty.
   * @param {string} address
   */
  watch(address) {
    if (address === this.#address) return;
    this.#address = address;
    // Browsers complain about a socket that is closed while it is opening. It is replaced once it is open.
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
    // A browser, an extension or a policy may have taken away the one or the other.
    const socket = this.#byEvents ? undefined : attempt(() => open(address));
    if (!socket) this.#refusals = REFUSALS;
    const stream = (this.#stream = socket ?? attempt(() => listen(forEvents(address))) ?? null);
    if (!stream) return this.#show("reconnecting");
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
      // Not on open: a node that accepts connections and drops them must not be asked five times a second.
      this.#tries = 0;
      this.#receive(counter);
    };
    stream.onclose = (event) => this.#lose(event.code);
    // An EventSource would reconnect by itself, with its own waits. A WebSocket reports an error before it closes.
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

  /** Find out whether only the WebSocket was refused. */
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
 * The address of the events that replace a WebSocket.
 * @param {string} address
 */
function forEvents(address) {
  return address.replace(/^ws/, "http");
}

/**
 * Whether a node sends events from this address. It asks with HEAD, which opens no stream.
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
 * The counter in a message, or null if the message is not a counter.
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
