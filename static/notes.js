// @ts-check

/** @import {Notes} from "./footnotes.js" */

import { written } from "./dom.js";

/**
 * What is said of withdrawn visits; "" if there are none. The template says the same.
 * @param {number} withdrawn
 * @param {Notes} notes their reason is left out if it is that of fewer visits
 */
export function corrected(withdrawn, { withdrawn: of = 0, withdrawn_for: why = "" } = {}) {
  if (!withdrawn) return "";
  return `${written(withdrawn)} withdrawn${why && of >= withdrawn ? `: ${why}` : ""}`;
}

/**
 * Notes with what a message says of them: most say nothing, and no number falls.
 * @param {Notes} notes
 * @param {Notes} said
 * @param {boolean} isAll whether the message says all there is to say, so that there is no reason that it does not say
 * @returns {Notes}
 */
export function merged(notes, said, isAll) {
  const apart = { ...notes.not_counted };
  for (const [reason, visits] of Object.entries(said.not_counted ?? {})) apart[reason] = Math.max(apart[reason] ?? 0, visits);
  const newer = isAll && (said.withdrawn ?? 0) >= (notes.withdrawn ?? 0);
  const { withdrawn, withdrawn_for } = newer ? said : notes;
  return { not_counted: apart, withdrawn, withdrawn_for };
}
