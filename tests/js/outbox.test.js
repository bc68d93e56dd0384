import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { test } from "node:test";

import { Outbox, uuid } from "../../static/outbox.js";
import { FullStorage, MapStorage } from "./storage.js";

const MINUTE = 60_000;

/** Tabs of one browser, and a node that counts each key once. */
class World {
  now = 1000;
  online = true;
  storage = new MapStorage();
  /** @type {{act: () => void, at: number}[]} */
  timers = [];
  /** @type {string[]} */
  posted = [];
  /** @type {string[]} */
  warnings = [];
  /** @type {string[]} */
  ended = [];
  /** @type {Map<string, string>} */
  counted = new Map();
  /** @type {Map<string, string>} why visits of videos do not count */
  reasons = new Map();
  /** @type {(number | "lost" | "lost after")[]} what becomes of the next requests */
  answers = [];
  alive = true;
  serial = 0;
  page = Object.assign(new EventTarget(), { visibilityState: "visible" });
  frame = new EventTarget();
  /** @type {Promise<unknown>} */
  held = Promise.resolve();

  locks = {
    /** @param {string} _ @param {() => Promise<void>} act */
    request: (_, act) => (this.held = this.held.then(act)),
  };

  /** @param {object} surroundings */
  tab(surroundings = {}) {
    return new Outbox({
      storage: this.storage,
      fetch: (address, options) => this.fetch(address, options),
      locks: this.locks,
      now: () => this.now,
      random: () => 0,
      mint: () => `key-${++this.serial}`,
      later: (act, ms) => this.timers.push({ act, at: this.now + ms }),
      cancel: () => {},
      frame: this.frame,
      page: this.page,
      online: () => this.online,
      warn: (text) => this.warnings.push(text),
      onended: (video) => this.ended.push(video),
      ...surroundings,
    });
  }

  /** @param {string} address @param {RequestInit} options */
  async fetch(address, options) {
    await setImmediate();
    if (!this.alive) throw new TypeError("refused");
    if (address === "/healthz") return new Response("alive\n");
    assert.equal(address, "/visits?own&detail");
    const key = String(/** @type {Record<string, string>} */ (options.headers)["Idempotency-Key"]);
    this.posted.push(key);
    const answer = this.answers.shift() ?? 200;
    if (answer === "lost") throw new TypeError("lost");
    const { video } = JSON.parse(String(options.body))[0];
    const reason = this.reasons.get(video);
    if ((answer === 200 || answer === "lost after") && !reason) this.counted.set(key, video);
    if (answer === "lost after") throw new TypeError("lost");
    const results = [reason ? { counted: false, reason } : { counted: true }];
    return new Response(JSON.stringify({ results }), { status: answer, headers: { "Content-Type": "application/json" } });
  }

  async settle() {
    for (let turn = 0; turn < 60; turn++) await setImmediate();
  }

  /** @param {number} ms */
  async pass(ms) {
    await this.settle();
    const end = this.now + ms;
    for (;;) {
      const due = this.timers.filter(({ at }) => at <= end).sort((left, right) => left.at - right.at)[0];
      if (!due) break;
      this.timers.splice(this.timers.indexOf(due), 1);
      this.now = due.at;
      due.act();
      await this.settle();
    }
    this.now = end;
  }
}

test("a visit is sent under its key, and removed when it is acknowledged", async () => {
  const world = new World();
  const outbox = world.tab();
  outbox.add("cats");
  assert.equal(outbox.waiting.length, 1);
  assert.equal(outbox.uncounted("cats"), 1);
  await world.settle();
  assert.deepEqual([...world.counted], [["key-2", "cats"]]);
  assert.equal(outbox.waiting.length, 0);
  assert.equal(outbox.uncounted("cats"), 0);
  assert.deepEqual(Object.keys(world.storage), []);
});

test("visits made without a network are sent once each when it is back", async () => {
  const world = new World();
  world.online = false;
  const outbox = world.tab();
  outbox.start();
  for (const video of ["cats", "dogs", "cats"]) outbox.add(video);
  await world.pass(MINUTE);
  assert.deepEqual([world.posted.length, outbox.uncounted("cats"), outbox.waiting.length], [0, 2, 3]);
  world.online = true;
  world.frame.dispatchEvent(new Event("online"));
  await world.settle();
  assert.deepEqual([...world.counted.values()], ["cats", "dogs", "cats"]);
  assert.equal(world.posted.length, 3);
});

test("a visit without an answer is sent again under the same key, and counted once", async () => {
  for (const fault of /** @type {const} */ (["lost", "lost after", 500, 502, 503, 504, 408, 425, 429, 404])) {
    const world = new World();
    const outbox = world.tab();
    world.answers = [fault, fault];
    outbox.add("cats");
    await world.pass(MINUTE);
    assert.deepEqual(world.posted, ["key-2", "key-2", "key-2"], String(fault));
    assert.deepEqual([...world.counted.values()], ["cats"]);
    assert.deepEqual([outbox.waiting, world.ended], [[], []]);
  }
});

