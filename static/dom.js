// @ts-check

/** @import {State} from "./live.js" */

const grouped = new Intl.NumberFormat();

const CONNECTION = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", offline: "Offline" };

/**
 * A number as its reader writes it.
 * @param {number} value
 */
export function written(value) {
  return grouped.format(value);
}

/**
 * The element of this id, which the template promises.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}, which its script needs: see its template`);
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
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/**
 * Write only what differs, so that screen readers, selections and the layout are left alone.
 * @param {HTMLElement} place
 * @param {string} text
 */
export function write(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

/**
 * Say how the page is connected, in a word and in a state that the style sheet gives a shape.
 * @param {State} state
 */
export function showConnection(state) {
  const place = element("connection");
  place.dataset.state = state;
  write(place, CONNECTION[state]);
}

/**
 * Bring rows into this order, and leave the keyboard's focus where it is.
 * @param {HTMLElement} list
 * @param {HTMLElement[]} rows
 */
export function arrange(list, rows) {
  if (rows.length === list.children.length && rows.every((row, place) => row === list.children[place])) return;
  const focused = document.activeElement;
  list.replaceChildren(...rows);
  if (focused instanceof HTMLElement && list.contains(focused)) focused.focus({ preventScroll: true });
}

/**
 * Act again and again, this long after the last time ended, while the page is seen; at once when it is seen again.
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
 * What a node answers, or null when it has no answer now (it is joining, leaving or gone).
 * @param {string} path
 */
export async function ask(path) {
  try {
    const answer = await fetch(path, {
      // One address may answer with a page and with JSON, and a cache is never the newest count.
      cache: "no-store",
      headers: { Accept: "application/json" },
      signal: AbortSignal.timeout(5000),
    });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}
