// @ts-check

const DOTS = "…";

/**
 * Names in a form that fits, each different from all others: `co…r-1`, `co…r-2`. The same part is left out of each, from
 * the middle if that tells them apart; else they show the part, or the letters, in which they differ. Names that fit stay
 * as they are, and so do all where no form tells them apart.
 * @param {string[]} names
 * @param {(text: string) => boolean} fits
 * @returns {string[]} in the same order
 */
export function shortened(names, fits) {
  if (names.every(fits)) return names;
  const longest = Math.max(...names.map((name) => name.length));
  // A few characters less in the best form are better than the most in any.
  for (const most of [1, Infinity]) {
    for (let kept = longest - 1; kept > 0; kept--) {
      for (const form of [...forms(kept, longest)].slice(0, most)) {
        const short = names.map((name) => (fits(name) ? name : form(name)));
        if (short.every(fits) && new Set(short).size === new Set(names).size) return short;
      }
    }
  }
  const spelled = differing(names);
  return spelled.every(fits) ? spelled : names;
}

/**
 * The letters that tell names apart: those of the places where they differ most, until each is different.
 * @param {string[]} names
 */
function differing(names) {
  const places = [...Array(Math.max(...names.map((name) => name.length))).keys()];
  /** @type {number[]} */
  let kept = [];
  /** @param {number[]} some */
  const told = (some) => new Set(names.map((name) => some.map((place) => name[place] ?? " ").join(""))).size;
  while (told(kept) < new Set(names).size) {
    const more = places.filter((place) => !kept.includes(place)).map((place) => [...kept, place]);
    kept = more.reduce((best, some) => (told(some) > told(best) ? some : best));
  }
  const shown = new Set(kept);
  return names.map((name) => [...name].map((letter, place) => (shown.has(place) ? letter : DOTS)).join("").replace(/…+/g, DOTS));
}

/**
 * Ways to keep so many characters of each name, the best first. The end tells most, so most of them are kept there.
 * @param {number} kept
 * @param {number} longest how many characters the longest name has
 */
function* forms(kept, longest) {
  const third = Math.ceil(kept / 3);
  const starts = [...Array(kept + 1).keys()].sort((left, right) => Math.abs(left - third) - Math.abs(right - third));
  for (const start of starts) {
    yield (/** @type {string} */ name) => without(name, start, name.length - (kept - start));
  }
  for (let from = 1; from + kept < longest; from++) {
    yield (/** @type {string} */ name) => without(without(name, from + kept, name.length), 0, from);
  }
}

/**
 * @param {string} name
 * @param {number} from
 * @param {number} to
 */
function without(name, from, to) {
  return to - from < 1 ? name : name.slice(0, from) + DOTS + name.slice(to);
}
