// @ts-check

/** @import {Counter, Share} from "./counter.js" */
/** @import {Notes} from "./footnotes.js" */

import { nameOf } from "./counter.js";
import { arrange, element, isStill, make, write, written } from "./dom.js";
import { notCounted } from "./footnotes.js";
import { corrected } from "./notes.js";
import { Announcer, Climb } from "./number.js";
import { placeholder } from "./placeholder.js";
import { Rates, STRETCHES, line } from "./sparkline.js";

const FLASH = 600;
// Fewer visits are a spike or two, and a rate of which nobody can say anything.
const ENOUGH = 10;
// The same as in the template.
const CHART = { width: STRETCHES, height: 24 };

/** The view of one video. */
export class VideoView {
  /** @type {string | null} */
  #video = null;
  /** @type {number | null} */
  #visits = null;
  /** @type {{title: string, about: string} | null} */
  #clip = null;
  #blocked = false;
  /** @type {Map<string, HTMLElement>} by the name of the node */
  #rows = new Map();
  /** @type {Map<string, Rates>} by video: its line is still there when a reader comes back to it */
  #rates = new Map();
  #climb = new Climb((value) => this.#put(value));
  #announcer = new Announcer((text) => write(element("announcement"), text));
  #table = /** @type {HTMLTableElement} */ (element("by-node"));