test("a visit that a node refuses is given up with a warning, and blocks no other", async () => {
  for (const status of [400, 409, 413, 415, 422]) {
    const world = new World();
    world.online = false;
    const outbox = world.tab();
    outbox.add("bad");
    outbox.add("good");
    world.online = true;
    world.answers = [status];
    await outbox.send();
    assert.deepEqual([...world.counted.values()], ["good"]);
    assert.deepEqual([world.ended, world.warnings.length], [["bad"], 1]);
  }
});

test("a visit of a video that nobody announced is given up, and not for the 404 of another server", async () => {
  for (const [type, ended] of /** @type {const} */ ([
    ["application/problem+json", ["cats"]],
    ["text/html", []],
  ])) {
    const world = new World();
    const headers = { "Content-Type": type };
    const missing = async (/** @type {RequestInfo | URL} */ address) =>
      address === "/healthz" ? new Response() : new Response("{}", { status: 404, headers });
    const outbox = world.tab({ fetch: missing });
    outbox.add("cats");
    await world.settle();
    assert.deepEqual(world.ended, ended);
    assert.equal(outbox.waiting.length, 1 - ended.length);
  }
});

test("too many new videos hold up no visit of a known one", async () => {
  const world = new World();
  world.online = false;
  const outbox = world.tab();
  outbox.add("new");
  outbox.add("known");
  world.online = true;
  world.answers = [429];
  await outbox.send();
  assert.deepEqual([...world.counted.values()], ["known"]);
  assert.deepEqual([world.ended, outbox.waiting.length], [[], 1]);
});

test("an unexpected answer blocks no other visit", async () => {
  const world = new World();
  world.online = false;
  const outbox = world.tab();
  outbox.add("cats");
  outbox.add("dogs");
  world.online = true;
  world.answers = [404];
  await outbox.send();
  assert.deepEqual([...world.counted.values()], ["dogs"]);
});

test("the answer of a captive portal does not acknowledge a visit", async () => {
  const world = new World();
  const outbox = world.tab({ fetch: async () => new Response("<h1>Sign in</h1>") });
  outbox.add("cats");
  await world.settle();
  assert.equal(outbox.waiting.length, 1);
});

test("while no node can be reached, visits are certainly not counted", async () => {
  const world = new World();
  world.alive = false;
  const outbox = world.tab();
  outbox.add("cats");
  await world.pass(30 * MINUTE);
  assert.equal(outbox.uncounted("cats"), 1);
  world.alive = true;
  await world.pass(MINUTE);
  assert.equal(world.counted.size, 1);
});

test("after 503 a visit is certainly not counted, after 504 it may be", async () => {
  for (const [status, uncounted] of [[503, 1], [504, 0]]) {
    const world = new World();
    const outbox = world.tab();
    world.answers = [Number(status)];
    outbox.add("cats");
    await world.settle();
    assert.equal(outbox.uncounted("cats"), uncounted);
    assert.equal(outbox.waiting[0]?.tried, uncounted ? undefined : 1000);
  }
});

test("a visit that may be counted is not sent again once nodes may have forgotten its key", async () => {
  for (const [minutes, sent] of [[8, 2], [9.5, 1]]) {
    const world = new World();
    const outbox = world.tab();
    world.answers = ["lost after"];
    outbox.add("cats");
    await world.settle();
    world.now += Number(minutes) * MINUTE;
    await outbox.send();
    assert.equal(world.posted.length, sent);
    assert.equal(world.counted.size, 1);
    assert.deepEqual(world.ended, sent === 1 ? ["cats"] : []);
    assert.equal(outbox.waiting.length, 0);
  }
});

test("waits grow, to ten seconds at most, and there is one timer", async () => {
  const world = new World();
  world.alive = false;
  /** @type {number[]} */
  const waits = [];
  const outbox = world.tab({
    cancel: (/** @type {number} */ length) => length && world.timers.splice(length - 1, 1),
    later: (/** @type {() => void} */ act, /** @type {number} */ ms) => {
      waits.push(ms);
      return world.timers.push({ act, at: world.now + ms });
    },
  });
  outbox.add("cats");
  await world.settle();
  outbox.add("dogs");
  await world.pass(MINUTE);
  assert.equal(world.timers.length, 1);
  assert.deepEqual(waits.slice(0, 4), [250, 500, 1000, 2000]);
  assert.equal(Math.max(...waits), 10_000);
});

for (const way of ["locks", "a lease"]) {
  test(`two tabs with ${way} send each visit once`, async () => {
    const world = new World();
    world.online = false;
    const around = way === "locks" ? {} : { locks: undefined };
    const tabs = [world.tab(around), world.tab(around)];
    for (let visit = 0; visit < 10; visit++) tabs[visit % 2]?.add("cats");
    world.online = true;
    for (const tab of tabs) void tab.send();
    await world.pass(MINUTE);
    assert.equal(world.posted.length, 10);
    assert.equal(world.counted.size, 10);
    assert.deepEqual(Object.keys(world.storage), []);
  });
}

