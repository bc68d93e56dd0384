// @ts-check

const SVG = "http://www.w3.org/2000/svg";
const DISCS = 9;

/**
 * A picture for a video without a clip, always the same for one id: discs of kindred colours.
 * @param {string} video
 * @returns {SVGSVGElement}
 */
export function placeholder(video) {
  const next = chance(video);
  const hue = Math.floor(next() * 360);
  const drawn = document.createElementNS(SVG, "svg");
  set(drawn, { viewBox: "0 0 160 90", preserveAspectRatio: "xMidYMid slice", "aria-hidden": "true" });
  drawn.append(set(document.createElementNS(SVG, "rect"), { width: 160, height: 90, fill: `hsl(${hue} 38% 24%)` }));
  for (let disc = 0; disc < DISCS; disc++) {
    const fill = `hsl(${hue + Math.floor(next() * 90) - 30} 52% ${36 + Math.floor(next() * 26)}%)`;
    const where = { cx: Math.round(next() * 160), cy: Math.round(next() * 90), r: 8 + Math.round(next() * 26) };
    drawn.append(set(document.createElementNS(SVG, "circle"), { ...where, fill, "fill-opacity": 0.45 }));
  }
  return drawn;
}

/**
 * Numbers from 0 up to 1 that follow from a text (FNV-1a, then xorshift32).
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

/**
 * @template {Element} Drawn
 * @param {Drawn} drawn
 * @param {Record<string, string | number>} attributes
 */
function set(drawn, attributes) {
  for (const [name, value] of Object.entries(attributes)) drawn.setAttribute(name, String(value));
  return drawn;
}
