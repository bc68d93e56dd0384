// @ts-check

/** @import {State} from "./live.js" */

const grouped = new Intl.NumberFormat();

const CONNECTION = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", offline: "Offline" };

/**
 * A number in the reader's own notation.
 * @param {number} value
 */
export function written(value) {
  return grouped.format(value);
}

/**
 * The element with this id. The template promises that it exists.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}, but its script needs one: add it to the template`);
  return found;
}

/**
 * A new element with text (never markup) and attributes.
 * @param {string} tag
 * @param {string} text
 * @param {Record<string, string>} attributes
 * @returns {HTMLElement}
 */
export function make(tag, text = "", attributes = {}) {
  return filled(document.createElement(tag), attributes, text);
}

/**
 * A new element of an SVG drawing.
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {string} text
 */
export function shape(tag, attributes, text = "") {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, text);
}

/**
 * @template {Element} Made
 * @param {Made} made
 * @param {Record<string, string | number>} attributes
 * @param {string} text
 */
function filled(made, attributes, text) {
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}

/**
 * Change an element's text only if it differs, so that screen readers, selections and the layout are left alone.
 * @param {HTMLElement} place
 * @param {string} text
 */
export function write(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

/**
 * Show the state of the connection as a word, and as a shape that the style sheet draws.
 * @param {State} state
 */
export function showConnection(state) {
  const place = element("connection");
  place.dataset.state = state;
  write(place, CONNECTION[state]);
}

/**
 * Put rows in this order without taking the keyboard focus away from them.
 * @param {HTMLElement} list
 * @param {HTMLElement[]} rows
 */
export function arrange(list, rows) {
  if (rows.length === list.children.length && rows.every((row, place) => row === list.children[place])) return;
  const focused = document.activeElement;
  list.replaceChildren(...rows);
  if (focused instanceof HTMLElement && list.contains(focused)) focused.focus({ preventScroll: true });
}

/** Whether the reader prefers reduced motion. */
export function isStill() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/**
 * Run an action again and again while the page is visible: `ms` after it last ended, and at once when the page becomes
 * visible again.
 * @param {number} ms
 * @param {() => Promise<void>} act
 */
export function whileSeen(ms, act) {
  /** @type {ReturnType<typeof setTimeout>} */
  let timer;
  let busy = false;
  const turn = async () => {
    clearTimeout(timer);
    if (busy || document.hidden) return;
    busy = true;
    try {
      await act();
    } finally {
      busy = false;
      timer = setTimeout(turn, ms);
    }
  };
  document.addEventListener("visibilitychange", turn);
  timer = setTimeout(turn, ms);
}

/**
 * A node's answer as JSON, or null if there is none now: the node is joining, leaving or gone.
 * @param {string} path
 */
export async function ask(path) {
  try {
    const answer = await fetch(path, {
      // The same address may answer with a page or with JSON, and a cached count may be old.
      cache: "no-store",
      headers: { Accept: "application/json" },
      signal: AbortSignal.timeout(5000),
    });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/**
 * What an action returns, or undefined if it throws. A browser's storage throws when it is full or denied.
 * @template T
 * @param {() => T} act
 */
export function attempt(act) {
  try {
    return act();
  } catch {
    return undefined;
  }
}
