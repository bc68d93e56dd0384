// @ts-check

/** @import {Notes} from "./footnotes.js" */
/** @import {Sent} from "./live.js" */
/** @import {View} from "./routes.js" */

import { Cards } from "./cards.js";
import { Counter } from "./counter.js";
import { ask, attempt, element, showConnection, whileSeen, write, written } from "./dom.js";
import { Live, liveAddress } from "./live.js";
import { merged } from "./notes.js";
import { Outbox } from "./outbox.js";
import { addressOf, complaint, grouped, isPlain, viewAt } from "./routes.js";
import { Looks, SavedCounters, strangers } from "./saved_counters.js";
import { VideoView } from "./video.js";
import { Watched, isSeenAt, secondsIn } from "./watched.js";

const REFRESH = 5000;
const REORDER = 3000;
const LOOK = 5000;
const REDRAW = 1000;
// How often it is asked for what stands below the number, ms: it grows slowly, and many pages ask.
const NOTES = 60_000;
// It is asked for within so long when visits were withdrawn, ms: all pages of the video ask.
const SOON = 1000;
// How often it is asked again where a node does not know why.
const TRIES = 5;
// Titles with more characters are shown smaller. The template has the same number.
const LONG = 40;

const main = element("content");
const heading = element("heading");
const cards = new Cards(element("videos"));
const page = new VideoView();
const storage = attempt(() => localStorage) ?? null;
const saved = new SavedCounters(storage);
const looks = new Looks();
const outbox = new Outbox({ storage });
const live = new Live(receive, (state) => {
  showConnection(state);
  if (state === "live") void outbox.send();
  else page.pauseRates();
});

/**
 * What the page knows of each video. least: visits known without counts, at the least; sent: the newest message; notes:
 * what stands below the number.
 * @type {Map<string, {counter: Counter, least: number | null, sent: Sent | null, notes: Notes}>}
 */
const known = new Map();
/** @type {View} */
let view = { video: null };
/** @type {string[]} */
let listed = cards.videos;
/** @type {string[]} */
let watched = [];
/** @type {ReturnType<typeof setTimeout> | undefined} */
let asking;

/** @param {string} video */
function knownOf(video) {
  const there = known.get(video);
  if (there) return there;
  const counter = new Counter(saved.counts(video), saved.withdrawn?.(video));
  const made = { counter, least: cards.visitsOf(video), sent: null, notes: {} };
  known.set(video, made);
  return made;
}

/**
 * How many visits a video has, as far as this page knows; null if it knows nothing.
 * @param {string} video
 */
function visitsOf(video) {
  const its = knownOf(video);
  const uncounted = outbox.uncounted(video);
  const visits = Math.max(Math.min(its.counter.visits + uncounted, Number.MAX_SAFE_INTEGER), its.least ?? 0, saved.floor(video));
  // Once a visit is sent, nobody can say whether a node's number includes it. So this number stays the least.
  if (uncounted) its.least = visits;
  return visits || its.least;
}

/** @param {Sent} sent */
function receive(sent) {
  if (sent.video === view.video) write(element("live-node"), sent.node);
  // A joining node knows only a part of the count. A part must not be shown as the whole.
  if (sent.visits === null) return;
  const its = knownOf(sent.video);
  const grew = its.counter.merge(sent.counts);
  const less = its.counter.withdraw?.(sent.withdrawn) ?? 0;
  its.least = Math.max(0, (its.least ?? 0) - less);
  its.sent = sent;
  its.notes = merged(its.notes, sent, sent.not_counted !== undefined);
  saved.merge(sent.video, sent.counts, sent.withdrawn);
  show(sent.video, grew.keys());
  if (less && sent.video === view.video && lacksReason(its)) askSoon();
}

/**
 * @param {string} video
 * @param {Iterable<string>} grew
 */
function show(video, grew = []) {
  const visits = visitsOf(video);
  if (visits === null) return;
  cards.show(video, visits);
  if (video !== view.video) return;
  page.show(visits, knownOf(video).counter, grew);
  // Its module may be an earlier version's, from another node.
  page.note?.(knownOf(video).notes);
  const { counter, sent, notes } = knownOf(video);
  page.correct?.(counter.withdrawn ?? 0, sent?.blocked ?? false, notes);
}

