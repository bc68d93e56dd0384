// @ts-check

import { shape } from "./dom.js";

const DISCS = 9;

/**
 * A picture for a video without a clip: discs of similar colours, always the same for one id.
 * @param {string} video
 * @returns {SVGElement}
 */
export function placeholder(video) {
  const next = chance(video);
  const hue = Math.floor(next() * 360);
  const picture = shape("svg", { viewBox: "0 0 160 90", preserveAspectRatio: "xMidYMid slice", "aria-hidden": "true" });
  picture.append(shape("rect", { width: 160, height: 90, fill: `hsl(${hue} 38% 24%)` }));
  for (let disc = 0; disc < DISCS; disc++) {
    const fill = `hsl(${hue + Math.floor(next() * 90) - 30} 52% ${36 + Math.floor(next() * 26)}%)`;
    const where = { cx: Math.round(next() * 160), cy: Math.round(next() * 90), r: 8 + Math.round(next() * 26) };
    picture.append(shape("circle", { ...where, fill, "fill-opacity": 0.45 }));
  }
  return picture;
}

/**
 * Pseudo-random numbers from 0 up to 1, seeded by a text (FNV-1a, then xorshift32).
 * @param {string} text
 */
export function chance(text) {
  let state = 2166136261;
  for (let place = 0; place < text.length; place++) state = Math.imul(state ^ text.charCodeAt(place), 16777619);
  state ||= 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
