// @ts-check

import { written } from "./dom.js";

/**
 * What a node says beside the number, when it is asked for all there is to say. not_counted: visits that do not count,
 * by why; withdrawn: how many are withdrawn; withdrawn_for: why these are.
 * @typedef {{not_counted?: Record<string, number>, withdrawn?: number, withdrawn_for?: string}} Notes
 */

/**
 * Visits that do not count, in words; "" for none.
 * @param {Record<string, number>} apart
 */
export function apartInWords({ bot = 0, repeat = 0, blocked = 0 } = {}) {
  const parts = [
    bot && `${written(bot)} by crawlers`,
    repeat && `${written(repeat)} ${repeat === 1 ? "repeat" : "repeats"}`,
    blocked && `${written(blocked)} while taken down`,
  ];
  return parts.filter(Boolean).join(", ");
}

/**
 * What is said of them below a number. The template says the same.
 * @param {Record<string, number>} apart
 */
export function notCounted(apart = {}) {
  const told = apartInWords(apart);
  return told && `+ ${told}, not counted`;
}
