import assert from "node:assert/strict";
import { test } from "node:test";

import { shortened } from "../../static/short_names.js";

/** @param {number} room */
const within = (room) => (/** @type {string} */ text) => text.length <= room;

test("names that fit stay as they are", () => {
  assert.deepEqual(shortened(["counter1", "counter2"], within(8)), ["counter1", "counter2"]);
  assert.deepEqual(shortened([], within(8)), []);
});

test("names that share a beginning keep their ends", () => {
  const names = ["counter-1", "counter-2", "counter-3"];
  assert.deepEqual(shortened(names, within(6)), ["co…r-1", "co…r-2", "co…r-3"]);
  assert.deepEqual(shortened(names, within(3)), ["c…1", "c…2", "c…3"]);
});

test("names that share a beginning and an end keep what differs", () => {
  const names = ["counter-1-of-the-west", "counter-2-of-the-west"];
  for (const room of [4, 6, 8, 12, 16]) {
    const short = shortened(names, within(room));
    assert.notEqual(short[0], short[1]);
    assert.ok(short.every(within(room)), short.join(" "));
    assert.match(short[0] ?? "", /1/);
  }
});

test("names of different lengths, and one that fits beside others that do not", () => {
  for (const names of [
    ["a", "counter-of-the-north", "counter-of-the-south"],
    ["node", "node-1", "node-11", "node-111", "node-1111"],
    ["eu-west-1a.example", "eu-west-1b.example", "eu-east-1a.example", "us-east-1a.example"],
    ["n".repeat(32), `${"n".repeat(31)}m`, `m${"n".repeat(31)}`],
  ]) {
    const short = shortened(names, within(8));
    assert.equal(new Set(short).size, names.length, short.join(" "));
    assert.ok(short.every(within(8)), short.join(" "));
  }
});

test("where nothing tells them apart they stay whole", () => {
  const names = ["aXbbbbbbbbbbbbbbbbY", "aXbbbbbbbbbbbbbbbbZ", "aWbbbbbbbbbbbbbbbbY"];
  assert.deepEqual(shortened(names, within(2)), names);
});

test("a hundred names of the greatest length take no time to speak of", () => {
  const names = Array.from({ length: 100 }, (_, place) => `${"n".repeat(14)}${String(place).padStart(4, "0")}${"m".repeat(14)}`);
  const began = performance.now();
  assert.equal(new Set(shortened(names, within(9))).size, 100);
  assert.ok(performance.now() - began < 500);
});
