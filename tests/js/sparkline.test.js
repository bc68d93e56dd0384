import assert from "node:assert/strict";
import { test } from "node:test";

import { Rates, line } from "../../static/sparkline.js";

const START = 1_800_000_000_000;

/** @param {number[]} values */
const sum = (values) => values.reduce((left, right) => left + right, 0);

test("visits are drawn as visits per second, in the stretch in which they came", () => {
  const rates = new Rates();
  rates.note(1000, START);
  rates.note(1010, START + 100);
  rates.note(1014, START + 4000);
  const drawn = rates.at(START + 4500);
  assert.deepEqual(drawn, [5, 0, 2]);
});

test("there are no rates from before the first number", () => {
  const rates = new Rates();
  assert.deepEqual(rates.at(START), []);
  rates.note(1000, START + 60_000);
  assert.deepEqual(rates.at(START + 64_000), [0, 0, 0]);
});

test("the first number does not say when its visits came, nor does one after a pause", () => {
  const rates = new Rates();
  rates.note(5000, START);
  rates.pause();
  rates.note(9000, START + 60_000);
  assert.equal(sum(rates.at(START + 60_000)), 0);
  rates.note(9002, START + 60_100);
  assert.equal(sum(rates.at(START + 60_100)), 1);
});

test("rates older than three minutes are gone", () => {
  const rates = new Rates();
  rates.note(0, START);
  rates.note(8, START);
  assert.equal(sum(rates.at(START + 178_000)), 4);
  assert.equal(sum(rates.at(START + 180_000)), 0);
  assert.equal(rates.at(START + 10_000_000).length, 90);
});

test("a smaller number, or a clock that was set back, takes nothing away", () => {
  const rates = new Rates();
  rates.note(10, START);
  rates.note(4, START);
  rates.note(12, START - 5000);
  assert.deepEqual(rates.at(START).slice(-1), [1]);
});

test("the largest value touches the top, and the line is low when little happens", () => {
  const size = { width: 3, height: 24 };
  assert.equal(line([0, 10, 5], size).line, "M0 23L1 1L2 12");
  assert.equal(line([0, 0, 0], size).line, "M0 23L1 23L2 23");
  assert.equal(line([0, 0, 0.5], size).line, "M0 23L1 23L2 12");
});

test("the newest value is at the right, and the area is what lies below", () => {
  const size = { width: 90, height: 24 };
  assert.deepEqual(line([0, 10], size), { line: "M88 23L89 1", area: "M88 23L89 1V24H88Z" });
  assert.deepEqual(line([], size), { line: "", area: "" });
});

test("the visits of the last three minutes are counted, and no others", () => {
  const rates = new Rates();
  rates.note(1000, START);
  assert.equal(rates.seen(START), 0);
  rates.note(1003, START + 1000);
  rates.note(1010, START + 60_000);
  assert.equal(rates.seen(START + 60_000), 10);
  assert.equal(rates.seen(START + 182_000), 7);
  assert.equal(rates.seen(START + 600_000), 0);
});
