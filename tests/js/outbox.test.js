import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";

import { Outbox } from "../../static/outbox.js";
import { FakeStorage } from "./storage.js";

/** Nodes that count what they are posted, once a key; what goes wrong is told them. */
class Nodes {
  /** @type {Map<string, string>} */
  counted = new Map();
  posts = 0;
  alive = true;
  /**
   * What comes of each post, the last for all others: a status, "lost" before or "unheard" after it is counted.
   * @type {(number | string)[]}
   */
  outcomes = [200];

  /**
   * @param {string} path
   * @param {any} [request]
   */
  fetch = async (path, request) => {
    if (path === "/healthz") {
      if (!this.alive) throw new TypeError("no network");
      return new Response("alive\n");
    }
    this.posts++;
    const outcome = this.outcomes.length > 1 ? this.outcomes.shift() : this.outcomes[0];
    if (outcome === "lost") throw new TypeError("no network");
    if (outcome === "login") return new Response("<h1>Welcome</h1>");
    if (typeof outcome === "number" && outcome >= 300) return new Response("{}", { status: outcome });
    const [{ video }] = JSON.parse(request.body);
    this.counted.set(request.headers["Idempotency-Key"], video);
    if (outcome === "unheard") throw new TypeError("no network");
    return new Response(JSON.stringify({ records: 1, visits: 1 }));
  };

  get videos() {
    return [...this.counted.values()];
  }
}

/** One browser: a storage, a clock and a lock, and pages that share them. */
class Browser {
  storage = new FakeStorage();
  nodes = new Nodes();
  now = 1_000_000;
  online = true;
  /** @type {string[]} */
  warnings = [];
  /** @type {{at: number, act: () => void}[]} */
  timers = [];
  #lock = Promise.resolve();

