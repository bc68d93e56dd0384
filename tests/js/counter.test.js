import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Counter, increment, isVideo, merge, nameOf, value } from "../../static/counter.js";

/** @import {Counts} from "../../static/counter.js" */
/** @typedef {{case: string, start: Counts, replica: string, by: number, counter: Counts, visits: number}} Increment */
/** @typedef {{case: string, left: Counts, right: Counts, merged: Counts, visits: number, grew: Counts}} Merge */
/** @typedef {{case: string, counters: Counts[], merged: Counts, visits: number}} Orders */
/** @typedef {{case: string, told: {counts: Counts, withdrawn?: number}[], visits: number}} Corrections */
/** @typedef {{case: string, counter: Counts, names: Counts}} Names */
/** @type {{increments: Increment[], merges: Merge[], orders: Orders[], corrections: Corrections[], names: Names[], videos: {allowed: string[], refused: string[]}}} */
const vectors = JSON.parse(readFileSync(new URL("../vectors/gcounter.json", import.meta.url), "utf8"));

const MOST = Number.MAX_SAFE_INTEGER;

/**
 * @template T
 * @param {T[]} items
 * @returns {T[][]}
 */
function permutations(items) {
  if (items.length === 0) return [[]];
  return items.flatMap((first, place) => permutations(items.toSpliced(place, 1)).map((rest) => [first, ...rest]));
}

for (const { case: name, start, replica, by, counter, visits } of vectors.increments) {
  test(`increments: ${name}`, () => {
    const before = structuredClone(start);
    const incremented = increment(start, replica, by);
    assert.deepEqual(incremented, counter);
    assert.equal(value(incremented), visits);
    assert.deepEqual(start, before, "the arguments are unchanged");
    const held = new Counter(start);
    held.increment(replica, by);
    assert.deepEqual(held.toJSON(), counter);
    assert.equal(held.visits, visits);
  });
}

for (const { case: name, left, right, merged, visits, grew } of vectors.merges) {
  test(`merges: ${name}`, () => {
    const before = structuredClone([left, right]);
    assert.deepEqual(merge(left, right), merged);
    assert.deepEqual(merge(right, left), merged, "both sides end up with the same");
    assert.equal(value(merged), visits);
    assert.deepEqual([left, right], before, "the arguments are unchanged");
    const held = new Counter(left);
    assert.deepEqual(Object.fromEntries(held.merge(right)), grew);
    assert.deepEqual(held.toJSON(), merged);
    assert.equal(held.merge(right).size, 0, "merging again changes nothing");
  });
}

for (const { case: name, counters, merged, visits } of vectors.orders) {
  test(`merges in any order: ${name}`, () => {
    for (const order of permutations(counters)) {
      const inTurn = order.reduce(merge, {});
      assert.deepEqual(inTurn, merged);
      assert.equal(value(inTurn), visits);
      assert.deepEqual(order.reduceRight((joined, counts) => merge(counts, joined), {}), merged);
    }
  });
}

for (const { case: name, counter, names } of vectors.names) {
  test(`names: ${name}`, () => {
    const shares = new Counter(counter).byName();
    assert.deepEqual(shares.map((share) => [share.name, share.visits]), Object.entries(names));
    for (const { name: shared, members } of shares) {
      assert.deepEqual(members, members.toSorted(([left], [right]) => (left < right ? -1 : 1)));
      assert.ok(members.every(([id, count]) => nameOf(id) === shared && counter[id] === count));
    }
  });
}

test("videos: every allowed id is accepted", () => {
  for (const video of vectors.videos.allowed) assert.ok(isVideo(video), video);
});

test("videos: every refused id is refused", () => {
  for (const video of vectors.videos.refused) assert.ok(!isVideo(video), JSON.stringify(video));
});

test("an increment counts one visit by default", () => {
  const counter = new Counter();
  counter.increment("a~1");
  assert.deepEqual(counter.toJSON(), { "a~1": 1 });
});

test("an entry that is not a count is ignored, and the others are not", () => {
  /** @type {any[]} */
  const strange = [-1, 1.5, NaN, Infinity, -Infinity, MOST + 1, "7", null, undefined, true, [], {}, 7n];
  for (const junk of strange) {
    const counter = new Counter({ "a~1": 5 });
    assert.deepEqual(Object.fromEntries(counter.merge({ "a~1": junk, "b~1": junk, "c~1": 2 })), { "c~1": 2 });
    assert.deepEqual(counter.toJSON(), { "a~1": 5, "c~1": 2 });
    assert.equal(value({ "a~1": 5, "b~1": junk }), 5);
  }
  for (const junk of strange.filter((one) => typeof one === "number")) {
    const counter = new Counter({ "a~1": 5 });
    counter.increment("a~1", junk);
    assert.deepEqual(counter.toJSON(), { "a~1": 5 });
  }
});

test("properties that every object has are entries only once they are counted", () => {
  for (const replica of ["__proto__", "constructor", "toString"]) {
    const counter = increment(increment({}, replica), replica);
    assert.deepEqual(Object.entries(counter), [[replica, 2]]);
    assert.equal(value(merge(counter, JSON.parse(`{"${replica}": 3}`))), 3);
  }
});

test("a count never exceeds the largest", () => {
  const counter = new Counter({ "a~1": MOST });
  counter.increment("a~1");
  assert.equal(counter.visits, MOST);
});

test("a count of 0 is the same as no count", () => {
  const counter = new Counter({ "a~1": 0 });
  counter.increment("b~1", 0);
  assert.deepEqual(counter.toJSON(), {});
  assert.deepEqual(counter.byName(), []);
});

test("a counter keeps nothing of the object it was made from", () => {
  const counts = { "a~1": 1 };
  const counter = new Counter(counts);
  counter.increment("a~1");
  assert.deepEqual(counts, { "a~1": 1 });
  counts["a~1"] = 100;
  assert.equal(counter.visits, 2);
});

for (const { case: name, told, visits } of vectors.corrections) {
  test(`corrections in any order: ${name}`, () => {
    for (const order of permutations(told)) {
      const held = new Counter();
      for (const { counts, withdrawn } of order) {
        held.merge(counts);
        held.withdraw(withdrawn);
      }
      assert.equal(held.visits, visits);
      assert.equal(held.withdraw(held.withdrawn), 0, "the same again is no news");
    }
  });
}

test("only a count can be withdrawn", () => {
  const counter = new Counter({ "a~1": 9 }, 2);
  for (const wrong of [null, undefined, "5", -5, 1.5, NaN, {}]) assert.equal(counter.withdraw(wrong), 0);
  assert.deepEqual([counter.visits, counter.counted, counter.withdrawn], [7, 9, 2]);
  assert.equal(counter.withdraw(5), 3);
  assert.equal(counter.visits, 4);
});
