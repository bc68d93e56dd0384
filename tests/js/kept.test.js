import assert from "node:assert/strict";
import { test } from "node:test";

import { Kept } from "../../static/kept.js";
import { FakeStorage } from "./storage.js";

test("what was kept is there for the next page, joined by the larger count", () => {
  const storage = new FakeStorage();
  const kept = new Kept(storage);
  kept.merge("cats", { a: 3, b: 5 });
  kept.merge("cats", { a: 4, b: 1 });
  kept.raise("cats", 11);
  kept.raise("cats", 10);
  const next = new Kept(storage);
  assert.deepEqual(next.counts("cats"), { a: 4, b: 5 });
  assert.equal(next.floor("cats"), 11);
  assert.deepEqual(next.counts("dogs"), {});
  assert.deepEqual([...next.members()], ["a", "b"]);
});

test("two tabs write nothing of each other away", () => {
  const storage = new FakeStorage();
  const [one, other] = [new Kept(storage), new Kept(storage)];
  one.merge("cats", { a: 3 });
  other.merge("cats", { b: 2 });
  one.raise("cats", 9);
  other.raise("cats", 7);
  assert.deepEqual(one.counts("cats"), { a: 3, b: 2 });
  assert.equal(other.floor("cats"), 9);
});

test("turned off it forgets, keeps nothing, and stays off; turned on it keeps again", () => {
  const storage = new FakeStorage();
  const kept = new Kept(storage);
  kept.merge("off", { a: 3 });
  kept.turn(false);
  assert.deepEqual(kept.counts("off"), {});
  kept.merge("cats", { a: 3 });
  kept.raise("cats", 3);
  assert.equal(new Kept(storage).on, false);
  assert.equal(kept.floor("cats"), 0);
  kept.turn(true);
  assert.deepEqual(kept.counts("cats"), {});
  kept.merge("cats", { a: 3 });
  assert.deepEqual(new Kept(storage).counts("cats"), { a: 3 });
});

test("junk in the storage is as if nothing were kept", () => {
  const junk = ["", "null", "7", "[]", "{", '{"counts":7}', '{"counts":{"a":-1,"b":"x"},"floor":"many","seen":null}'];
  for (const text of junk) {
    const storage = new FakeStorage();
    storage.setItem("visits.kept:cats", text);
    const kept = new Kept(storage);
    assert.deepEqual(kept.counts("cats"), {}, text);
    assert.equal(kept.floor("cats"), 0, text);
    kept.merge("cats", { a: 1 });
    assert.deepEqual(kept.counts("cats"), { a: 1 }, text);
  }
});

test("without a storage, with a full one, and with one that is denied, a page works without", () => {
  const [full, denied] = [new FakeStorage(), new FakeStorage()];
  full.full = denied.denied = true;
  for (const storage of [null, full, denied]) {
    const kept = new Kept(storage);
    kept.merge("cats", { a: 1 });
    kept.raise("cats", 1);
    kept.turn(false);
    kept.forget();
    assert.deepEqual(kept.counts("cats"), {});
    assert.equal(kept.floor("cats"), 0);
  }
});

test("the 200 videos that grew last are kept", () => {
  const storage = new FakeStorage();
  let now = 0;
  const kept = new Kept(storage, () => ++now);
  for (let video = 0; video < 250; video++) kept.merge(`video-${video}`, { a: 1 });
  kept.merge("video-0", { a: 2 });
  const next = new Kept(storage);
  assert.equal(storage.length, 200);
  assert.deepEqual(next.counts("video-0"), { a: 2 });
  assert.deepEqual(next.counts("video-50"), {});
  assert.deepEqual(next.counts("video-51"), { a: 1 });
});

test("ids that mean something to a language are kept like others", () => {
  const kept = new Kept(new FakeStorage());
  for (const video of ["__proto__", "constructor", "off"]) {
    kept.merge(video, { ["__proto__"]: 2 });
    assert.equal(Object.entries(kept.counts(video)).length, 1, video);
  }
});
