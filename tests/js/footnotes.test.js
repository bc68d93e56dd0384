import assert from "node:assert/strict";
import { test } from "node:test";

import { apartInWords, notCounted, withdrawn } from "../../static/footnotes.js";

test("visits that do not count are told by why, and those there are none of are not", () => {
  assert.equal(notCounted({ bot: 12, repeat: 3 }), "+ 12 by crawlers, 3 repeats, not counted");
  assert.equal(notCounted({ repeat: 1, bot: 0 }), "+ 1 repeat, not counted");
  assert.equal(notCounted({ blocked: 1_200 }), "+ 1,200 while taken down, not counted");
  assert.equal(notCounted({ another: 5 }), "", "a class of a newer version has no words here");
  assert.equal(notCounted(), "");
  assert.equal(apartInWords({ bot: 1 }), "1 by crawlers");
});

test("what was withdrawn is told with the reasons, each once", () => {
  assert.equal(withdrawn(120, ["click farm"]), "120 withdrawn: click farm");
  assert.equal(withdrawn(150, ["click farm", "", "a test", "click farm"]), "150 withdrawn: click farm; a test");
  assert.equal(withdrawn(9, ["a", "b", "c", "d"]), "9 withdrawn: a; b; c");
  assert.equal(withdrawn(7), "7 withdrawn");
  assert.equal(withdrawn(0, ["click farm"]), "");
});
