// @ts-check

// How often it is looked whether a video plays, ms.
const LOOK = 200;
// The most that one look adds, ms: a page that stood still, or was hidden, was not watched meanwhile.
const LONGEST = 1000;
/** The most seconds that a visit may wait. */
export const MOST = 3600;

/**
 * What waits until something was watched for long enough.
 * @typedef {{needed: number, seen: number, was: boolean, isSeen: () => boolean, act: () => void}} Wait times in ms
 */

/**
 * What it needs from the browser; tests pass their own.
 * @typedef {object} Surroundings
 * @property {() => number} now ms of a clock that is never set
 * @property {(act: () => void, ms: number) => unknown} every
 * @property {(timer: any) => void} stop
 */

/** Acts once something was watched for so many seconds, all in all. It looks only while something waits. */
export class Watched {
  /** @type {Map<string, Wait>} */
  #waits = new Map();
  /** @type {unknown} */
  #timer = null;
  #last = 0;
  /** @type {Surroundings} */
  #around;

  /** @param {Partial<Surroundings>} surroundings */
  constructor(surroundings = {}) {
    this.#around = {
      now: () => performance.now(),
      every: (act, ms) => setInterval(act, ms),
      stop: (timer) => clearInterval(timer),
      ...surroundings,
    };
  }

  /**
   * Act when `isSeen` was true for so many seconds. What waits under this name already goes on with what it has seen.
   * @param {string} name
   * @param {number} seconds
   * @param {() => boolean} isSeen
   * @param {() => void} act
   */
  wait(name, seconds, isSeen, act) {
    const known = this.#waits.get(name);
    const { seen = 0, was = false } = known ?? {};
    this.#waits.set(name, { needed: seconds * 1000, seen, was, isSeen, act });
    if (this.#timer !== null) return;
    this.#last = this.#around.now();
    this.#timer = this.#around.every(() => this.#look(), LOOK);
  }

  /**
   * Nothing waits under this name any more.
   * @param {string} name
   */
  forget(name) {
    this.#waits.delete(name);
    if (this.#waits.size || this.#timer === null) return;
    this.#around.stop(this.#timer);
    this.#timer = null;
  }

  #look() {
    const now = this.#around.now();
    const passed = Math.min(now - this.#last, LONGEST);
    this.#last = now;
    for (const [name, wait] of [...this.#waits]) {
      const is = wait.isSeen();
      if (is && wait.was) wait.seen += passed;
      wait.was = is;
      if (wait.seen < wait.needed) continue;
      this.forget(name);
      wait.act();
    }
  }
}

/**
 * The seconds that a text says; null for what is no number from 0 to an hour.
 * @param {string} text
 */
export function secondsIn(text) {
  const seconds = text.trim() === "" ? NaN : Number(text);
  return seconds >= 0 && seconds <= MOST ? seconds : null;
}

/**
 * Whether somebody sees what is beside this element: its video is playing, or there is no video and the page is visible.
 *
 * Its video is the one that it names in `data-player`, by an id. Otherwise it is any of those in the nearest part of the
 * page that has one.
 * @param {HTMLElement} place
 */
export function isSeenAt(place) {
  if (document.visibilityState !== "visible") return false;
  const { player } = place.dataset;
  if (player !== undefined) {
    const named = byId(place.getRootNode(), player) ?? document.getElementById(player);
    return named !== null && videosIn(named).some(isPlaying);
  }
  const near = videosNear(place);
  return near.length === 0 || near.some(isPlaying);
}

/**
 * @param {Node} root
 * @param {string} id
 */
function byId(root, id) {
  return root instanceof ShadowRoot ? root.getElementById(id) : null;
}

/** @param {Element} place */
function videosNear(place) {
  /** @type {Node | null} */
  let part = place;
  while (part) {
    const found = videosIn(/** @type {Element | ShadowRoot | Document} */ (part));
    if (found.length) return found;
    part = part instanceof ShadowRoot ? part.host : part.parentNode;
  }
  return [];
}

/**
 * @param {ParentNode} part
 * @returns {HTMLVideoElement[]}
 */
function videosIn(part) {
  return part instanceof HTMLVideoElement ? [part] : [...part.querySelectorAll("video")];
}

/** @param {HTMLVideoElement} video */
function isPlaying(video) {
  if (video.paused || video.ended || video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA) return false;
  return document.pictureInPictureElement === video || isOnScreen(video);
}

/** @param {HTMLVideoElement} video */
function isOnScreen(video) {
  if (getComputedStyle(video).visibility !== "visible") return false;
  const { top, bottom, left, right, width, height } = video.getBoundingClientRect();
  const { clientWidth, clientHeight } = document.documentElement;
  return width > 0 && height > 0 && bottom > 0 && right > 0 && top < clientHeight && left < clientWidth;
}
