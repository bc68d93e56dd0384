import assert from "node:assert/strict";
import { test } from "node:test";

import { Wiped } from "../../static/wiped.js";

/** @param {string[]} members */
const ready = (...members) => ({ state: "ready", members: members.map((member) => ({ member })) });

test("two looks some time apart at ready nodes that know nobody: wiped", () => {
  const wiped = new Wiped();
  assert.equal(wiped.look(["a~1", "b~1"], ready("a~2"), 0), false);
  assert.ok(wiped.doubts);
  assert.equal(wiped.look(["a~1", "b~1"], ready("a~2"), 9_000), false);
  assert.equal(wiped.look(["a~1", "b~1"], ready("a~2", "b~2"), 10_000), true);
});

test("whoever knows one member, is not ready or does not answer proves nothing", () => {
  const wiped = new Wiped();
  wiped.look(["a~1"], ready("a~2"), 0);
  assert.equal(wiped.look(["a~1"], ready("a~2", "a~1"), 10_000), false);
  assert.ok(!wiped.doubts);
  assert.equal(wiped.look(["a~1"], ready("a~2"), 20_000), false);
  assert.equal(wiped.look(["a~1"], null, 30_000), false);
  assert.equal(wiped.look(["a~1"], { state: "joining", members: [] }, 30_000), false);
  assert.ok(wiped.doubts);
  assert.equal(wiped.look([], ready("a~2"), 40_000), false);
  assert.ok(!wiped.doubts);
});