/** Ask for what stands below the number. */
async function askNotes(tries = 0) {
  const { video } = view;
  if (video === null) return;
  const said = await ask(`/count/${encodeURIComponent(video)}?detail`);
  if (!said) return;
  const its = knownOf(video);
  its.notes = merged(its.notes, said, true);
  show(video);
  // The node that was asked may not know the newest record yet.
  if (lacksReason(its) && tries < TRIES && video === view.video) askSoon(tries + 1);
}

/** Ask for it soon, but not when all others ask. */
function askSoon(tries = 0) {
  clearTimeout(asking);
  asking = setTimeout(() => void askNotes(tries), SOON * Math.random());
}

/**
 * Whether more visits were withdrawn than this page knows the reason of.
 * @param {{counter: Counter, notes: Notes}} its
 */
function lacksReason({ counter, notes }) {
  return (counter.withdrawn ?? 0) > (notes.withdrawn ?? 0);
}

/**
 * Draw a view from what the page knows. It needs no network.
 * @param {View} next
 */
function draw(next) {
  view = next;
  const { video } = view;
  const clip = video === null ? null : cards.clip(video);
  const title = video === null ? "Videos" : (clip?.title ?? video);
  main.dataset.view = video === null ? "front" : "video";
  write(heading, title);
  heading.classList.toggle("long", title.length > LONG);
  document.title = `${title} · Visits`;
  for (const id of ["back", "video", "more"]) element(id).hidden = video === null;
  element("open-video").hidden = video !== null;
  element("videos").setAttribute("aria-labelledby", video === null ? "heading" : "more");
  const home = document.querySelector("nav a[href='/']");
  if (video === null) home?.setAttribute("aria-current", "page");
  else home?.removeAttribute("aria-current");

  cards.order(listed, visitsOf, false);
  cards.leaveOut(video);
  page.open(video, clip);
  if (video !== null) show(video);
  watch();
}

/** Watch what is shown: one video, or those on the cards. */
function watch() {
  if (view.video !== null) {
    watched = [];
    return live.watch(liveAddress(view.video));
  }
  // Videos that only left the list need no new socket.
  if (cards.videos.every((video) => watched.includes(video))) return;
  // Videos that do not fit into one request get their numbers with the list.
  watched = (grouped(cards.videos)[0] ?? []).sort();
  live.watch(liveAddress(watched));
}

/**
 * Go to another view without loading a page. If it is a video, this is a visit, and the page counts it.
 * @param {View} next
 * @param {string} address
 */
function move(next, address) {
  // Like a browser: following a link to the same address adds nothing to the history.
  history[address === location.pathname ? "replaceState" : "pushState"](null, "", address);
  if (next.video !== null) {
    visit(next.video);
    if (!listed.includes(next.video)) listed = [...listed, next.video];
  }
  draw(next);
  void askNotes();
  if (next.video !== null && navigator.onLine) page.play();
  scrollTo(0, 0);
  heading.focus({ preventScroll: true });
}

/**
 * Count a visit.
 * @param {string} video
 */
function visit(video) {
  const before = visitsOf(video) ?? 0;
  knownOf(video).least = before + 1;
  saved.raise(video, before + 1);
  outbox.add(video);
}

/** If a number is larger than a node's, find out whether the cluster was wiped. */
async function look() {
  const doubtful = [...known].some(([video, { sent }]) => sent && (visitsOf(video) ?? 0) > (sent.visits ?? 0));
  const cluster = doubtful && saved.on ? await ask("/cluster") : null;
  if (cluster?.state !== "ready") return;
  const members = cluster.members.map((/** @type {{member: string}} */ { member }) => member);
  const gone = looks.look(strangers(saved.items(), members), Date.now());
  if (!gone.length) return;
  saved.forget(gone);
  forget([...known.keys()]);
}

/**
 * Forget everything about these videos except the newest message.
 * @param {string[]} videos
 */
