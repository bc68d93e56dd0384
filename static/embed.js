// @ts-check

/** @import {Sent, State} from "./live.js" */

import { Counter } from "./counter.js";
import { ask, attempt, whileSeen, write, written } from "./dom.js";
import { Live, liveAddress } from "./live.js";
import { complaint, grouped } from "./routes.js";
import { MOST, Watched, isSeenAt, secondsIn } from "./watched.js";

// How often numbers that do not come over the connection are read, ms.
const REFRESH = 5000;
const SPANS = "[data-visits]";
// What may bring a span, or change one.
const CHANGES = { subtree: true, childList: true, attributes: true, attributeFilter: ["data-visits", "data-count", "data-after"] };

/** @typedef {Document | ShadowRoot | Element | DocumentFragment} Root where spans are looked for */

/**
 * What the numbers need from the page around them; tests pass their own.
 * @typedef {object} Surroundings
 * @property {URL} node the address of this module: a node is what the folder of the module is in
 * @property {Pick<Document, "querySelectorAll" | "addEventListener" | "visibilityState"> & {prerendering?: boolean}} page
 * @property {(receive: (sent: Sent) => void, show: (state: State) => void) => {watch: (address: string) => void}} connect
 * @property {(address: string) => Promise<{counters: Sent[]} | null>} read
 * @property {(address: string) => unknown} count reports a visit to a node
 * @property {DOMStringMap} [script] the attributes of the element that loads the module: what holds for all spans
 * @property {() => boolean} [refused] whether the reader's browser asks not to be tracked
 * @property {(span: HTMLElement) => boolean} [isSeen] whether the video beside a span plays, or the page is seen
 * @property {Watched} [watched]
 * @property {(act: () => Promise<void>) => void} again runs an action every few seconds while the page is visible
 * @property {(words: string) => void} warn
 */

/** Fills the spans of a page with numbers, and counts its visits. */
export class Numbers {
  /** @type {Map<string, Counter>} by video */
  #counters = new Map();
  /** @type {Map<string, HTMLElement[]>} */
  #spans = new Map();
  /** @type {string[][]} the videos in groups of one request each; the first group is live */
  #groups = [];
  /** @type {State} */
  #state = "connecting";
  /** @type {Set<string>} */
  #counted = new Set();
  /** @type {WeakMap<HTMLElement, string>} spans with an invalid attribute, and what it is */
  #refused = new WeakMap();
  #watched;
  /** @type {Set<WeakRef<Root>>} what else is scanned beside the document; a root may leave the page, and come back */
  #roots = new Set();
  /** @type {WeakSet<Root>} those that were in the page when it was scanned */
  #arrived = new WeakSet();
  #live;
  #home;
  #around;

