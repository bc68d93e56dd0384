import assert from "node:assert/strict";
import { test } from "node:test";

import { Numbers, scan } from "../../static/embed.js";
import { Watched } from "../../static/watched.js";

/**
 * A page with spans, and the node behind it, both in the hands of the test.
 * @param {[string, string?][]} spans the video of each, and `data-count`
 * @param {{visibilityState?: DocumentVisibilityState, prerendering?: boolean}} shown
 * @param {string} module the address of the module
 * @param {(address: string) => void} [send]
 * @param {Partial<import("../../static/embed.js").Surroundings>} [more]
 */
function start(spans, shown = {}, module = "https://node.example/static/embed.js", send = () => {}, more = {}) {
  /** @type {{visibilityState: DocumentVisibilityState, prerendering: boolean}} */
  const seen = { visibilityState: "visible", prerendering: false, ...shown };
  const page = Object.assign(new EventTarget(), seen);
  const on = {
    page,
    /** @type {any[]} */
    spans: [],
    /** @type {string[]} */
    watched: [],
    /** @type {string[]} */
    counted: [],
    /** @type {string[]} */
    warned: [],
    /** @type {string[]} */
    asked: [],
    /** @type {(sent: any) => void} */
    receive: () => {},
    /** @type {(state: any) => void} */
    show: () => {},
    again: async () => {},
    /** @type {any[]} what the node knows */
    counters: [],
    texts: () => on.spans.map(({ textContent }) => textContent),
    /** @param {[string, string?]} span */
    add: ([visits, count]) => {
      on.spans.push({ dataset: count === undefined ? { visits } : { visits, count }, textContent: "…" });
    },
    /** @param {string} event */
    tell: (event) => page.dispatchEvent(new Event(event)),
  };
  spans.forEach(on.add);
  const numbers = new Numbers({
    node: new URL(module),
    page: Object.assign(page, { querySelectorAll: /** @type {any} */ (() => on.spans) }),
    connect: (receive, show) => {
      Object.assign(on, { receive, show });
      show("connecting");
      return { watch: (address) => on.watched.push(address) };
    },
    read: async (address) => {
      on.asked.push(address);
      return { counters: on.counters };
    },
    count: (address) => {
      on.counted.push(address);
      send(address);
    },
    again: (act) => {
      on.again = act;
    },
    warn: (words) => on.warned.push(words),
    ...more,
  });
  return Object.assign(on, { numbers });
}

/**
 * @param {string} video
 * @param {Record<string, number>} counts
 */
function sent(video, counts) {
  const visits = Object.values(counts).reduce((sum, count) => sum + count, 0);
  return { video, visits, node: "counter1", counts };
}

/**
 * @param {string} start
 * @param {number} many
 */
const ids = (start, many) => Array.from({ length: many }, (_, number) => `${start}${number}`);

test("all spans of a page share one connection, and each shows its own number", () => {
  const on = start([["cats"], ["dogs"], ["cats"]]);
  assert.deepEqual(on.watched, ["wss://node.example/live?video=cats&video=dogs"]);
  on.receive(sent("cats", { "counter1~a": 1000, "counter2~b": 234 }));
  assert.deepEqual(on.texts(), ["1,234", "…", "1,234"]);
  on.receive(sent("dogs", {}));
  assert.deepEqual(on.texts(), ["1,234", "0", "1,234"]);
});

test("a number never falls, whichever node sends it", () => {
  const on = start([["cats"]]);
  on.receive(sent("cats", { "counter1~a": 7, "counter2~b": 1 }));
  on.receive(sent("cats", { "counter1~a": 5, "counter2~b": 2 }));
  assert.deepEqual(on.texts(), ["9"]);
  on.receive({ ...sent("cats", {}), visits: null, joining: true });
  assert.deepEqual(on.texts(), ["9"]);
});