test("the lease of a tab that was closed expires", async () => {
  const world = new World();
  world.storage.setItem("visits.outbox-lease", JSON.stringify({ tab: "gone", until: world.now + 20_000 }));
  const outbox = world.tab({ locks: undefined });
  outbox.add("cats");
  await world.pass(10_000);
  assert.equal(world.posted.length, 0);
  await world.pass(30_000);
  assert.equal(world.counted.size, 1);
});

test("a visit of a tab that was closed is sent by the next", async () => {
  const world = new World();
  world.alive = false;
  world.tab().add("cats");
  await world.settle();
  world.alive = true;
  world.tab().start();
  await world.settle();
  assert.deepEqual([...world.counted.values()], ["cats"]);
});

test("visits of another tab are noticed and sent at once", async () => {
  const world = new World();
  let changes = 0;
  const outbox = world.tab({ onchange: () => changes++ });
  outbox.start();
  const text = JSON.stringify({ video: "cats", made: 1 });
  world.storage.setItem("visits.outbox.other", text);
  const made = { key: "visits.outbox.other", oldValue: null, newValue: text };
  world.frame.dispatchEvent(Object.assign(new Event("storage"), made));
  await world.settle();
  assert.equal(world.counted.get("other"), "cats");
  assert.equal(changes, 2);
});

test("a page that is visible again tries at once", async () => {
  const world = new World();
  world.alive = false;
  const outbox = world.tab();
  outbox.start();
  outbox.add("cats");
  await world.settle();
  world.alive = true;
  world.page.dispatchEvent(new Event("visibilitychange"));
  await world.settle();
  assert.equal(world.counted.size, 1);
});

test("an invalid item in the storage is not a visit, and is removed", async () => {
  const world = new World();
  for (const junk of ["", "{", "null", "7", "[]", '{"video":7,"made":1}', '{"video":"x","made":"y"}']) {
    world.storage.setItem(`visits.outbox.${junk}`, junk);
  }
  const outbox = world.tab();
  outbox.start();
  await world.settle();
  assert.deepEqual([outbox.waiting, Object.keys(world.storage), world.posted], [[], [], []]);
});

test("visits are sent even if the storage is absent or full", async () => {
  for (const storage of [null, new FullStorage()]) {
    const world = new World();
    const outbox = world.tab({ storage });
    world.answers = ["lost"];
    outbox.add("cats");
    assert.equal(outbox.waiting.length, 1);
    await world.pass(MINUTE);
    assert.equal(world.counted.size, 1);
    assert.equal(world.posted.length, 2);
    assert.equal(outbox.waiting.length, 0);
  }
});

test("a visit that does not count is told of once, in every tab, and by whose it is", async () => {
  for (const reason of ["bot", "repeat", "blocked"]) {
    const world = new World();
    world.reasons.set("cats", reason);
    world.online = false;
    /** @type {Record<string, unknown[]>} */
    const told = { maker: [], sender: [] };
    const tabs = ["maker", "sender"].map((name) => {
      // Each tab has its own events: they come from the storage of the others.
      const frame = new EventTarget();
      const onuncounted = (/** @type {unknown} */ uncounted) => told[name]?.push(uncounted);
      return { name, frame, outbox: world.tab({ frame, onuncounted }) };
    });
    for (const { outbox } of tabs) outbox.start();
    const [maker, sender] = tabs;
    assert.ok(maker && sender);
    maker.outbox.add("cats");
    maker.outbox.add("dogs");
    /** @type {[string, string | null][]} */
    const changes = [];
    const { storage } = world;
    const keep = storage.setItem.bind(storage);
    Object.defineProperty(storage, "setItem", {
      value: (/** @type {string} */ place, /** @type {string} */ text) => (changes.push([place, text]), keep(place, text)),
    });
    const drop = storage.removeItem.bind(storage);
    Object.defineProperty(storage, "removeItem", {
      value: (/** @type {string} */ place) => (changes.push([place, null]), drop(place)),
    });
    world.online = true;
    await sender.outbox.send();
    // The tab that made the visits looks before it hears.
    assert.equal(maker.outbox.uncounted("cats"), 0);
    for (const [key, newValue] of changes) {
      maker.frame.dispatchEvent(Object.assign(new Event("storage"), { key, oldValue: "{}", newValue }));
    }
    await world.settle();
    assert.deepEqual(told.sender, [{ video: "cats", own: false, here: true }]);
    assert.deepEqual(told.maker, [{ video: "cats", own: true, here: false }]);
    assert.deepEqual([[...world.counted.values()], world.posted.length, world.ended], [["dogs"], 2, []]);
    assert.deepEqual(Object.keys(storage), []);
  }
});

test("a page of the version before drops its number where a visit does not count", async () => {
  const world = new World();
  world.reasons.set("cats", "repeat");
  world.tab().add("cats");
  await world.settle();
  assert.deepEqual(world.ended, ["cats"]);
});

test("keys are UUIDs of version 4", () => {
  const keys = Array.from({ length: 100 }, uuid);
  for (const key of keys) assert.match(key, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(new Set(keys).size, 100);
});
