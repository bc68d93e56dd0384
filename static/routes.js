// @ts-check

import { isVideo } from "./counter.js";
import { attempt } from "./dom.js";

// A node sends up to 100 counters on one connection, and servers refuse request lines of more than 4 KB.
const MAX_VIDEOS = 100;
const MAX_ADDRESS = 3800;

/**
 * A view of the site: the front page, or a video.
 * @typedef {{video: string | null}} View
 */

/**
 * The view that an address of this site shows, or null for any other address.
 * @param {string} address
 * @param {{origin: string}} place
 * @returns {View | null}
 */
export function viewAt(address, place = location) {
  const { origin, pathname, search } = new URL(address, place.origin);
  if (origin !== place.origin || search) return null;
  if (pathname === "/") return { video: null };
  const [, video] = /^\/video\/([^/]+)$/.exec(pathname) ?? [];
  if (video === undefined) return null;
  // A malformed address may hold a `%` without hex digits.
  const id = attempt(() => decodeURIComponent(video)) ?? "";
  return isVideo(id) ? { video: id } : null;
}

/**
 * The address of a video's page.
 * @param {string} video
 */
export function addressOf(video) {
  return `/video/${encodeURIComponent(video)}`;
}

/**
 * Videos in groups that are small enough for one request each.
 * @param {string[]} videos
 * @returns {string[][]}
 */
export function grouped(videos) {
  /** @type {string[][]} */
  const groups = [];
  let room = 0;
  for (const video of videos) {
    const length = "&video=".length + video.length;
    const last = groups.at(-1);
    if (last && last.length < MAX_VIDEOS && length <= room) last.push(video);
    else {
      groups.push([video]);
      room = MAX_ADDRESS;
    }
    room -= length;
  }
  return groups;
}

/**
 * Whether a click follows a link within this page, rather than asking for a new tab, a download or a menu.
 * @param {Pick<MouseEvent, "button" | "metaKey" | "ctrlKey" | "shiftKey" | "altKey" | "defaultPrevented">} click
 * @param {{target: string, hasAttribute: (name: string) => boolean}} link
 */
export function isPlain(click, link) {
  if (click.defaultPrevented || click.button !== 0) return false;
  if (click.metaKey || click.ctrlKey || click.shiftKey || click.altKey) return false;
  return (link.target === "" || link.target === "_self") && !link.hasAttribute("download");
}

/**
 * What is wrong with an id, in words for the person who typed it; empty if nothing is.
 * @param {string} video
 */
export function complaint(video) {
  if (isVideo(video)) return "";
  if (video === "") return "Type the id of a video, for example cats.";
  if (video.length > 128) return `An id has up to 128 characters; this one has ${video.length}.`;
  const strange = [...new Set(video)]
    .filter((letter) => !isVideo(`a${letter}`))
    .map((letter) => (letter.trim() ? `“${letter}”` : "spaces"));
  if (strange.length === 0) return "Browsers take “.” and “..” for folders; please choose another id.";
  return `An id is made of the letters A to Z, digits and . _ ~ - and cannot hold ${strange.join(" or ")}.`;
}
