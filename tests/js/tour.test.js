import assert from "node:assert/strict";
import { test } from "node:test";

import { STEPS, Tour } from "../../static/tour.js";

/**
 * What three nodes show; the third may be cut off.
 * @param {[number, number, number]} visits
 * @param {boolean} cut
 */
const shown = (visits, cut = false) =>
  visits.map((visits, place) => ({ node: `counter${place + 1}`, visits, cut: cut && place === 2 }));

/** @param {number} step */
function at(step) {
  const tour = new Tour();
  tour.start(shown([100, 100, 100]));
  if (step > 1) advance(tour, shown([150, 150, 150]));
  if (step > 2) advance(tour, shown([150, 150, 150], true));
  if (step > 3) advance(tour, shown([200, 200, 170], true));
  return tour;
}

/**
 * @param {Tour} tour
 * @param {ReturnType<typeof shown>} reading
 */
function advance(tour, reading) {
  tour.see(reading);
  assert.ok(tour.step.done);
  tour.next();
}

test("the four steps are done when the nodes show it", () => {
  const tour = new Tour();
  assert.equal(tour.open, false);
  assert.deepEqual(tour.start(shown([100, 100, 100])), []);
  assert.deepEqual(tour.step.orders, [{ act: "burst", node: "counter1", visits: 50 }]);
  tour.see(shown([150, 100, 100]));
  assert.equal(tour.step.done, false, "the others do not know it yet");
  advance(tour, shown([150, 150, 150]));

  assert.equal(tour.step.number, 2);
  assert.deepEqual(tour.step.orders, [{ act: "cut", node: "counter3" }]);
  tour.see(shown([150, 150, 150]));
  assert.equal(tour.step.done, false);
  advance(tour, shown([150, 150, 150], true));

  assert.equal(tour.step.orders.length, 2);
  tour.see(shown([200, 200, 150], true));
  assert.equal(tour.step.done, false, "one side has not counted");
  advance(tour, shown([200, 200, 170], true));

  assert.deepEqual(tour.step.orders, [{ act: "heal", node: "counter3" }]);
  tour.see(shown([200, 200, 170]));
  assert.equal(tour.step.done, false, "healed, and not yet the same");
  advance(tour, shown([220, 220, 220]));
  assert.ok(tour.over);
  assert.ok(tour.open);
  assert.equal(tour.step.number, STEPS + 1);
});

test("a step cannot be left before it is done", () => {
  for (let step = 1; step <= STEPS; step++) {
    const tour = at(step);
    tour.next();
    assert.equal(tour.step.number, step);
  }
});

test("healing must bring the exact sum: with one visit less the step is not done", () => {
  const tour = at(4);
  tour.see(shown([219, 219, 219]));
  assert.equal(tour.step.done, false);
  tour.see(shown([220, 220, 220]));
  assert.ok(tour.step.done);
});

test("visits that come in meanwhile disturb nothing", () => {
  const tour = at(3);
  tour.see(shown([205, 203, 175], true));
  tour.see(shown([230, 229, 190], true));
  tour.next();
  tour.see(shown([240, 238, 195], true));
  assert.equal(tour.step.done, false);
  tour.see(shown([285, 285, 286]));
  assert.ok(tour.step.done);
});

test("after healing too early the cut comes again", () => {
  const tour = at(3);
  tour.see(shown([150, 150, 150]));
  assert.equal(tour.step.number, 2);
  assert.equal(tour.step.done, false);
});

test("a step that somebody did already is done", () => {
  const tour = at(1);
  tour.see(shown([150, 150, 150]));
  tour.see(shown([150, 150, 150], true));
  tour.next();
  assert.equal(tour.step.number, 2);
  assert.ok(tour.step.done);
});

test("a node that does not answer completes no step, and is not chosen", () => {
  const silent = { node: "counter3", visits: null };
  const tour = at(4);
  tour.see([...shown([220, 220, 0]).slice(0, 2), silent]);
  assert.equal(tour.step.done, false);

  const smaller = new Tour();
  smaller.start([...shown([1, 1, 1]).slice(0, 2), silent]);
  assert.match(smaller.step.press, /counter1/);
  smaller.see([...shown([51, 51, 0]).slice(0, 2), silent]);
  smaller.next();
  assert.deepEqual(smaller.step.orders, [{ act: "cut", node: "counter2" }]);
});

test("the tour does not start with one node", () => {
  const tour = new Tour();
  tour.start([{ node: "counter1", visits: 3, cut: false }]);
  assert.equal(tour.open, false);
});

test("the tour can be left at any step, heals what it cut, and can start again", () => {
  for (let step = 1; step <= STEPS; step++) {
    const tour = at(step);
    assert.deepEqual(tour.leave(), step > 2 ? [{ act: "heal", node: "counter3" }] : []);
    assert.equal(tour.open, false);
    tour.see(shown([500, 500, 500]));
    assert.equal(tour.open, false);
    tour.start(shown([500, 500, 500]));
    assert.equal(tour.step.number, 1);
    assert.equal(tour.step.done, false);
  }
});

test("a node that is cut off at the start is healed first", () => {
  const tour = new Tour();
  assert.deepEqual(tour.start(shown([5, 5, 3], true)), [{ act: "heal", node: "counter3" }]);
  tour.see(shown([55, 55, 53], true));
  assert.equal(tour.step.done, false);
});
