import assert from "node:assert/strict";
import { test } from "node:test";

import { Looks, SavedCounters, strangers } from "../../static/saved_counters.js";
import { FullStorage, MapStorage } from "./storage.js";

test("a saved counter is still there later, and grows by merging", () => {
  const storage = new MapStorage();
  new SavedCounters(storage).merge("cats", { "a~1": 3, "b~2": 1 });
  const saved = new SavedCounters(storage);
  saved.merge("cats", { "a~1": 2, "b~2": 5 });
  assert.deepEqual(new SavedCounters(storage).counts("cats"), { "a~1": 3, "b~2": 5 });
  assert.deepEqual(saved.counts("dogs"), {});
});

test("two tabs share the saved counters", () => {
  const storage = new MapStorage();
  const [one, other] = [new SavedCounters(storage), new SavedCounters(storage)];
  one.merge("cats", { "a~1": 1 });
  other.merge("cats", { "a~1": 1, "b~2": 4 });
  one.merge("cats", { "a~1": 2 });
  one.raise("cats", 8);
  other.raise("cats", 7);
  assert.deepEqual(other.counts("cats"), { "a~1": 2, "b~2": 4 });
  assert.equal(other.floor("cats"), 8);
});

test("what is withdrawn is kept, and lowers the least number once", () => {
  const storage = new MapStorage();
  const [one, other] = [new SavedCounters(storage), new SavedCounters(storage)];
  one.merge("cats", { "a~1": 10 });
  one.raise("cats", 11);
  one.merge("cats", { "a~1": 10 }, 4);
  other.merge("cats", { "a~1": 10 }, 4);
  other.merge("cats", { "a~1": 10 }, 1);
  assert.equal(other.withdrawn("cats"), 4);
  assert.equal(other.floor("cats"), 7);
  assert.equal(other.withdrawn("dogs"), 0);
});

test("switched off, it forgets everything and keeps nothing", () => {
  const storage = new MapStorage();
  const saved = new SavedCounters(storage);
  saved.merge("off", { "a~1": 1 });
  assert.ok(saved.on);
  saved.turn(false);
  saved.merge("off", { "a~1": 2 });
  saved.raise("off", 9);
  assert.ok(!new SavedCounters(storage).on);
  assert.deepEqual([saved.counts("off"), saved.floor("off")], [{}, 0]);
  saved.turn(true);
  saved.merge("off", { "a~1": 2 });
  assert.deepEqual(saved.counts("off"), { "a~1": 2 });
});

test("an invalid item in the storage is the same as none", () => {
  for (const junk of ["", "{", "null", "7", '"x"', "[]", '{"counts":null,"floor":0,"at":1}', '{"counts":{"a":-1}}']) {
    const storage = new MapStorage({ "visits.kept.cats": junk });
    const saved = new SavedCounters(storage);
    assert.deepEqual(saved.counts("cats"), {});
    assert.equal(saved.floor("cats"), 0);
    saved.merge("cats", { "a~1": 2 });
    assert.deepEqual(saved.counts("cats"), { "a~1": 2 }, junk);
  }
});

test("a storage that is full, denied or absent keeps nothing and breaks nothing", () => {
  for (const storage of [new FullStorage(), null]) {
    const saved = new SavedCounters(storage);
    saved.merge("cats", { "a~1": 1 });
    saved.raise("cats", 3);
    saved.lower("cats");
    saved.turn(false);
    saved.turn(true);
    saved.forget();
    assert.deepEqual([saved.counts("cats"), saved.floor("cats"), saved.items()], [{}, 0, []]);
  }
});

test("the newest 200 videos are kept", () => {
  let now = 0;
  const saved = new SavedCounters(new MapStorage(), () => now);
  for (now = 1; now <= 250; now++) {
    saved.merge(`video${now}`, { "a~1": 1 });
    saved.merge("video1", { "a~1": now });
  }
  const videos = saved.items().map(([video]) => video);
  assert.equal(videos.length, 200);
  assert.ok(videos.includes("video1") && videos.includes("video250") && !videos.includes("video51"));
});

test("a floor is lowered when a visit is given up", () => {
  const saved = new SavedCounters(new MapStorage());
  saved.merge("cats", { "a~1": 1 });
  saved.raise("cats", 4);
  saved.lower("cats", 1);
  assert.equal(saved.floor("cats"), 3);
  saved.lower("cats");
  saved.lower("cats", 1);
  assert.deepEqual([saved.floor("cats"), saved.counts("cats")], [0, { "a~1": 1 }]);
});

test("counts of two clusters do not become one counter", () => {
  const saved = new SavedCounters(new MapStorage());
  saved.merge("cats", { "a~old": 9 });
  saved.merge("cats", { "a~new": 1 });
  assert.deepEqual(saved.counts("cats"), { "a~old": 9 });
});

test("strangers are counters from before the cluster that answers", () => {
  let now = 0;
  const saved = new SavedCounters(new MapStorage(), () => ++now);
  saved.raise("waiting", 1);
  saved.merge("cats", { "a~old": 9 });
  saved.merge("dogs", { "b~old": 2 });
  saved.merge("birds", { "a~new": 1 });
  saved.raise("fish", 1);
  assert.deepEqual(strangers(saved.items(), ["a~new", "b~new"]), ["waiting", "cats", "dogs"]);
  // An old member is known: it is the same cluster, and a part of it was lost or cannot be reached.
  assert.deepEqual(strangers(saved.items(), ["a~old", "b~new"]), []);
  assert.deepEqual(strangers([], ["a~new"]), []);
});

test("a cluster was wiped when two looks, ten seconds apart, say the same", () => {
  const looks = new Looks();
  assert.deepEqual(looks.look(["cats"], 0), []);
  assert.deepEqual(looks.look(["cats", "dogs"], 9_999), []);
  assert.deepEqual(looks.look(["cats", "dogs"], 10_000), ["cats"]);
  assert.deepEqual(looks.look([], 12_000), []);
  assert.deepEqual(looks.look(["cats"], 20_000), []);
});