test("a span with an invalid id is left as it is, with one warning", () => {
  const on = start([["a b"], [""], [".."], ["v".repeat(129)], ["good"]]);
  on.numbers.scan();
  assert.equal(on.warned.length, 4);
  assert.match(on.warned[0] ?? "", /data-visits="a b" is no video's id/);
  assert.deepEqual(on.watched, ["wss://node.example/live?video=good"]);
  assert.deepEqual(on.texts(), ["…", "…", "…", "…", "…"]);
});

test("one visit is counted for each video with data-count, even with two spans", () => {
  const on = start([["cats", ""], ["cats", ""], ["dogs"], ["birds", ""]]);
  on.numbers.scan();
  on.tell("visibilitychange");
  assert.deepEqual(on.counted, ["https://node.example/hit/cats", "https://node.example/hit/birds"]);
});

test("a page that is hidden or prerendered counts nothing until it is visible", () => {
  const on = start([["cats", ""]], { visibilityState: "hidden", prerendering: true });
  on.page.prerendering = false;
  on.tell("prerenderingchange");
  assert.deepEqual(on.counted, []);
  on.page.visibilityState = "visible";
  on.tell("visibilitychange");
  on.tell("visibilitychange");
  assert.deepEqual(on.counted, ["https://node.example/hit/cats"]);
});

test("spans that are added later are found, and removing spans opens no new connection", () => {
  const on = start([["cats"]]);
  on.receive(sent("cats", { a: 3 }));
  on.add(["dogs", ""]);
  on.add(["cats"]);
  on.numbers.scan();
  assert.equal(on.watched.at(-1), "wss://node.example/live?video=cats&video=dogs");
  assert.deepEqual(on.texts(), ["3", "…", "3"], "known numbers are shown at once");
  assert.deepEqual(on.counted, ["https://node.example/hit/dogs"]);
  on.spans.length = 1;
  on.numbers.scan();
  assert.equal(on.watched.length, 2);
  on.spans.length = 0;
  on.numbers.scan();
  assert.equal(on.watched.at(-1), "", "a page without numbers needs no connection");
});

test("a page without spans opens no connection", () => {
  assert.deepEqual(start([]).watched, [""]);
});

test("numbers are read while there is no connection, and only then", async () => {
  const on = start([["cats"], ["dogs"]]);
  on.counters = [sent("cats", { a: 4 }), sent("dogs", { a: 5 })];
  on.show("offline");
  await on.again();
  assert.deepEqual(on.asked, ["https://node.example/counts?video=cats&video=dogs"]);
  assert.deepEqual(on.texts(), ["4", "5"]);
  on.show("live");
  await on.again();
  assert.equal(on.asked.length, 1);
});

test("a hundred videos are live, and the others are read", async () => {
  const on = start(ids("video-", 130).map((video) => [video]));
  on.show("live");
  await on.again();
  assert.equal(on.watched.length, 1);
  assert.equal(new URL(on.watched[0] ?? "").searchParams.size, 100);
  assert.equal(on.asked.length, 1);
  assert.deepEqual(new URL(on.asked[0] ?? "").searchParams.getAll("video"), ids("video-", 130).slice(100));
});

for (const [module, home] of [
  ["https://node.example/counter/static/embed.js", "node.example/counter"],
  ["https://node.example/a/b/static/embed.js?v=3#x", "node.example/a/b"],
  ["https://node.example:8443/static/embed.js?of=/x/y", "node.example:8443"],
]) {
  test(`everything is beside the module: ${module}`, async () => {
    const on = start([["cats", ""]], {}, module);
    await on.again();
    assert.deepEqual(on.watched, [`wss://${home}/live?video=cats`]);
    assert.deepEqual(on.counted, [`https://${home}/hit/cats`]);
    assert.deepEqual(on.asked, [`https://${home}/counts?video=cats`]);
  });
}

test("a visit that cannot be sent keeps no number away", () => {
  const on = start([["cats", ""], ["dogs", ""]], {}, "https://node.example/static/embed.js", () => {
    throw new TypeError("blocked");
  });
  on.add(["birds"]);
  on.numbers.scan();
  assert.equal(on.watched.at(-1), "wss://node.example/live?video=cats&video=dogs&video=birds");
  on.receive(sent("birds", { a: 3 }));
  assert.deepEqual(on.texts(), ["…", "…", "3"]);
});

/** @param {any[]} spans */
function root(...spans) {
  return /** @type {any} */ ({ spans, isConnected: true, querySelectorAll: () => spans });
}

/** @param {string} visits */
const span = (visits) => ({ dataset: { visits, count: "" }, textContent: "…" });

test("numbers in another root are shown and counted like the page's own, and twice is once", () => {
  const on = start([["cats", ""]]);
  const shadow = root(span("dogs"), span("cats"));
  on.numbers.scan(shadow);
  on.numbers.scan(shadow);
  on.numbers.scan();
  assert.equal(on.watched.at(-1), "wss://node.example/live?video=cats&video=dogs");
  assert.equal(on.watched.length, 2);
  assert.deepEqual(on.counted, ["https://node.example/hit/cats", "https://node.example/hit/dogs"]);
  on.receive(sent("cats", { a: 5 }));
  assert.deepEqual([...on.texts(), shadow.spans[1].textContent], ["5", "5"]);
});

test("a root that left the page is left alone until it is back", () => {
  const on = start([["cats"]]);
  const shadow = root(span("dogs"));
  shadow.isConnected = false;
  on.numbers.scan(shadow);
  assert.deepEqual(on.counted, []);
  shadow.isConnected = true;
  on.numbers.scan();
  assert.deepEqual(on.counted, ["https://node.example/hit/dogs"]);
  shadow.isConnected = false;
  on.numbers.scan();
  on.receive(sent("dogs", { a: 5 }));
  assert.equal(shadow.spans[0].textContent, "…");
  shadow.isConnected = true;
  on.numbers.scan();
  assert.equal(shadow.spans[0].textContent, "5");
});

test("without a page the module does nothing", () => {
  assert.doesNotThrow(scan);
});

/**
 * A page whose visits wait, with a clock, and a reader who looks or does not.
 * @param {DOMStringMap[]} attributes of the spans
 * @param {DOMStringMap} script
 * @param {boolean} refused
 */
function watching(attributes, script = {}, refused = false) {
  const clock = { now: 0, looks: /** @type {Set<() => void>} */ (new Set()) };
  const watched = new Watched({
    now: () => clock.now,
    every: (look) => {
      clock.looks.add(look);
      return look;
    },
    stop: (look) => clock.looks.delete(look),
  });
  const more = {
    watched,
    script,
    refused: () => refused,
    isSeen: (/** @type {HTMLElement} */ span) => span.dataset.seen !== undefined,
  };
  const on = start([], {}, undefined, undefined, more);
  on.spans.push(...attributes.map((dataset) => ({ dataset, textContent: "…" })));
  on.numbers.scan();
  /** @param {number} seconds */
  const pass = (seconds) => {
    for (const end = clock.now + seconds * 1000; clock.now < end; ) {
      clock.now += 200;
      [...clock.looks].forEach((look) => look());
    }
  };
  return Object.assign(on, { clock, pass });
}

const CATS = "https://node.example/hit/cats";

test("a visit with data-after counts once its video was played for so long, and only once", () => {
  const on = watching([{ visits: "cats", count: "", after: "10", seen: "" }]);
  on.pass(9.8);
  assert.deepEqual(on.counted, []);
  on.pass(0.6);
  assert.deepEqual(on.counted, [CATS]);
  assert.equal(on.clock.looks.size, 0, "nothing is looked at any more");
  on.numbers.scan();
  on.tell("visibilitychange");
  on.pass(60);
  assert.deepEqual(on.counted, [CATS]);
});

test("only the time counts in which it plays and the page is visible", () => {
  const on = watching([{ visits: "cats", count: "", after: "2", seen: "" }]);
  on.pass(1.2);
  delete on.spans[0].dataset.seen;
  on.pass(60);
  on.spans[0].dataset.seen = "";
  on.page.visibilityState = "hidden";
  on.pass(60);
  assert.deepEqual(on.counted, []);
  on.page.visibilityState = "visible";
  on.numbers.scan();
  on.pass(1.2);
  assert.deepEqual(on.counted, [CATS]);
});

test("a page that stood still was not watched meanwhile", () => {
  const on = watching([{ visits: "cats", count: "", after: "10", seen: "" }]);
  on.pass(1);
  on.clock.now += 3_600_000;
  on.pass(4);
  assert.deepEqual(on.counted, []);
});

test("the script says for all spans after how long a visit counts, and a span for itself", () => {
  const spans = [
    { visits: "cats", count: "", seen: "" },
    { visits: "dogs", count: "", after: "0", seen: "" },
    { visits: "birds", count: "", after: "5", seen: "" },
    { visits: "fish", after: "1", seen: "" },
  ];
  const on = watching(spans, { after: "2" });
  assert.deepEqual(on.counted, ["https://node.example/hit/dogs"]);
  on.pass(3);
  assert.deepEqual(on.counted.slice(1), [CATS]);
  on.pass(3);
  assert.deepEqual(on.counted.slice(2), ["https://node.example/hit/birds"]);
});

test("of two spans of a video, the shorter time counts", () => {
  const on = watching([
    { visits: "cats", count: "", after: "9", seen: "" },
    { visits: "cats", count: "", after: "1" },
  ]);
  on.pass(1.4);
  assert.deepEqual(on.counted, [CATS]);
});

test("what is no number of seconds counts at once, with one warning", () => {
  for (const after of ["10s", "", "-1", "3601", "Infinity", "NaN"]) {
    const on = watching([{ visits: "cats", count: "", after }]);
    on.numbers.scan();
    assert.deepEqual(on.counted, [CATS], after);
    assert.equal(on.warned.length, 1);
    assert.match(on.warned[0] ?? "", /data-after=".*" is no number of seconds from 0 to 3600/);
  }
});

test("a browser that asks not to be tracked is told of by a mark, where the page respects that", () => {
  const marked = `${CATS}?dnt=1`;
  const span = { visits: "cats", count: "" };
  assert.deepEqual(watching([{ ...span, respectDnt: "" }], {}, true).counted, [marked]);
  assert.deepEqual(watching([span], { respectDnt: "" }, true).counted, [marked]);
  assert.deepEqual(watching([span], {}, true).counted, [CATS]);
  assert.deepEqual(watching([{ ...span, respectDnt: "" }], {}, false).counted, [CATS]);
  const later = watching([{ ...span, after: "1", seen: "", respectDnt: "" }], {}, true);
  later.pass(2);
  assert.deepEqual(later.counted, [marked]);
});
