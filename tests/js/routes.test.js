import assert from "node:assert/strict";
import { test } from "node:test";

import { addressOf, complaint, grouped, isPlain, viewAt } from "../../static/routes.js";

const PLACE = { origin: "http://node:1234" };
const CLICK = { button: 0, metaKey: false, ctrlKey: false, shiftKey: false, altKey: false, defaultPrevented: false };
const LINK = { target: "", hasAttribute: () => false };

test("the front page and every video are views of the site", () => {
  assert.deepEqual(viewAt("/", PLACE), { video: null });
  assert.deepEqual(viewAt("http://node:1234/video/cats#top", PLACE), { video: "cats" });
  for (const video of ["__proto__", "A.b_c~d-0", "...", "w".repeat(128)]) {
    assert.deepEqual(viewAt(addressOf(video), PLACE), { video });
  }
  assert.deepEqual(viewAt("/video/%63ats", PLACE), { video: "cats" });
});

test("other addresses are not views", () => {
  const others = ["/cluster", "/video/", "/video/a/b", "/video/b%20d", "/video/%", "/video/%ff", "/?video=cats", "/count/cats"];
  const elsewhere = ["https://node:1234/", "http://node/video/cats", "http://other:1234/video/cats", "mailto:cats@node"];
  for (const address of [...others, ...elsewhere, `/video/${"w".repeat(129)}`]) {
    assert.equal(viewAt(address, PLACE), null, address);
  }
});

test("only a plain click changes the view", () => {
  assert.equal(isPlain(CLICK, LINK), true);
  assert.equal(isPlain(CLICK, { ...LINK, target: "_self" }), true);
  const others = [
    { button: 1 }, { metaKey: true }, { ctrlKey: true }, { shiftKey: true }, { altKey: true }, { defaultPrevented: true },
  ];
  for (const other of others) assert.equal(isPlain({ ...CLICK, ...other }, LINK), false, JSON.stringify(other));
  assert.equal(isPlain(CLICK, { ...LINK, target: "_blank" }), false);
  assert.equal(isPlain(CLICK, { ...LINK, hasAttribute: (name) => name === "download" }), false);
});

test("an invalid id is refused, and the text says what is wrong", () => {
  for (const video of ["cats", "__proto__", "...", "~", "w".repeat(128)]) assert.equal(complaint(video), "");
  assert.match(complaint(""), /Type the id/);
  assert.match(complaint("w".repeat(129)), /up to 128 characters; this one has 129/);
  assert.match(complaint("a b<c>"), /cannot hold spaces or “<” or “>”/);
  assert.match(complaint(".."), /folders/);
  assert.match(complaint(". "), /cannot hold spaces\./);
  assert.equal(viewAt("/video/%252e%252e", PLACE), null);
});

test("no group of videos makes an address that a server refuses, and no video is left out", () => {
  /** @type {(video: string, length: number) => string[]} */
  const many = (video, length) => Array.from({ length }, (_, number) => `${video}${number}`);
  for (const videos of [many("a", 250), many("v".repeat(120), 90), ["one"], []]) {
    const groups = grouped(videos);
    assert.deepEqual(groups.flat(), videos);
    for (const group of groups) {
      assert.ok(group.length > 0 && group.length <= 100);
      assert.ok(`/counts?${group.map((video) => `video=${video}`).join("&")}`.length < 4000);
    }
  }
});
