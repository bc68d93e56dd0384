import assert from "node:assert/strict";
import { test } from "node:test";

import { Kept, Looks, strangers } from "../../static/kept.js";
import { FullStorage, MapStorage } from "./storage.js";

test("what is kept is there again, and grows by merging", () => {
  const storage = new MapStorage();
  new Kept(storage).merge("cats", { "a~1": 3, "b~2": 1 });
  const kept = new Kept(storage);
  kept.merge("cats", { "a~1": 2, "b~2": 5 });
  assert.deepEqual(new Kept(storage).counts("cats"), { "a~1": 3, "b~2": 5 });
  assert.deepEqual(kept.counts("dogs"), {});
});

test("two tabs add to one another", () => {
  const storage = new MapStorage();
  const [one, other] = [new Kept(storage), new Kept(storage)];
  one.merge("cats", { "a~1": 1 });
  other.merge("cats", { "a~1": 1, "b~2": 4 });
  one.merge("cats", { "a~1": 2 });
  one.raise("cats", 8);
  other.raise("cats", 7);
  assert.deepEqual(other.counts("cats"), { "a~1": 2, "b~2": 4 });
  assert.equal(other.floor("cats"), 8);
});

test("the switch forgets, and nothing is kept while it is off", () => {
  const storage = new MapStorage();
  const kept = new Kept(storage);
  kept.merge("off", { "a~1": 1 });
  assert.ok(kept.on);
  kept.turn(false);
  kept.merge("off", { "a~1": 2 });
  kept.raise("off", 9);
  assert.ok(!new Kept(storage).on);
  assert.deepEqual([kept.counts("off"), kept.floor("off")], [{}, 0]);
  kept.turn(true);
  kept.merge("off", { "a~1": 2 });
  assert.deepEqual(kept.counts("off"), { "a~1": 2 });
});

test("junk in the storage is as if nothing was there", () => {
  for (const junk of ["", "{", "null", "7", '"x"', "[]", '{"counts":null,"floor":0,"at":1}', '{"counts":{"a":-1}}']) {
    const storage = new MapStorage({ "visits.kept.cats": junk });
    const kept = new Kept(storage);
    assert.deepEqual(kept.counts("cats"), {});
    assert.equal(kept.floor("cats"), 0);
    kept.merge("cats", { "a~1": 2 });
    assert.deepEqual(kept.counts("cats"), { "a~1": 2 }, junk);
  }
});

test("a storage that is full, denied or absent keeps nothing and breaks nothing", () => {
  for (const storage of [new FullStorage(), null]) {
    const kept = new Kept(storage);
    kept.merge("cats", { "a~1": 1 });
    kept.raise("cats", 3);
    kept.lower("cats");
    kept.turn(false);
    kept.turn(true);
    kept.forget();
    assert.deepEqual([kept.counts("cats"), kept.floor("cats"), kept.items()], [{}, 0, []]);
  }
});

test("the newest 200 videos are kept", () => {
  let now = 0;
  const kept = new Kept(new MapStorage(), () => now);
  for (now = 1; now <= 250; now++) {
    kept.merge(`video${now}`, { "a~1": 1 });
    kept.merge("video1", { "a~1": now });
  }
  const videos = kept.items().map(([video]) => video);
  assert.equal(videos.length, 200);
  assert.ok(videos.includes("video1") && videos.includes("video250") && !videos.includes("video51"));
});

test("a floor is lowered when a visit is given up", () => {
  const kept = new Kept(new MapStorage());
  kept.merge("cats", { "a~1": 1 });
  kept.raise("cats", 2);
  kept.lower("cats");
  assert.deepEqual([kept.floor("cats"), kept.counts("cats")], [0, { "a~1": 1 }]);
});

test("counts of two clusters do not become one counter", () => {
  const kept = new Kept(new MapStorage());
  kept.merge("cats", { "a~old": 9 });
  kept.merge("cats", { "a~new": 1 });
  assert.deepEqual(kept.counts("cats"), { "a~old": 9 });
});

test("strangers are those from before the cluster that answers", () => {
  let now = 0;
  const kept = new Kept(new MapStorage(), () => ++now);
  kept.raise("waiting", 1);
  kept.merge("cats", { "a~old": 9 });
  kept.merge("dogs", { "b~old": 2 });
  kept.merge("birds", { "a~new": 1 });
  kept.raise("fish", 1);
  assert.deepEqual(strangers(kept.items(), ["a~new", "b~new"]), ["waiting", "cats", "dogs"]);
  // One of old is known: a part of the cluster was lost, or is out of reach, and it is the same cluster.
  assert.deepEqual(strangers(kept.items(), ["a~old", "b~new"]), []);
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
