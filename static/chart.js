// @ts-check

/** A node's number at one moment; null if it did not answer. @typedef {{at: number, visits: number | null}} Point */

import { shape, written } from "./dom.js";
import { shortened } from "./short_names.js";

/** How far back the chart looks, in ms. */
export const SPAN = 180_000;
// A line breaks where nothing was heard for longer than this, ms.
const GAP = 6000;
// Connected nodes show each other's numbers within this time, ms.
const GRACE = 3000;
// The number of line styles in console.css: each has its own colour and dashes.
const SLOTS = 6;

const LABEL = 18;
const LETTER = 8;
const LONGEST = 16;
const TOP = 22;
const FOOT = 26;

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit", second: "2-digit" });

/** What each node showed over the last minutes. */
export class History {
  /** @type {Map<string, Point[]>} oldest first */
  #points = new Map();

  /**
   * Record what the nodes show now.
   * @param {{node: string, visits: number | null}[]} nodes
   * @param {number} at ms
   */
  note(nodes, at) {
    for (const { node, visits } of nodes) {
      const points = this.#points.get(node) ?? [];
      points.push({ at, visits });
      // One point before the span stays: the line enters the chart there.
      while ((points[1]?.at ?? at) <= at - SPAN) points.shift();
      this.#points.set(node, points);
    }
    for (const [node, points] of this.#points) {
      if ((points.at(-1)?.at ?? 0) <= at - SPAN) this.#points.delete(node);
    }
  }