function forget(videos) {
  for (const video of videos) {
    const sent = known.get(video)?.sent ?? null;
    const counter = new Counter(sent?.counts, sent?.withdrawn);
    known.set(video, { counter, least: 0, sent, notes: merged({}, sent ?? {}, false) });
    if (sent) saved.merge(video, sent.counts, sent.withdrawn);
  }
  draw(view);
}

function showWaiting() {
  const visits = outbox.waiting.length;
  element("waiting").hidden = visits === 0;
  const wait = visits === 1 ? "1 visit waits to be sent" : `${written(visits)} visits wait to be sent`;
  write(element("waiting"), visits ? wait : "");
}

document.addEventListener("click", (event) => {
  const link = event.target instanceof Element && event.target.closest("a");
  if (!link || !isPlain(event, link)) return;
  const next = viewAt(link.href);
  if (!next) return;
  event.preventDefault();
  move(next, new URL(link.href).pathname);
});

// Back and forward show a video that was visited before. That is no new visit.
addEventListener("popstate", () => {
  const next = viewAt(location.href);
  if (!next) return location.reload();
  draw(next);
  heading.focus({ preventScroll: true });
});

const form = /** @type {HTMLFormElement} */ (element("open-video"));
// Without this script the browser itself says what is wrong, in fewer words.
form.noValidate = true;
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (element("video-id"));
  const video = field.value.trim();
  const problem = complaint(video);
  write(element("video-id-problem"), problem);
  field.setAttribute("aria-invalid", String(problem !== ""));
  if (problem) return field.focus();
  field.value = "";
  move({ video }, addressOf(video));
});

const keep = element("keep");
const box = /** @type {HTMLInputElement} */ (keep.querySelector("input"));
keep.hidden = false;
box.checked = saved.on;
box.addEventListener("change", () => {
  saved.turn(box.checked);
  if (!box.checked) forget([...known.keys()]);
});
// What another tab forgets is forgotten here too.
addEventListener("storage", ({ key, newValue }) => {
  box.checked = saved.on;
  const video = newValue === null ? SavedCounters.videoAt(key) : null;
  if (video !== null && known.has(video)) forget([video]);
});

// The server counted the visit that loaded this page.
/** @type {Sent | null} */
const first = JSON.parse(element("video").dataset.counter ?? "null");
if (first && !listed.includes(first.video)) listed = [...listed, first.video];
draw({ video: first && first.video });
if (first) receive(first);
// Unless it is this page that counts it, once the video was played for so long.
const after = secondsIn(element("video").dataset.after ?? "") ?? 0;
if (first && after) {
  const isSeen = () => view.video === first.video && isSeenAt(element("player"));
  new Watched().wait(first.video, after, isSeen, () => {
    visit(first.video);
    show(first.video);
  });
} else if (first?.visits === null && visitsOf(first.video) === null) page.await();

outbox.onchange = showWaiting;
// The number shown includes the visit that was given up.
outbox.onended = (video) => {
  knownOf(video).least = 0;
  saved.lower(video);
  draw(view);
};
// A visit is shown at once; one that a node does not count is taken off as soon as it says so.
outbox.onuncounted = ({ video, own, here }) => {
  if (here) saved.lower(video, 1);
  const its = known.get(video);
  // Other tabs may have taken it into their numbers too, where they kept the floor. Counts hold what is true.
  if (its?.least && (own || its.sent)) its.least--;
  show(video);
  if (video === view.video) void askNotes();
};
outbox.start();
showWaiting();

whileSeen(REFRESH, async () => {
  const answer = view.video === null && navigator.onLine ? await ask("/top?limit=50") : null;
  if (!answer) return;
  listed = answer.counters.map((/** @type {Sent} */ { video }) => video);
  answer.counters.forEach(receive);
  element("joining").hidden = true;
});
whileSeen(REORDER, async () => {
  if (view.video !== null) return;
  cards.order(listed, visitsOf, true);
  watch();
});
whileSeen(LOOK, look);
whileSeen(NOTES, askNotes);
whileSeen(REDRAW, async () => page.drawRates());
