import assert from "node:assert/strict";
import { test } from "node:test";

import { History, SPAN, apart, apartByName, steps, ticks } from "../../static/chart.js";

const START = 1_800_000_000_000;

/**
 * A history of readings a second apart.
 * @param {(Record<string, number | null> | null)[]} readings null: nobody asked
 */
function history(...readings) {
  const made = new History();
  readings.forEach((reading, second) => {
    const nodes = Object.entries(reading ?? {}).map(([node, visits]) => ({ node, visits }));
    if (reading) made.note(nodes, START + second * 1000);
  });
  return made;
}

/** @param {number} value */
const same = (value) => value;

test("each node has a line, and they are sorted by name", () => {
  const lines = history({ b: 1, a: 2 }, { b: 1, a: 3 });
  assert.deepEqual(lines.nodes, ["a", "b"]);
  assert.deepEqual(lines.pieces("a"), [
    [
      { at: START, visits: 2 },
      { at: START + 1000, visits: 3 },
    ],
  ]);
});

test("a line has a gap where its node did not answer", () => {
  const [before, after, ...more] = history({ a: 1 }, { a: null }, { a: 2 }, { a: 3 }).pieces("a");
  assert.deepEqual([before?.length, after?.length, more.length], [1, 2, 0]);
});

test("a line has a gap where nobody asked for a while, but not where an answer was late", () => {
  const silence = Array(10).fill(null);
  assert.equal(history({ a: 1 }, ...silence, { a: 9 }).pieces("a").length, 2);
  assert.equal(history({ a: 1 }, null, null, { a: 9 }).pieces("a").length, 1);
});

test("points older than three minutes go, except the one where the line enters the chart", () => {
  const lines = new History();
  for (let at = 0; at <= SPAN + 10_000; at += 1000) lines.note([{ node: "a", visits: at }], START + at);
  assert.equal(lines.pieces("a")[0]?.[0]?.at, START + 10_000);
  lines.note([{ node: "b", visits: 1 }], START + 3 * SPAN);
  assert.deepEqual(lines.nodes, ["b"]);
});

test("connected nodes are never behind, however fast visits come in", () => {
  const readings = Array.from({ length: 10 }, (_, second) => ({ a: 100 * second, b: 100 * second - 90 }));
  assert.deepEqual([...history(...readings).missing().values()], [0, 0]);
});

test("a node that is cut off is behind by what the others have shown for a while", () => {
  const apart = Array(5).fill({ a: 100, b: 70 });
  assert.deepEqual([...history({ a: 50, b: 50 }, ...apart).missing()], [["a", 0], ["b", 30]]);
  assert.deepEqual([...history(...apart, { a: 130, b: 75 }).missing()], [["a", 0], ["b", 55]]);
  assert.deepEqual([...history({ a: 50, b: 50 }, ...apart, { a: 120, b: 120 }).missing().values()], [0, 0]);
});

test("it is unknown how far a node without an answer is behind", () => {
  assert.equal(history({ a: 1, b: 1 }, { a: 1, b: null }).missing().get("b"), null);
  assert.equal(history({ a: 1, b: 1 }, { a: 1 }).missing().get("b"), null);
});

test("axes have a few round whole numbers, and all values lie between them", () => {
  assert.deepEqual(ticks(0, 100), [0, 50, 100]);
  assert.deepEqual(ticks(18_241, 18_311), [18_240, 18_260, 18_280, 18_300, 18_320]);
  assert.deepEqual(ticks(0, 0), [0, 1, 2]);
  assert.deepEqual(ticks(7, 7), [5, 6, 7, 8, 9]);
  for (const [low, high] of /** @type {[number, number][]} */ ([[0, 9], [3, 1_000_003], [2 ** 53 - 80, 2 ** 53 - 1]])) {
    const drawn = ticks(low, high);
    assert.ok(drawn.length >= 2 && drawn.length <= 5, String(drawn));
    assert.ok((drawn[0] ?? Infinity) <= low && (drawn.at(-1) ?? 0) >= high);
    assert.ok(drawn.every(Number.isInteger));
  }
});

test("numbers are drawn as steps, not as slopes", () => {
  const piece = [0, 1, 2, 3].map((at) => ({ at, visits: at < 2 ? 5 : 9 }));
  assert.equal(steps(piece, same, same), "M0 5H2V9H3");
  assert.equal(steps(piece.slice(0, 1), same, same), "M0 5h0");
});

test("names that would overlap move apart, and no further", () => {
  assert.deepEqual(apart([10, 100], 18, 0, 200), [10, 100]);
  assert.deepEqual(apart([50, 50, 50], 10, 0, 200), [40, 50, 60]);
  assert.deepEqual(apart([100, 95, 10], 10, 0, 200), [102.5, 92.5, 10]);
});

test("names stay within the drawing", () => {
  assert.deepEqual(apart([0, 0, 0], 10, 5, 200), [5, 15, 25]);
  assert.deepEqual(apart([200, 199], 10, 5, 200), [200, 190]);
  const many = apart(Array(9).fill(100), 10, 0, 105).sort((left, right) => left - right);
  assert.ok(many.every((place, index) => index === 0 || place - (many[index - 1] ?? 0) >= 10));
});

test("two nodes with one name have a line each", () => {
  const nodes = ["a", "b", "a"].map((node, visits) => ({ node, visits }));
  assert.deepEqual(apartByName(nodes).map(({ node, visits }) => [node, visits]), [["a", 0], ["b", 1], ["a (2)", 2]]);
});
