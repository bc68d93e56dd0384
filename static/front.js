// @ts-check

/** @import {Sent} from "./live.js" */

import { Counter, isVideo } from "./counter.js";
import { Live, liveAddress } from "./live.js";
import { arrange, ask, element, make, showConnection, whileSeen, write, written } from "./page.js";

const REFRESH = 5000;
// A node sends up to 100 counters on one socket, and servers refuse request lines of more than 4 KB.
const MOST_VIDEOS = 100;
const LONGEST_ADDRESS = 3800;

const front = element("front");
const list = element("most-visited");
const body = /** @type {HTMLElement} */ (list.querySelector("tbody"));

/** @type {Map<string, {counter: Counter, row: HTMLElement}>} */
const videos = new Map();
/** @type {string[]} */
let watched = [];
const live = new Live(receive, showConnection);

/** @param {Sent} sent */
function receive({ video, counts }) {
  const known = videos.get(video) ?? { counter: new Counter(), row: newRow(video) };
  videos.set(video, known);
  known.counter.merge(counts);
  const cell = /** @type {HTMLElement} */ (known.row.querySelector("td[data-visits]"));
  cell.dataset.visits = String(known.counter.visits);
  write(cell, written(known.counter.visits));
}

/** @param {string} video */
function newRow(video) {
  const row = make("tr", "", { "data-video": video });
  const head = make("th", "", { scope: "row" });
  head.append(make("a", video, { href: `/video/${encodeURIComponent(video)}` }));
  row.append(make("td", "", { class: "rank" }), head, make("td", "", { class: "number", "data-visits": "0" }));
  return row;
}

/**
 * Show these counters, most visits first, and watch them.
 * @param {Sent[]} counters
 */
function show(counters) {
  counters.forEach(receive);
  // What the page has heard may be newer than the order it was sent.
  const ranked = counters
    .flatMap(({ video }) => videos.get(video) ?? [])
    .sort((left, right) => right.counter.visits - left.counter.visits);
  ranked.forEach(({ row }, place) => write(/** @type {HTMLElement} */ (row.querySelector(".rank")), written(place + 1)));
  arrange(body, ranked.map(({ row }) => row));
  list.hidden = element("connection").hidden = ranked.length === 0;
  element("empty").hidden = ranked.length > 0;
  element("coming").hidden = true;
  watch(ranked.map(({ row }) => row.dataset.video ?? ""));
}

/** @param {string[]} listed most visits first */
function watch(listed) {
  // A video that only left the list is no reason for a new socket.
  if (listed.every((video) => watched.includes(video))) return;
  let end = Math.min(listed.length, MOST_VIDEOS);
  // The few that do not fit still move with the order.
  while (liveAddress(listed.slice(0, end)).length > LONGEST_ADDRESS) end--;
  watched = listed.slice(0, end).sort();
  live.watch(liveAddress(watched));
}

/**
 * What is wrong with this id, in words for whoever typed it; empty when nothing is.
 * @param {string} video
 */
function complaint(video) {
  if (isVideo(video) && video !== "." && video !== "..") return "";
  if (video === "") return "Type the id of a video, for example cats.";
  if (video.length > 128) return `An id has up to 128 characters; this one has ${video.length}.`;
  const strange = [...new Set(video)]
    .filter((letter) => !isVideo(letter))
    .map((letter) => (letter.trim() ? `“${letter}”` : "spaces"));
  if (strange.length === 0) return "Browsers take “.” and “..” for folders; please choose another id.";
  return `An id is made of the letters A to Z, digits and . _ ~ - and cannot hold ${strange.join(" or ")}.`;
}

element("open-video").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (element("video-id"));
  const problem = complaint(field.value.trim());
  write(element("video-id-problem"), problem);
  field.setAttribute("aria-invalid", String(problem !== ""));
  if (problem) field.focus();
  else location.assign(`/video/${encodeURIComponent(field.value.trim())}`);
});

write(element("first-visit"), `curl ${location.origin}/video/cats`);
if (!("joining" in front.dataset)) show(JSON.parse(front.dataset.counters ?? "[]"));
whileSeen(REFRESH, async () => {
  const answer = await ask("/top?limit=50");
  if (answer) show(answer.counters);
});
