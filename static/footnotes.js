// @ts-check

import { written } from "./dom.js";

/**
 * What a node says of a counter beside its number, if there is something to say.
 * @typedef {object} Notes
 * @property {Record<string, number>} [not_counted] visits that do not count, by why
 * @property {number} [withdrawn] visits that an operator has taken back
 * @property {string[]} [withdrawn_for] the reasons given for that, newest first
 */

// So many reasons are told.
const REASONS = 3;

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

/**
 * What an operator has taken back, in words; "" for nothing. The template says the same.
 * @param {number} visits
 * @param {string[]} reasons
 */
export function withdrawn(visits = 0, reasons = []) {
  if (!visits) return "";
  const told = [...new Set(reasons.filter(Boolean))].slice(0, REASONS);
  return `${written(visits)} withdrawn${told.length ? `: ${told.join("; ")}` : ""}`;
}
