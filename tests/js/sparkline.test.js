import assert from "node:assert/strict";
import { test } from "node:test";

import { Rates, line } from "../../static/sparkline.js";

const START = 1_800_000_000_000;

/** @param {number[]} values */
const sum = (values) => values.reduce((left, right) => left + right, 0);

test("visits are drawn as visits a second, in the stretch in which they came", () => {
  const rates = new Rates();
  rates.note(1000, START);
  rates.note(1010, START + 100);
  rates.note(1014, START + 4000);
  const drawn = rates.at(START + 4500);
  assert.equal(drawn.length, 90);
  assert.deepEqual(drawn.slice(-4), [0, 5, 0, 2]);
});

test("the first number says nothing of when its visits came, nor does one after a pause", () => {
  const rates = new Rates();
  rates.note(5000, START);
  rates.pause();
  rates.note(9000, START + 60_000);
  assert.equal(sum(rates.at(START + 60_000)), 0);
  rates.note(9002, START + 60_100);
  assert.equal(sum(rates.at(START + 60_100)), 1);
});

test("what is older than three minutes is gone", () => {
  const rates = new Rates();
  rates.note(0, START);
  rates.note(8, START);
  assert.equal(sum(rates.at(START + 178_000)), 4);
  assert.equal(sum(rates.at(START + 180_000)), 0);
  assert.equal(rates.at(START + 10_000_000).length, 90);
});

test("a number that is smaller, or a clock that was set back, takes nothing away", () => {
  const rates = new Rates();
  rates.note(10, START);
  rates.note(4, START);
  rates.note(12, START - 5000);
  assert.deepEqual(rates.at(START).slice(-1), [1]);
});

test("the line touches the top with the largest value, and lies low when little happens", () => {
  assert.equal(line([0, 10, 5], 24), "M0 23L1 1L2 12");
  assert.equal(line([0, 0], 24), "M0 23L1 23");
  assert.equal(line([0, 0.5], 24), "M0 23L1 12");
});
