import assert from "node:assert/strict";
import { test } from "node:test";

import { chance } from "../../static/placeholder.js";

/** @param {string} text */
const first = (text) => Array.from({ length: 20 }, chance(text));

test("an id always has the same picture, and different ids have different ones", () => {
  assert.deepEqual(first("cats"), first("cats"));
  assert.notDeepEqual(first("cats"), first("cat"));
  assert.notDeepEqual(first("ab"), first("ba"));
});

test("chance is between 0 and 1 for any text", () => {
  for (const text of ["", "a", "__proto__", "w".repeat(128)]) {
    for (const value of first(text)) assert.ok(value >= 0 && value < 1, `${text}: ${value}`);
    assert.ok(new Set(first(text)).size > 15);
  }
});
