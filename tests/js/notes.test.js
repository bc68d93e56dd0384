import assert from "node:assert/strict";
import { test } from "node:test";

import { corrected, merged } from "../../static/notes.js";

test("withdrawn visits are told with their reason, and not with that of fewer", () => {
  assert.equal(corrected(0), "");
  assert.equal(corrected(0, { withdrawn: 5, withdrawn_for: "farm" }), "");
  assert.equal(corrected(120), "120 withdrawn");
  assert.equal(corrected(120, { withdrawn: 120, withdrawn_for: "farm" }), "120 withdrawn: farm");
  assert.equal(corrected(170, { withdrawn: 120, withdrawn_for: "farm" }), "170 withdrawn");
  // The newest message may come from a node that lacks a record.
  assert.equal(corrected(120, { withdrawn: 170, withdrawn_for: "more; farm" }), "120 withdrawn: more; farm");
});

test("reasons come from the message that says all and knows the most", () => {
  const known = merged({}, { not_counted: { bot: 2 }, withdrawn: 120, withdrawn_for: "farm" }, true);
  assert.deepEqual(known, { not_counted: { bot: 2 }, withdrawn: 120, withdrawn_for: "farm" });
  assert.deepEqual(merged(known, { withdrawn: 170 }, false), known);
  assert.deepEqual(merged(known, { not_counted: { bot: 1, repeat: 4 } }, true), { ...known, not_counted: { bot: 2, repeat: 4 } });
  const more = merged(known, { withdrawn: 170, withdrawn_for: "more; farm" }, true);
  assert.deepEqual([more.withdrawn, more.withdrawn_for], [170, "more; farm"]);
});