  constructor() {
    const toggle = element("by-node-toggle");
    toggle.addEventListener("click", () => {
      this.#table.hidden = !this.#table.hidden;
      toggle.setAttribute("aria-expanded", String(!this.#table.hidden));
    });
  }

  /**
   * Show another video and nothing of the one before, or none with null.
   * @param {string | null} video
   * @param {{title: string, about: string} | null} clip
   */
  open(video, clip) {
    this.#video = video;
    this.#visits = null;
    this.#rows.clear();
    this.#table.tBodies[0]?.replaceChildren();
    this.#climb.set(0);
    this.#announcer.hush();
    write(element("announcement"), "");
    element("coming").hidden = true;
    this.#blocked = false;
    this.note({});
    this.correct(0, false);
    delete element("visits").dataset.visits;
    write(element("visits"), "…");
    this.#clip = clip;
    this.#drawClip();
    if (video === null) return;
    // Its number was not watched until now.
    this.#ratesNow()?.pause();
    this.drawRates();
  }

  /** Draw what there is to see of the video, and what it is; of one that was taken down, nothing. */
  #drawClip() {
    const [video, clip, player] = [this.#video, this.#clip, element("player")];
    const about = clip ? clip.about : "This video has no clip. Its visits count like all others.";
    write(element("about"), this.#blocked ? "" : about);
    if (video === null) return player.replaceChildren();
    // The server rendered a player with its poster.
    const there = player.querySelector("video");
    if (!clip || this.#blocked) player.replaceChildren(placeholder(video));
    else if (there?.getAttribute("src") !== fileOf(video, "webm")) player.replaceChildren(newPlayer(video, clip.title));
  }

  /** Play the clip, unless the reader prefers reduced motion. */
  play() {
    if (isStill()) return;
    // If the browser refuses, the controls are there.
    document.querySelector("video")?.play().catch(() => {});
  }

  /**
   * Show the number of visits, and the count of each node.
   * @param {number} visits
   * @param {Counter} counter
   * @param {Iterable<string>} grew the members whose counts grew
   */
  show(visits, counter, grew) {
    const first = this.#visits === null;
    this.#fill(counter, new Set([...grew].map(nameOf)));
    const fell = visits < (this.#visits ?? 0);
    // It falls by a correction, which says nothing of when visits came.
    if (fell) this.#ratesNow()?.pause();
    this.#ratesNow()?.note(visits, Date.now());
    if (this.#visits === visits) return;
    this.#visits = visits;
    element("coming").hidden = true;
    element("visits").dataset.visits = String(visits);
    if (first || fell) return this.#climb.set(visits);
    this.#climb.rise(visits);
    this.#announcer.tell(() => `${written(this.#visits ?? 0)} ${element("unit").textContent}`);
  }

  /**
   * Say quietly which visits do not count.
   * @param {Notes} notes
   */
  note(notes) {
    // A page of the version before has no place for it.
    const place = document.getElementById("not-counted");
    if (!place) return;
    const text = notCounted(notes.not_counted);
    place.hidden = !text;
    write(place, text);
  }

  /**
   * Say what an operator has done to the number.
   * @param {number} withdrawn visits
   * @param {boolean} blocked whether the video was taken down
   * @param {Notes} notes
   */
  correct(withdrawn, blocked, notes = {}) {
    const line = document.getElementById("corrected");
    if (!line) return;
    const less = corrected(withdrawn, notes);
    line.hidden = !less && !blocked;
    write(line, blocked ? "This video was taken down. Its visits are not counted." : less);
    if (blocked === this.#blocked) return;
    this.#blocked = blocked;
    this.#drawClip();
  }

  /** Say that the visit is counted and the number will follow. */
  await() {
    element("coming").hidden = false;
  }

  /** Numbers stop coming for a while. */
  pauseRates() {
    for (const rates of this.#rates.values()) rates.pause();
  }

  /** Draw the curve of the last minutes, or say what it needs. */
  drawRates() {
    const rates = this.#ratesNow();
    if (!rates) return;
    const now = Date.now();
    const values = rates.at(now);
    const seen = rates.seen(now);
    const drawn = line(seen < ENOUGH ? [] : values, CHART);
    const figure = element("rates");
    figure.hidden = false;
    figure.querySelector(".line")?.setAttribute("d", drawn.line);
    figure.querySelector(".area")?.setAttribute("d", drawn.area);
    write(element("rate"), seen < ENOUGH ? needed(seen) : told(Math.max(...values)));
  }

  #ratesNow() {
    if (this.#video === null) return;
    const rates = this.#rates.get(this.#video) ?? new Rates();
    this.#rates.set(this.#video, rates);
    return rates;
  }

  /** @param {number} value */
  #put(value) {
    const text = written(value);
    const visits = element("visits");
    write(visits, text);
    write(element("unit"), value === 1 ? "visit" : "visits");
    // The style sheet makes long numbers smaller to keep them on one line.
    visits.style.setProperty("--length", String(text.length));
  }

  /**
   * @param {Counter} counter
   * @param {Set<string>} grew the names of the nodes whose counts grew
   */
  #fill(counter, grew) {
    // Browsers keep the animations of hidden elements until these are drawn: they would pile up.
    const still = this.#table.hidden || document.hidden || isStill();
    const shares = counter.byName();
    const together = counter.counted ?? counter.visits;
    for (const share of shares) {
      const row = this.#rows.get(share.name) ?? this.#newRow(share);
      row.title = share.members.map(([id]) => id).join(", ");
      const cell = /** @type {HTMLElement} */ (row.querySelector("td[data-count]"));
      cell.dataset.count = String(share.visits);
      write(cell, written(share.visits));
      if (grew.has(share.name) && !still) cell.animate({ opacity: [0.6, 1] }, FLASH);
      const stores = /** @type {HTMLElement} */ (row.querySelector("small"));
      stores.hidden = share.members.length === 1;
      write(stores, share.members.map(([id, count]) => `${id}: ${written(count)}`).join("\n"));
      const bar = /** @type {HTMLProgressElement} */ (row.querySelector("progress"));
      bar.value = share.visits / together;
    }
    // Counters never lose a name, so every row belongs to a share.
    arrange(
      /** @type {HTMLElement} */ (this.#table.tBodies[0]),
      shares.map(({ name }) => /** @type {HTMLElement} */ (this.#rows.get(name))),
    );
    this.#add(counter);
  }

  /**
   * Write the sum, which is the number above, and what it lacks of the counts.
   * @param {Counter} counter
   */
  #add(counter) {
    // A page of the version before has no row for it.
    const less = document.getElementById("withdrawn");
    write(element("sum"), written(less ? counter.visits : counter.counted));
    const row = less?.parentElement;
    if (!less || !row) return;
    row.hidden = !counter.withdrawn;
    write(less, `−${written(Math.min(counter.withdrawn, counter.counted))}`);
  }

  /** @param {Share} share */
  #newRow({ name }) {
    const row = make("tr", "", { "data-name": name });
    const head = make("th", name, { scope: "row" });
    head.append(make("small"));
    const part = make("td", "", { class: "part" });
    part.append(make("progress", "", { max: "1", "aria-hidden": "true" }));
    row.append(head, part, make("td", "", { class: "number", "data-count": "0" }));
    this.#rows.set(name, row);
    return row;
  }
}

/** @param {number} seen visits within the last three minutes */
function needed(seen) {
  return `The curve needs ${ENOUGH} visits in 3 minutes. This page has seen ${seen}.`;
}

/** @param {number} most visits a second */
function told(most) {
  return `Visits per second in the last 3 minutes: ${most < 1 ? "fewer than 1" : `at most ${written(most)}`}`;
}

/**
 * @param {string} video
 * @param {"webm" | "webp"} kind
 */
function fileOf(video, kind) {
  return `/static/clips/${video}.${kind}`;
}

/**
 * @param {string} video
 * @param {string} title
 */
function newPlayer(video, title) {
  const player = /** @type {HTMLVideoElement} */ (
    make("video", "", {
      ...{ controls: "", loop: "", playsinline: "", preload: "none", width: "480", height: "270" },
      ...{ poster: fileOf(video, "webp"), src: fileOf(video, "webm"), "aria-label": title },
    })
  );
  // As an attribute it would only work in markup.
  player.muted = true;
  return player;
}