  open() {
    return new Outbox({
      storage: this.storage,
      fetch: this.nodes.fetch,
      alone: (act) => (this.#lock = this.#lock.then(act)),
      now: () => this.now,
      later: (act, ms) => {
        const timer = { at: this.now + ms, act };
        this.timers.push(timer);
        return timer;
      },
      cancel: (timer) => {
        this.timers = this.timers.filter((one) => one !== timer);
      },
      random: () => 0,
      online: () => this.online,
      warn: (line) => this.warnings.push(line),
    });
  }

  async settle() {
    for (let turns = 0; turns < 30; turns++) await turn();
  }

  /** @param {number} ms */
  async pass(ms) {
    const end = this.now + ms;
    for (;;) {
      await this.settle();
      const next = this.timers.sort((left, right) => left.at - right.at)[0];
      if (!next || next.at > end) break;
      this.now = next.at;
      this.timers.shift();
      next.act();
    }
    this.now = end;
  }
}

test("a visit is sent at once, counted once, and waits no longer", async () => {
  const browser = new Browser();
  const outbox = browser.open();
  let changes = 0;
  outbox.onchange = () => changes++;
  outbox.add("cats");
  assert.equal(outbox.waiting.length, 1);
  await browser.settle();
  assert.deepEqual(browser.nodes.videos, ["cats"]);
  assert.deepEqual(outbox.waiting, []);
  assert.equal(browser.storage.length, 0);
  assert.equal(changes, 2);
  assert.match([...browser.nodes.counted.keys()].join(), /^[0-9a-f]{32}$/);
});

test("without a network visits wait in their order, also for the next page, and each counts once", async () => {
  const browser = new Browser();
  browser.online = false;
  const outbox = browser.open();
  for (const video of ["cats", "dogs", "cats"]) {
    browser.now++;
    outbox.add(video);
  }
  await browser.pass(3_600_000);
  assert.equal(browser.nodes.posts, 0);
  browser.online = true;
  browser.open().send();
  await browser.settle();
  assert.deepEqual(browser.nodes.videos, ["cats", "dogs", "cats"]);
  assert.deepEqual(outbox.waiting, []);
});

test("a browser that only believes in a network sends no visit in vain, however long that lasts", async () => {
  const browser = new Browser();
  browser.nodes.alive = false;
  browser.open().add("cats");
  await browser.pass(3_600_000);
  assert.equal(browser.nodes.posts, 0);
  browser.nodes.alive = true;
  await browser.pass(10_000);
  assert.deepEqual(browser.nodes.videos, ["cats"]);
});

test("an answer that was not heard is asked for again, under the same key", async () => {
  const browser = new Browser();
  browser.nodes.outcomes = ["unheard", "lost", 504, 502, 500, "login", 503, 429, 408, 200];
  browser.open().add("cats");
  await browser.pass(60_000);
  assert.equal(browser.nodes.posts, 10);
  assert.deepEqual(browser.nodes.videos, ["cats"]);
  assert.equal(browser.storage.length, 0);
});

test("waits grow to 10 s, and a reason to try ends them", async () => {
  const browser = new Browser();
  browser.nodes.alive = false;
  const outbox = browser.open();
  outbox.add("cats");
  await browser.pass(120_000);
  assert.equal(browser.timers.length, 1);
  assert.ok(browser.timers.every(({ at }) => at - browser.now <= 10_000));
  browser.nodes.alive = true;
  outbox.send();
  await browser.settle();
  assert.deepEqual(browser.nodes.videos, ["cats"]);
  assert.equal(browser.timers.length, 0);
});

test("what may have been counted is not sent when no node would know its key any more", async () => {
  const browser = new Browser();
  browser.nodes.outcomes = ["unheard", 503];
  const outbox = browser.open();
  outbox.add("cats");
  await browser.pass(8 * 60_000);
  assert.equal(outbox.waiting.length, 1);
  await browser.pass(2 * 60_000);
  assert.deepEqual(outbox.waiting, []);
  assert.equal(browser.warnings.length, 1);
  assert.deepEqual(browser.nodes.videos, ["cats"]);
});

test("a page that dies while it sends leaves behind that it did", async () => {
  const browser = new Browser();
  const outbox = new Outbox({
    storage: browser.storage,
    fetch: (path) => (path === "/healthz" ? browser.nodes.fetch(path) : new Promise(() => {})),
    alone: (act) => act(),
    now: () => browser.now,
    online: () => true,
  });
  outbox.add("cats");
  await browser.settle();
  assert.equal(browser.open().waiting[0]?.asked, browser.now);
});

test("what was refused for certain can be sent for ever", async () => {
  const browser = new Browser();
  browser.nodes.outcomes = [503];
  const outbox = browser.open();
  outbox.add("cats");
  await browser.pass(30 * 60_000);
  assert.equal(outbox.waiting[0]?.asked, undefined);
  browser.nodes.outcomes = [200];
  await browser.pass(10_000);
  assert.deepEqual(browser.nodes.videos, ["cats"]);
});

test("what no node will ever take is given up, and holds up nobody", async () => {
  for (const status of [400, 403, 404, 413, 415, 422]) {
    const browser = new Browser();
    browser.nodes.outcomes = [status, 200];
    const outbox = browser.open();
    outbox.add("cats");
    browser.now++;
    outbox.add("dogs");
    await browser.pass(1000);
    assert.deepEqual(browser.nodes.videos, ["dogs"]);
    assert.equal(browser.warnings.length, 1);
  }
});

test("two tabs share what waits and send it once", async () => {
  const browser = new Browser();
  browser.online = false;
  const [one, other] = [browser.open(), browser.open()];
  for (let visit = 0; visit < 10; visit++) (visit % 2 ? one : other).add(`video-${visit}`);
  await browser.settle();
  assert.equal(one.waiting.length, 10);
  assert.deepEqual(one.waiting, other.waiting);
  browser.online = true;
  one.send();
  other.send();
  await browser.settle();
  assert.equal(browser.nodes.posts, 10);
  assert.equal(new Set(browser.nodes.videos).size, 10);
});

test("with no room in the storage a visit waits in its page, and junk in it is no visit", async () => {
  for (const wrong of /** @type {const} */ (["full", "denied"])) {
    const browser = new Browser();
    browser.storage[wrong] = true;
    browser.online = false;
    const outbox = browser.open();
    outbox.add("cats");
    await browser.settle();
    assert.equal(outbox.waiting.length, 1);
    browser.online = true;
    outbox.send();
    await browser.settle();
    assert.deepEqual(browser.nodes.videos, ["cats"]);
    assert.deepEqual(outbox.waiting, []);
  }
  const browser = new Browser();
  for (const [place, text] of ["", "null", "[]", '{"video":7}', "{"].entries()) {
    browser.storage.setItem(`visits.outbox:${place}`, text);
  }
  assert.deepEqual(browser.open().waiting, []);
});
