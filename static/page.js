// @ts-check

// The earlier address of dom.js, which modules of earlier versions import: the addresses of an interface stay.
export * from "./dom.js";
