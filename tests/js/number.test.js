import assert from "node:assert/strict";
import { test } from "node:test";

import { Announcer, Climb } from "../../static/number.js";

/** A number, and a screen that the test draws. */
function start({ still = false } = {}) {
  /** @type {number[]} */
  const shown = [];
  /** @type {((now: number) => void) | null} */
  let next = null;
  const climb = new Climb((value) => shown.push(value), {
    frame: (step) => ((next = step), 1),
    cancel: () => (next = null),
    still: () => still,
  });
  return {
    climb,
    shown,
    /** @param {number} now */
    draw(now) {
      const step = next;
      next = null;
      step?.(now);
    },
    get moving() {
      return next !== null;
    },
  };
}

test("a number climbs to the newest value, rises with every step and ends there", () => {
  const { climb, shown, draw } = start();
  climb.set(100);
  climb.rise(200);
  for (let now = 1000; now <= 1600; now += 50) draw(now);
  assert.equal(shown[0], 100);
  assert.equal(shown.at(-1), 200);
  assert.deepEqual(shown, shown.toSorted((left, right) => left - right));
  assert.ok(shown.length > 10);
});

test("a newer value takes over in the middle of a climb, and nothing falls", () => {
  const number = start();
  number.climb.set(10);
  number.climb.rise(20);
  number.draw(0);
  number.draw(100);
  number.climb.rise(1000);
  for (let now = 200; now <= 900; now += 20) number.draw(now);
  assert.deepEqual(number.shown, number.shown.toSorted((left, right) => left - right));
  assert.equal(number.shown.at(-1), 1000);
  assert.equal(number.moving, false);
});

test("a value that is no larger moves nothing", () => {
  const number = start();
  number.climb.set(10);
  number.climb.rise(10);
  number.climb.rise(9);
  assert.deepEqual(number.shown, [10]);
  assert.equal(number.moving, false);
});

test("the first number is shown at once, and so is every number with reduced motion", () => {
  const first = start();
  first.climb.rise(500);
  assert.deepEqual(first.shown, [500]);
  const still = start({ still: true });
  still.climb.set(1);
  still.climb.rise(500);
  assert.deepEqual(still.shown, [1, 500]);
});

test("the number of another video is shown at once, even during a climb", () => {
  const number = start();
  number.climb.set(10);
  number.climb.rise(1000);
  number.draw(0);
  number.climb.set(3);
  number.draw(300);
  assert.equal(number.shown.at(-1), 3);
  assert.equal(number.moving, false);
});

test("screen readers are told the newest number, at most every ten seconds", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  /** @type {string[]} */
  const said = [];
  const announcer = new Announcer((text) => said.push(text));
  let visits = 0;
  for (let second = 0; second < 25; second++) {
    visits++;
    announcer.tell(() => `${visits} visits`);
    context.mock.timers.tick(1000);
  }
  assert.deepEqual(said, ["10 visits", "20 visits"]);
  announcer.hush();
  context.mock.timers.tick(60_000);
  assert.equal(said.length, 2, "and nothing about a video that was left");
});
