// @ts-check

import { arrange, isStill, make, write, written } from "./dom.js";
import { placeholder } from "./placeholder.js";
import { addressOf } from "./routes.js";

const SLIDE = 500;

/** The cards of videos. Cards with a clip stay; the others come and go as the list changes. */
export class Cards {
  /** @type {HTMLElement} */
  #list;
  /** @type {Map<string, HTMLElement>} */
  #cards = new Map();

  /** @param {HTMLElement} list holds the cards that the server rendered */
  constructor(list) {
    this.#list = list;
    for (const card of /** @type {Iterable<HTMLElement>} */ (list.children)) {
      const { video = "" } = card.dataset;
      this.#cards.set(video, card);
      const poster = card.querySelector(".poster");
      if (poster && !poster.firstElementChild) poster.append(placeholder(video));
      const number = card.querySelector("b");
      const visits = this.visitsOf(video);
      if (number) write(number, visits === null ? "…" : written(visits));
    }
  }

  /** The videos in the order of their cards. */
  get videos() {
    return [...this.#cards.keys()];
  }

  /**
   * The title and description of a video with a clip; null for any other video.
   * @param {string} video
   */
  clip(video) {
    const card = this.#cards.get(video);
    const about = card?.dataset.about;
    return about === undefined ? null : { title: card?.querySelector("a")?.textContent ?? video, about };
  }

  /**
   * The number on a card; null if the card has none.
   * @param {string} video
   */
  visitsOf(video) {
    const visits = this.#cards.get(video)?.querySelector("b")?.dataset.visits;
    return visits === undefined ? null : Number(visits);
  }

  /**
   * Show the visits of a video, if it has a card.
   * @param {string} video
   * @param {number} visits
   */
  show(video, visits) {
    const number = this.#cards.get(video)?.querySelector("b");
    if (!number || number.dataset.visits === String(visits)) return;
    number.dataset.visits = String(visits);
    write(number, written(visits));
    if (number.nextSibling) number.nextSibling.textContent = visits === 1 ? " visit" : " visits";
  }

  /**
   * Hide the card of the video that the page is showing, and no other.
   * @param {string | null} video
   */
  leaveOut(video) {
    for (const [id, card] of this.#cards) card.hidden = id === video;
  }

  /**
   * Show cards for those with clips, then for these videos, each most visits first. If careful, cards do not move while
   * the pointer or the focus is on them, and otherwise slide, so that the eye can follow.
   * @param {Iterable<string>} videos
   * @param {(video: string) => number | null} visitsOf
   * @param {boolean} careful
   */
  order(videos, visitsOf, careful) {
    if (careful && this.#inUse()) return;
    const listed = new Set(videos);
    const staying = [...this.#cards].filter(([video, card]) => listed.has(video) || hasClip(card));
    const known = new Map(staying);
    for (const video of listed) known.set(video, known.get(video) ?? newCard(video));
    // The sort is stable, so cards with equal numbers stay in place.
    const ranked = [...known].sort(
      ([left, a], [right, b]) => Number(hasClip(b)) - Number(hasClip(a)) || (visitsOf(right) ?? -1) - (visitsOf(left) ?? -1),
    );
    this.#cards = new Map(ranked);
    for (const video of this.#cards.keys()) {
      const visits = visitsOf(video);
      if (visits !== null) this.show(video, visits);
    }
    const before = careful && !isStill() ? this.#places() : null;
    arrange(this.#list, [...this.#cards.values()]);
    if (before) this.#slide(before);
  }

  #inUse() {
    return this.#list.contains(document.activeElement) || (matchMedia("(hover: hover)").matches && this.#list.matches(":hover"));
  }

  #places() {
    return new Map([...this.#list.children].map((card) => [card, card.getBoundingClientRect()]));
  }

  /** @param {Map<Element, DOMRect>} before the earlier place of each card */
  #slide(before) {
    for (const card of this.#list.children) {
      const from = before.get(card);
      const to = card.getBoundingClientRect();
      if (from && from.x === to.x && from.y === to.y) continue;
      const start = from ? { translate: `${from.x - to.x}px ${from.y - to.y}px` } : { opacity: 0 };
      card.animate([start, {}], { duration: SLIDE, easing: "ease-in-out" });
    }
  }
}

/** @param {HTMLElement} card */
function hasClip(card) {
  return card.dataset.about !== undefined;
}

/** @param {string} video */
function newCard(video) {
  const card = make("li", "", { "data-video": video });
  const poster = make("span", "", { class: "poster" });
  poster.append(placeholder(video));
  const number = make("span", "", { class: "quiet" });
  number.append(make("b", "…"), " visits");
  card.append(poster, make("a", video, { href: addressOf(video) }), number);
  return card;
}
