import assert from "node:assert/strict";
import { test } from "node:test";

import { apartInWords, notCounted } from "../../static/footnotes.js";

test("visits that do not count are told by why, and those there are none of are not", () => {
  assert.equal(notCounted({ bot: 12, repeat: 3 }), "+ 12 by crawlers, 3 repeats, not counted");
  assert.equal(notCounted({ repeat: 1, bot: 0 }), "+ 1 repeat, not counted");
  assert.equal(notCounted({ blocked: 1_200 }), "+ 1,200 while taken down, not counted");
  assert.equal(notCounted({ another: 5 }), "", "a class of a newer version has no words here");
  assert.equal(notCounted(), "");
  assert.equal(apartInWords({ bot: 1 }), "1 by crawlers");
});
