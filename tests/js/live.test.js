import assert from "node:assert/strict";
import { test } from "node:test";

import { Live, backoff, liveAddress } from "../../static/live.js";

/** A clock that the test moves. */
class Clock {
  now = 0;
  /** @type {Map<number, {at: number, act: () => void}>} */
  timers = new Map();
  next = 1;

  /** @type {(act: () => void, ms: number) => number} */
  later = (act, ms) => {
    this.timers.set(this.next, { at: this.now + ms, act });
    return this.next++;
  };

  /** @param {number} timer */
  cancel = (timer) => void this.timers.delete(timer);

  /** @param {number} ms */
  pass(ms) {
    const end = this.now + ms;
    for (;;) {
      const due = [...this.timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.timers.delete(due[0]);
      this.now = due[1].at;
      due[1].act();
    }
    this.now = end;
  }
}

/** A socket, or a stream of events, whose other end is the test. */
class Socket {
  /** @type {((event?: any) => void) | null} */
  onopen = null;
  /** @type {((event: any) => void) | null} */
  onmessage = null;
  /** @type {((event: any) => void) | null} */
  onclose = null;
  /** @type {((event: any) => void) | null} */
  onerror = null;
  closed = false;

  /** @param {string} address */
  constructor(address) {
    this.address = address;
  }

  close() {
    this.closed = true;
  }

  /** @param {unknown} message */
  tell(message) {
    this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }

  /** @param {number} code */
  end(code = 1006) {
    this.closed = true;
    this.onclose?.({ code });
  }

