// @ts-check

// The earlier address of dom.js. A copy of embed.js from an earlier version imports it: addresses of an interface stay.
export { ask, whileSeen, write, written } from "./dom.js";