  /** @param {Surroundings} surroundings */
  constructor(surroundings) {
    this.#around = surroundings;
    this.#watched = surroundings.watched ?? new Watched();
    // Another proxy may have the node under a path.
    this.#home = new URL("..", surroundings.node);
    this.#live = surroundings.connect(
      (sent) => this.#receive(sent),
      (state) => {
        this.#state = state;
      },
    );
    this.#around.again(() => {
      this.#arrive();
      return this.#read();
    });
    for (const event of ["visibilitychange", "prerenderingchange"]) {
      this.#around.page.addEventListener(event, () => this.#count());
    }
    this.scan();
  }

  /**
   * Find the spans that are on the page now.
   * @param {Root[]} roots are searched as well, from now on: a query of the document finds nothing in shadow roots
   */
  scan(...roots) {
    const known = this.#known();
    for (const root of roots) if (!known.includes(root)) this.#roots.add(new WeakRef(root));
    this.#spans = new Map();
    for (const span of this.#found()) {
      const { visits: video = "" } = span.dataset;
      if (complaint(video)) {
        const what = `data-visits="${video.slice(0, 200)}"`;
        this.#refuse(span, what, `${what} is no video's id, so its text stays as it is: ${complaint(video)}`);
      }
      else this.#spans.set(video, [...(this.#spans.get(video) ?? []), span]);
    }
    for (const video of this.#spans.keys()) this.#show(video);
    const videos = [...this.#spans.keys()];
    const [live = []] = this.#groups;
    // Videos that left the page, or do not fit into the first group, need no new connection.
    const [first = []] = grouped(videos);
    if (videos.length && first.every((video) => live.includes(video))) {
      this.#groups = [live, ...grouped(videos.filter((video) => !live.includes(video)))];
    } else {
      this.#groups = grouped(videos);
      this.#live.watch(first.length ? liveAddress(first, this.#home, this.#home.pathname) : "");
    }
    this.#count();
  }

  /** The roots that still exist. */
  #known() {
    return [...this.#roots].flatMap((kept) => {
      const root = kept.deref();
      if (!root) this.#roots.delete(kept);
      return root ?? [];
    });
  }

  /** Each span once, although a root may be in another one. */
  #found() {
    /** @type {Set<HTMLElement>} */
    const found = new Set(this.#around.page.querySelectorAll(SPANS));
    for (const root of this.#known()) {
      if (!root.isConnected) {
        this.#arrived.delete(root);
        continue;
      }
      this.#arrived.add(root);
      if ("matches" in root && root.matches(SPANS)) found.add(/** @type {HTMLElement} */ (root));
      for (const span of root.querySelectorAll(SPANS)) found.add(/** @type {HTMLElement} */ (span));
    }
    return found;
  }

  /** @param {Sent} sent */
  #receive({ video, visits, counts, withdrawn }) {
    // A joining node knows only a part of the count. A part must not be shown as the whole.
    if (visits === null) return;
    const counter = this.#counters.get(video) ?? new Counter();
    this.#counters.set(video, counter);
    counter.merge(counts);
    // Its module may be an earlier version's, from another node.
    counter.withdraw?.(withdrawn);
    this.#show(video);
  }

  /** @param {string} video */
  #show(video) {
    const counter = this.#counters.get(video);
    if (!counter) return;
    for (const span of this.#spans.get(video) ?? []) write(span, written(counter.visits));
  }

  /** Read the numbers that do not come over the connection. */
  async #read() {
    const [live = [], ...others] = this.#groups;
    for (const videos of this.#state === "live" ? others : [live, ...others]) {
      if (videos.length === 0) continue;
      const query = videos.map((video) => `video=${video}`).join("&");
      const answer = await this.#around.read(new URL(`counts?${query}`, this.#home).href);
      answer?.counters.forEach((sent) => this.#receive(sent));
    }
  }

  /** Find the spans of roots that came into the page where nobody watches: in another shadow root. */
  #arrive() {
    if (this.#known().some((root) => root.isConnected && !this.#arrived.has(root))) this.scan();
  }

  /** Count one visit for each video with `data-count`, once the page is visible, or was watched for long enough. */
  #count() {
    const { page } = this.#around;
    if (page.prerendering || page.visibilityState !== "visible") return;
    for (const video of this.#spans.keys()) {
      const spans = this.#counting(video);
      if (this.#counted.has(video) || spans.length === 0) continue;
      const after = Math.min(...spans.map((span) => this.#after(span)));
      if (after === 0) this.#visit(video);
      else this.#watched.wait(video, after, () => this.#isSeen(video), () => this.#visit(video));
    }
  }

  /**
   * The spans that ask for a visit of a video.
   * @param {string} video
   */
  #counting(video) {
    return (this.#spans.get(video) ?? []).filter((span) => span.dataset.count !== undefined);
  }

  /** @param {string} video */
  #isSeen(video) {
    const { page, isSeen = () => true } = this.#around;
    return page.visibilityState === "visible" && this.#counting(video).some(isSeen);
  }

  /**
   * After how many seconds a visit counts; 0 for at once.
   * @param {HTMLElement} span
   */
  #after(span) {
    const text = span.dataset.after ?? this.#around.script?.after;
    if (text === undefined) return 0;
    const after = secondsIn(text);
    if (after === null) {
      const what = `data-after="${text.slice(0, 200)}"`;
      this.#refuse(span, what, `${what} is no number of seconds from 0 to ${MOST}, so the visit counts at once`);
    }
    return after ?? 0;
  }

  /** @param {string} video */
  #visit(video) {
    const { script, refused = () => false, count } = this.#around;
    this.#watched.forget(video);
    this.#counted.add(video);
    const asking = [script, ...this.#counting(video).map(({ dataset }) => dataset)];
    const respects = asking.some((each) => each?.respectDnt !== undefined);
    // The visit counts all the same, but a node must not recognize who it was.
    const mark = respects && refused() ? "?dnt=1" : "";
    // Whatever becomes of the visit, the numbers go on.
    attempt(() => count(new URL(`hit/${video}${mark}`, this.#home).href));
  }

  /**
   * @param {HTMLElement} span
   * @param {string} what
   * @param {string} warning once, as long as it is the same
   */
  #refuse(span, what, warning) {
    if (this.#refused.get(span) === what) return;
    this.#refused.set(span, what);
    this.#around.warn(warning);
  }
}

/**
 * Whether elements came or went, or a span names another video.
 * @param {MutationRecord} change
 */
function concernsSpans({ type, addedNodes, removedNodes }) {
  return type === "attributes" || [...addedNodes, ...removedNodes].some(isElement);
}

/**
 * Whether a node is an element, also of another frame's document, which has a class of its own for that.
 * @param {Node} node
 */
function isElement({ nodeType }) {
  return nodeType === 1;
}

/**
 * Report a visit, also when the page is being left. Some browsers, extensions and settings take `sendBeacon` away, and
 * it refuses when too much is under way.
 * @param {string} address
 */
async function send(address) {
  if (attempt(() => navigator.sendBeacon(address))) return;
  try {
    await fetch(address, { method: "POST", mode: "no-cors", credentials: "omit", keepalive: true });
  } catch {
    // Like a beacon it is not tried again: it may have been counted.
  }
}

/** Whether the browser says that its reader does not want to be tracked: by Do Not Track, or Global Privacy Control. */
function isRefused() {
  const { doNotTrack, globalPrivacyControl } = /** @type {{doNotTrack?: string, globalPrivacyControl?: boolean}} */ (navigator);
  return globalPrivacyControl === true || doNotTrack === "1";
}

/** The attributes of the element that loads this module. */
function ownScript() {
  const scripts = /** @type {NodeListOf<HTMLScriptElement>} */ (document.querySelectorAll("script[src]"));
  return [...scripts].find(({ src }) => src === import.meta.url)?.dataset ?? {};
}

/** @type {Numbers | undefined} */
let numbers;
/** @type {MutationObserver | undefined} */
let observer;

/**
 * Find spans that a script has just added. Without this call they are found a moment later.
 *
 * Spans in a shadow root are found only if the root is named once. From then on it is watched like the document.
 * @param {unknown} [root] a shadow root, a document, or an element; anything else, such as an event, is ignored
 */
export function scan(root) {
  const roots = rootsOf(root);
  for (const named of roots) observer?.observe(named, CHANGES);
  numbers?.scan(...roots);
  // A component that calls this while it is made is put into the page in the same breath.
  if (roots.some((named) => !named.isConnected)) setTimeout(() => numbers?.scan());
}

/**
 * What is to be searched beside the document of the page. An element may have a shadow root of its own.
 * @param {any} root
 * @returns {Root[]}
 */
function rootsOf(root) {
  if (typeof root?.querySelectorAll !== "function" || typeof root.getRootNode !== "function") return [];
  return [root, root.shadowRoot].filter((named) => named && named.getRootNode() !== globalThis.document);
}

if (globalThis.document) {
  const found = (numbers = new Numbers({
    node: new URL(import.meta.url),
    page: document,
    connect: (receive, show) => new Live(receive, show),
    read: ask,
    count: send,
    script: ownScript(),
    refused: isRefused,
    isSeen: isSeenAt,
    again: (act) => whileSeen(REFRESH, act),
    warn: (words) => console.warn(words),
  }));
  observer = new MutationObserver((changes) => {
    if (changes.some(concernsSpans)) found.scan();
  });
  observer.observe(document, CHANGES);
}