  /** The names of the nodes that have lines, sorted. */
  get nodes() {
    return [...this.#points.keys()].sort();
  }

  /**
   * A node's line in pieces: it breaks where the node did not answer or was not asked.
   * @param {string} node
   * @returns {{at: number, visits: number}[][]}
   */
  pieces(node) {
    /** @type {{at: number, visits: number}[][]} */
    const pieces = [];
    let last = -Infinity;
    for (const { at, visits } of this.#points.get(node) ?? []) {
      if (visits === null) {
        last = -Infinity;
        continue;
      }
      if (at - last > GAP) pieces.push([]);
      pieces.at(-1)?.push({ at, visits });
      last = at;
    }
    return pieces;
  }

  /**
   * How many visits each node is behind the largest number; null if it does not answer now. It is 0 for a node that shows
   * at least what any other node showed 3 s ago. So it is 0 while nodes hear each other, however fast visits come in.
   * @returns {Map<string, number | null>}
   */
  missing() {
    const now = Math.max(...[...this.#points.values()].map((points) => points.at(-1)?.at ?? 0));
    let [most, settled] = [0, 0];
    for (const points of this.#points.values()) {
      for (const { at, visits } of points) {
        most = Math.max(most, visits ?? 0);
        if (at <= now - GRACE) settled = Math.max(settled, visits ?? 0);
      }
    }
    return new Map(
      this.nodes.map((node) => {
        const last = this.#points.get(node)?.at(-1);
        if (last?.at !== now || last.visits === null) return [node, null];
        return [node, last.visits < settled ? most - last.visits : 0];
      }),
    );
  }
}

/**
 * A few round whole numbers for an axis. The first is at most `low`, the last at least `high`. A small range is widened,
 * so that lines that hardly move look flat.
 * @param {number} low
 * @param {number} high
 * @param {number} most
 */
export function ticks(low, high, most = 5) {
  if (high - low < 4) [low, high] = [Math.max(0, low - 2), high + 2];
  let step = 1;
  for (let turn = 0; Math.ceil(high / step) - Math.floor(low / step) > most - 1; turn++) {
    step *= turn % 3 === 1 ? 2.5 : 2;
  }
  const first = Math.floor(low / step);
  return Array.from({ length: Math.ceil(high / step) - first + 1 }, (_, place) => (first + place) * step);
}

/**
 * A stepped line as the `d` of an SVG path: a number holds until the next one is heard.
 * @param {{at: number, visits: number}[]} piece
 * @param {(at: number) => number} x
 * @param {(visits: number) => number} y
 */
export function steps(piece, x, y) {
  let drawn = "";
  let height = NaN;
  piece.forEach(({ at, visits }, place) => {
    const next = y(visits);
    if (!place) drawn += `M${round(x(at))} ${round(next)}`;
    else if (next !== height || place === piece.length - 1) drawn += `H${round(x(at))}`;
    if (place && next !== height) drawn += `V${round(next)}`;
    height = next;
  });
  // The round line ends make a single point visible.
  return piece.length === 1 ? `${drawn}h0` : drawn;
}

/**
 * Move places apart until they are at least `gap` from each other. Each stays as close to its place as the others allow.
 * @param {number[]} places
 * @param {number} gap
 * @param {number} low
 * @param {number} high
 * @returns {number[]} in the same order
 */
export function apart(places, gap, low, high) {
  /** @type {{members: number[], middle: number}[]} */
  const groups = [];
  /** @param {{members: number[], middle: number}} group */
  const half = (group) => ((group.members.length - 1) * gap) / 2;
  const order = [...places.keys()].sort((left, right) => (places[left] ?? 0) - (places[right] ?? 0) || left - right);
  for (const index of order) {
    let group = { members: [index], middle: Math.min(high, Math.max(low, places[index] ?? 0)) };
    for (let above = groups.at(-1); above; above = groups.at(-1)) {
      if (group.middle - half(group) - above.middle - half(above) >= gap) break;
      const members = [...above.members, ...group.members];
      const sum = above.middle * above.members.length + group.middle * group.members.length;
      group = { members, middle: sum / members.length };
      group.middle = Math.max(low + half(group), Math.min(high - half(group), group.middle));
      groups.pop();
    }
    groups.push(group);
  }
  /** @type {number[]} */
  const moved = [];
  for (const group of groups) {
    group.members.forEach((index, place) => (moved[index] = group.middle - half(group) + place * gap));
  }
  return moved;
}

/**
 * The nodes, with a number after a name that another node has too.
 * @template {{node: string}} Named
 * @param {Named[]} nodes
 * @returns {Named[]}
 */
export function apartByName(nodes) {
  /** @type {Map<string, number>} */
  const seen = new Map();
  return nodes.map((one) => {
    const times = (seen.get(one.node) ?? 0) + 1;
    seen.set(one.node, times);
    return times === 1 ? one : { ...one, node: `${one.node} (${times})` };
  });
}

/** Draws a history: one line for each node, with the name at its end. */
export class Chart {
  #drawing;
  /** @type {Map<string, number>} the line style of each node */
  #slots = new Map();

  /** @param {Element} drawing an SVG */
  constructor(drawing) {
    this.#drawing = drawing;
  }

  /**
   * The line style of a node. It stays the same while the page is open.
   * @param {string} node
   */
  slot(node) {
    const slot = this.#slots.get(node) ?? this.#slots.size % SLOTS;
    this.#slots.set(node, slot);
    return String(slot);
  }

  /**
   * @param {History} history
   * @param {number} now ms
   */
  draw(history, now) {
    const { width, height } = this.#drawing.getBoundingClientRect();
    const labels = shortened(history.nodes, (text) => text.length <= LONGEST);
    const nodes = history.nodes.map((node, place) => ({ node, label: labels[place] ?? node, pieces: history.pieces(node) }));
    const numbers = nodes.flatMap(({ pieces }) => pieces.flat().map(({ visits }) => visits));
    if (!width || !numbers.length) return this.#drawing.replaceChildren();

    const longest = Math.max(...labels.map((label) => label.length));
    const right = width - longest * LETTER - 26;
    const bottom = height - FOOT;
    const lines = ticks(Math.min(...numbers), Math.max(...numbers));
    const [low = 0, high = 1] = [lines[0], lines.at(-1)];
    /** @param {number} at */
    const x = (at) => Math.max(0, right - ((now - at) * right) / SPAN);
    /** @param {number} visits */
    const y = (visits) => bottom - ((visits - low) / (high - low)) * (bottom - TOP);

    /** @type {Element[]} */
    const drawn = [];
    for (const visits of lines) {
      drawn.push(shape("line", { class: "grid", x1: 0, x2: right, y1: round(y(visits)), y2: round(y(visits)) }));
    }
    const every = right > 520 ? 30_000 : 60_000;
    for (let at = Math.ceil((now - SPAN) / every) * every; at <= now; at += every) {
      if (x(at) < 30 || x(at) > right - 26) continue;
      drawn.push(shape("line", { class: "tick", x1: round(x(at)), x2: round(x(at)), y1: bottom, y2: bottom + 5 }));
      drawn.push(shape("text", { class: "time", x: round(x(at)), y: height - 5 }, clock.format(at)));
    }
    for (const { node, pieces } of nodes) {
      for (const piece of pieces) {
        drawn.push(shape("path", { class: "trace", "data-slot": this.slot(node), d: steps(piece, x, y) }));
      }
    }
    for (const visits of lines) {
      drawn.push(shape("text", { class: "visits", x: 0, y: round(y(visits) - 5) }, written(visits)));
    }
    drawn.push(...this.#labels(nodes, x, y, right, bottom));
    this.#drawing.replaceChildren(...drawn);
  }

  /**
   * @param {{node: string, label: string, pieces: {at: number, visits: number}[][]}[]} nodes
   * @param {(at: number) => number} x
   * @param {(visits: number) => number} y
   * @param {number} right
   * @param {number} bottom
   */
  #labels(nodes, x, y, right, bottom) {
    const ends = nodes.flatMap(({ node, label, pieces }) => {
      const last = pieces.at(-1)?.at(-1);
      return last ? [{ node, label, x: x(last.at), y: y(last.visits) }] : [];
    });
    const places = apart(
      ends.map((end) => end.y),
      LABEL,
      TOP / 2,
      bottom,
    );
    return ends.flatMap((end, index) => {
      const place = places[index] ?? end.y;
      const slot = { "data-slot": this.slot(end.node) };
      const lead = `M${round(Math.max(end.x, right))} ${round(end.y)}L${round(right + 14)} ${round(place)}`;
      return [
        shape("path", { class: "lead", ...slot, d: lead }),
        shape("circle", { class: "end", ...slot, cx: round(end.x), cy: round(end.y), r: 3.5 }),
        shape("text", { class: "name", ...slot, x: round(right + 18), y: round(place + 5) }, end.label),
      ];
    });
  }
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}