  /** The end of a stream of events, or a refused handshake. */
  fail() {
    this.onerror?.(new Event("error"));
    this.end();
  }
}

const ADDRESS = "ws://node/live/cats";
const EVENTS = "http://node/live/cats";
const CATS = { video: "cats", visits: 8, node: "counter1", counts: { "counter1~a": 7, "counter2~b": 1 } };

/** A connection in a browser that the test controls. */
function start({ hidden = false, online = true, answering = true } = {}) {
  const clock = new Clock();
  /** @type {Socket[]} */
  const sockets = [];
  /** @type {Socket[]} */
  const streams = [];
  /** @type {string[]} */
  const asked = [];
  const node = { answers: answering };
  /** @type {string[]} */
  const states = [];
  /** @type {unknown[]} */
  const received = [];
  const page = Object.assign(new EventTarget(), { visibilityState: hidden ? "hidden" : "visible" });
  const frame = new EventTarget();
  const live = new Live(
    (counter) => received.push(counter),
    (state) => states.push(state),
    {
      open: (address) => sockets[sockets.push(new Socket(address)) - 1] ?? assert.fail(),
      listen: (address) => streams[streams.push(new Socket(address)) - 1] ?? assert.fail(),
      answers: (address) => {
        asked.push(address);
        return Promise.resolve(node.answers);
      },
      later: clock.later,
      cancel: clock.cancel,
      delay: backoff(() => 0),
      page,
      frame,
      online: () => online,
    },
  );
  live.watch(ADDRESS);
  return {
    clock,
    sockets,
    streams,
    asked,
    node,
    states,
    received,
    live,
    frame,
    /** @param {"visible" | "hidden"} visibility */
    turn(visibility) {
      page.visibilityState = visibility;
      page.dispatchEvent(new Event("visibilitychange"));
    },
    /** The newest socket. */
    get socket() {
      return sockets.at(-1) ?? assert.fail("no socket was opened");
    },
    /** The newest stream of events. */
    get stream() {
      return streams.at(-1) ?? assert.fail("no stream was opened");
    },
    /** Something between the page and the node refuses the handshake, and the page looks for the cause. */
    async refuse() {
      this.socket.fail();
      await heard();
    },
    /** Everything that is open now. */
    get open() {
      return sockets.filter((socket) => !socket.closed);
    },
    get state() {
      return states.at(-1);
    },
  };
}

/** Wait until answers have arrived. */
function heard() {
  return new Promise((resolve) => setImmediate(resolve));
}

test("the address follows the page: ws beside http, wss beside https", () => {
  assert.equal(liveAddress("cats", { protocol: "http:", host: "localhost:1234" }), "ws://localhost:1234/live/cats");
  assert.equal(liveAddress("cats", { protocol: "https:", host: "video.example" }), "wss://video.example/live/cats");
});

test("ids are encoded, and a list of them makes one address", () => {
  const place = { protocol: "http:", host: "node" };
  assert.equal(liveAddress("a/b c", place), "ws://node/live/a%2Fb%20c");
  assert.equal(liveAddress(["A.b_c~d-0", "x&y"], place), "ws://node/live?video=A.b_c~d-0&video=x%26y");
  assert.equal(liveAddress(["cats"], place), "ws://node/live?video=cats");
});

test("waits grow from at most 200 ms to at most 2 s, and jitter takes up to half of them away", () => {
  const longest = backoff(() => 0);
  const shortest = backoff(() => 1);
  assert.deepEqual([0, 1, 2, 3, 4, 5, 5000].map(longest), [200, 400, 800, 1600, 2000, 2000, 2000]);
  assert.deepEqual([0, 1, 2, 3, 4, 5, 5000].map(shortest), [100, 200, 400, 800, 1000, 1000, 1000]);
});

test("a connection is connecting, then live, and passes counters on", () => {
  const page = start();
  assert.equal(page.socket.address, ADDRESS);
  page.socket.onopen?.();
  page.socket.tell(CATS);
  assert.deepEqual(page.states, ["connecting", "live"]);
  assert.deepEqual(page.received, [CATS]);
});

test("messages that are not counters are ignored, and the connection goes on", () => {
  const page = start();
  page.socket.onopen?.();
  for (const junk of ["", "{", "null", "7", '"cats"', "[]", "{}", '{"video":"cats"}', '{"video":1,"counts":{}}']) {
    page.socket.tell(junk);
  }
  page.socket.tell('{"video":"cats","counts":null}');
  assert.deepEqual(page.received, []);
  page.socket.tell(CATS);
  assert.deepEqual(page.received, [CATS]);
  assert.equal(page.state, "live");
});

test("a lost connection comes back", () => {
  const page = start();
  page.socket.onopen?.();
  page.socket.tell(CATS);
  page.socket.end();
  assert.equal(page.state, "reconnecting");
  assert.equal(page.sockets.length, 1);
  page.clock.pass(200);
  assert.equal(page.sockets.length, 2);
  page.socket.onopen?.();
  assert.equal(page.state, "live");
});

test("failing tries slow down to one every two seconds, and never end", () => {
  const page = start();
  /** @type {number[]} */
  const waits = [];
  for (let round = 0; round < 8; round++) {
    const from = page.clock.now;
    const before = page.sockets.length;
    page.socket.end();
    while (page.sockets.length === before) page.clock.pass(100);
    waits.push(page.clock.now - from);
  }
  assert.deepEqual(waits, [200, 400, 800, 1600, 2000, 2000, 2000, 2000]);
});

test("after many tries the page says that it is offline, and still reconnects", () => {
  const page = start();
  for (let tries = 0; tries < 5; tries++) {
    page.socket.end();
    assert.equal(page.state, "reconnecting");
    page.clock.pass(2000);
  }
  page.socket.end();
  assert.equal(page.state, "offline");
  page.clock.pass(2000);
  page.socket.onopen?.();
  assert.equal(page.state, "live");
});

test("without a network the second failure is called offline", () => {
  const page = start({ online: false });
  page.socket.end();
  assert.equal(page.state, "reconnecting");
  page.clock.pass(200);
  page.socket.end();
  assert.equal(page.state, "offline");
});

test("a counter, not an open socket, makes the waits short again", () => {
  const page = start();
  for (let tries = 0; tries < 4; tries++) {
    page.socket.onopen?.();
    page.socket.end();
    page.clock.pass(2000);
  }
  page.socket.onopen?.();
  page.socket.end();
  page.clock.pass(1999);
  assert.equal(page.sockets.length, 5);
  page.clock.pass(1);
  page.socket.tell(CATS);
  page.socket.end();
  page.clock.pass(200);
  assert.equal(page.sockets.length, 7);
});

test("after a node leaves (1001) the next one is asked within 200 ms, whatever went before", () => {
  const page = start();
  for (let tries = 0; tries < 6; tries++) {
    page.socket.end();
    page.clock.pass(2000);
  }
  const before = page.sockets.length;
  page.socket.end(1001);
  page.clock.pass(200);
  assert.equal(page.sockets.length, before + 1);
});

test("a try that hears nothing for five seconds is given up", () => {
  const page = start();
  page.clock.pass(4999);
  assert.equal(page.sockets.length, 1);
  page.clock.pass(1);
  assert.equal(page.open.length, 0);
  assert.equal(page.state, "reconnecting");
  page.clock.pass(200);
  assert.equal(page.open.length, 1);
});

test("an open connection may be silent for hours", () => {
  const page = start();
  page.socket.onopen?.();
  page.clock.pass(10_000_000);
  assert.equal(page.sockets.length, 1);
  assert.equal(page.state, "live");
});

test("a hidden page does not reconnect, and does at once when it is visible again", () => {
  const page = start();
  page.socket.onopen?.();
  page.turn("hidden");
  assert.equal(page.open.length, 1, "a page does not hang up when it is hidden");
  page.socket.end();
  page.clock.pass(3_600_000);
  assert.equal(page.sockets.length, 1);
  page.turn("visible");
  assert.equal(page.sockets.length, 2);
});

test("a page that is hidden between two tries waits until it is visible", () => {
  const page = start();
  page.socket.end();
  page.turn("hidden");
  page.clock.pass(60_000);
  assert.equal(page.sockets.length, 1);
  page.turn("visible");
  page.clock.pass(60_000 - 55_001);
  assert.equal(page.sockets.length, 2, "and then tries once, not twice");
});

test("a page opened in the background connects when it is first visible", () => {
  const page = start({ hidden: true });
  assert.equal(page.sockets.length, 0);
  assert.equal(page.state, "connecting");
  page.turn("visible");
  assert.equal(page.sockets.length, 1);
});

test("a page that is visible again keeps its open connection", () => {
  const page = start();
  page.socket.onopen?.();
  page.turn("hidden");
  page.turn("visible");
  assert.equal(page.sockets.length, 1);
});

test("when the network returns a page does not wait for its next try", () => {
  const page = start();
  page.socket.end();
  page.frame.dispatchEvent(new Event("online"));
  assert.equal(page.sockets.length, 2);
  page.clock.pass(4000);
  assert.equal(page.sockets.length, 2, "and the planned try is cancelled");
});

test("when the network returns an old connection is replaced, because it may be dead", () => {
  const page = start();
  page.socket.onopen?.();
  page.frame.dispatchEvent(new Event("online"));
  assert.equal(page.sockets.length, 2);
  assert.deepEqual(page.open, [page.socket]);
});

test("a page kept for the back button hangs up, and reconnects once when it is restored", () => {
  const page = start();
  page.socket.onopen?.();
  page.frame.dispatchEvent(new Event("pagehide"));
  page.turn("hidden");
  assert.equal(page.open.length, 0);
  assert.equal(page.state, "reconnecting");
  page.clock.pass(60_000);
  assert.equal(page.sockets.length, 1);
  page.turn("visible");
  page.frame.dispatchEvent(new Event("pageshow"));
  assert.equal(page.sockets.length, 2);
});

test("messages of an old socket are ignored", () => {
  const page = start();
  const old = page.socket;
  page.frame.dispatchEvent(new Event("online"));
  old.tell(CATS);
  old.end();
  page.clock.pass(3000);
  assert.deepEqual(page.received, []);
  assert.equal(page.sockets.length, 2);
  assert.equal(page.state, "connecting");
});

test("a socket that is opening may finish, and is then replaced by one to the newest address", () => {
  const page = start();
  const first = page.socket;
  page.live.watch("ws://node/live/dogs");
  page.live.watch("ws://node/live/mice");
  assert.deepEqual(page.open, [first]);
  first.onopen?.();
  assert.deepEqual(
    page.open.map(({ address }) => address),
    ["ws://node/live/mice"],
  );
  assert.equal(page.state, "connecting");
  page.live.watch("ws://node/live/dogs");
  page.clock.pass(5000);
  page.clock.pass(200);
  assert.deepEqual(
    page.open.map(({ address }) => address),
    ["ws://node/live/dogs"],
  );
});

test("another address replaces the socket, the same address keeps it, an empty one hangs up", () => {
  const page = start();
  page.socket.onopen?.();
  page.live.watch(ADDRESS);
  assert.equal(page.sockets.length, 1);
  page.live.watch("ws://node/live?video=dogs");
  assert.equal(page.socket.address, "ws://node/live?video=dogs");
  assert.equal(page.open.length, 1);
  page.live.watch("");
  page.clock.pass(60_000);
  assert.equal(page.open.length, 0);
  assert.equal(page.sockets.length, 2);
});

test("after two refused handshakes, while the node answers, the same counters come as events", async () => {
  const page = start();
  await page.refuse();
  assert.equal(page.streams.length, 0, "one refusal is not enough");
  page.clock.pass(200);
  assert.equal(page.sockets.length, 2);
  await page.refuse();
  assert.deepEqual(page.asked, [EVENTS, EVENTS]);
  assert.equal(page.stream.address, EVENTS);
  page.clock.pass(4999);
  page.stream.onopen?.();
  page.stream.tell("junk");
  page.stream.tell(CATS);
  assert.deepEqual(page.states, ["connecting", "reconnecting", "reconnecting", "live"]);
  assert.deepEqual(page.received, [CATS]);
  page.clock.pass(10_000_000);
  assert.equal(page.sockets.length, 2, "no more sockets are tried");
  assert.equal(page.streams.length, 1);
});

test("events come from https where the socket was wss, with several videos on one stream", async () => {
  const page = start();
  page.live.watch("wss://node/live?video=ws&video=x");
  await page.refuse();
  page.clock.pass(200);
  await page.refuse();
  assert.equal(page.stream.address, "https://node/live?video=ws&video=x");
});

test("a handshake without an answer counts as refused", async () => {
  const page = start();
  page.clock.pass(5000);
  await heard();
  page.clock.pass(200 + 5000);
  await heard();
  assert.equal(page.streams.length, 1);
  assert.equal(page.open.length, 0);
});

test("a node that does not answer at all has refused nothing", async () => {
  const page = start({ answering: false });
  for (let tries = 0; tries < 10; tries++) {
    await page.refuse();
    page.clock.pass(2000);
  }
  assert.equal(page.sockets.length, 11);
  assert.equal(page.streams.length, 0);
});

test("two refusals count only if no socket opens between them", async () => {
  const page = start();
  await page.refuse();
  page.node.answers = false;
  page.clock.pass(200);
  await page.refuse();
  page.node.answers = true;
  page.clock.pass(400);
  await page.refuse();
  page.clock.pass(800);
  page.socket.onopen?.();
  page.socket.end();
  await heard();
  page.clock.pass(2000);
  await page.refuse();
  assert.equal(page.streams.length, 0);
  page.clock.pass(2000);
  await page.refuse();
  assert.equal(page.streams.length, 1);
});

test("the loss of an open socket does not count as a refusal", async () => {
  const page = start();
  for (let losses = 0; losses < 5; losses++) {
    page.socket.onopen?.();
    page.socket.tell(CATS);
    page.socket.end();
    await heard();
    page.clock.pass(2000);
  }
  assert.deepEqual(page.asked, []);
  assert.equal(page.streams.length, 0);
});

test("an answer that comes after a socket has opened changes nothing", async () => {
  const page = start();
  await page.refuse();
  page.clock.pass(200);
  page.socket.fail();
  page.frame.dispatchEvent(new Event("online"));
  page.socket.onopen?.();
  await heard();
  assert.equal(page.streams.length, 0);
  assert.equal(page.state, "live");
});

/** A page that uses events. */
async function startByEvents() {
  const page = start();
  await page.refuse();
  page.clock.pass(200);
  await page.refuse();
  page.stream.onopen?.();
  page.stream.tell(CATS);
  return page;
}

test("a lost stream reconnects as a lost socket does, and the page shows the loss", async () => {
  const page = await startByEvents();
  /** @type {number[]} */
  const waits = [];
  for (let round = 0; round < 7; round++) {
    const from = page.clock.now;
    const before = page.streams.length;
    page.stream.fail();
    assert.ok(page.streams.every((stream) => stream.closed), "none reconnects by itself");
    assert.equal(page.state, round < 5 ? "reconnecting" : "offline");
    while (page.streams.length === before) page.clock.pass(100);
    waits.push(page.clock.now - from);
  }
  assert.deepEqual(waits, [200, 400, 800, 1600, 2000, 2000, 2000]);
  page.stream.onopen?.();
  assert.equal(page.state, "live");
  assert.equal(page.sockets.length, 2);
  assert.equal(page.asked.length, 2);
});

test("a hidden page closes its stream, and opens one again when it is visible", async () => {
  const page = await startByEvents();
  page.turn("hidden");
  assert.ok(page.stream.closed);
  assert.equal(page.state, "reconnecting");
  page.clock.pass(60_000);
  assert.equal(page.streams.length, 1);
  page.turn("visible");
  assert.equal(page.streams.length, 2);
  assert.equal(page.sockets.length, 2);
});

test("a socket that is opening when the second refusal is known may still open or be refused", async () => {
  const page = start();
  await page.refuse();
  page.clock.pass(200);
  page.socket.fail();
  page.clock.pass(400);
  await heard();
  assert.deepEqual(page.open, [page.socket]);
  assert.equal(page.streams.length, 0);
  page.socket.fail();
  page.clock.pass(800);
  assert.equal(page.streams.length, 1);
  assert.equal(page.sockets.length, 3);
});

test("watching another address replaces the stream", async () => {
  const page = await startByEvents();
  const first = page.stream;
  page.live.watch("ws://node/live/dogs");
  assert.ok(first.closed);
  page.live.watch("ws://node/live/mice");
  page.live.watch("ws://node/live/dogs");
  assert.equal(page.streams.filter((stream) => !stream.closed).length, 1, "a stream that is opening is closed too");
  assert.equal(page.stream.address, "http://node/live/dogs");
  page.live.watch("");
  assert.ok(page.stream.closed);
});

/**
 * A connection in a browser that lacks something, with what it shows and receives.
 * @param {Partial<import("../../static/live.js").Surroundings>} around
 */
function lacking(around) {
  /** @type {unknown[]} */
  const received = [];
  /** @type {string[]} */
  const states = [];
  const live = new Live((counter) => received.push(counter), (state) => states.push(state), {
    open: missing,
    later: () => 1,
    cancel: () => {},
    page: Object.assign(new EventTarget(), { visibilityState: "visible" }),
    frame: new EventTarget(),
    online: () => true,
    ...around,
  });
  live.watch(ADDRESS);
  return { received, states };
}

/** @returns {never} */
function missing() {
  throw new ReferenceError("not defined");
}

test("where a browser has no sockets, counters come as events at once, without a question", () => {
  /** @type {Socket[]} */
  const streams = [];
  const { received } = lacking({
    listen: (address) => streams[streams.push(new Socket(address)) - 1] ?? assert.fail(),
    answers: () => assert.fail(),
  });
  assert.deepEqual(streams.map(({ address }) => address), [EVENTS]);
  streams[0]?.tell(CATS);
  assert.deepEqual(received, [CATS]);
});

test("where a browser has neither, it says so and nothing is thrown", () => {
  const { states } = lacking({ listen: missing });
  assert.deepEqual(states, ["connecting", "reconnecting"]);
});
