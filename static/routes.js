// @ts-check

import { isVideo } from "./counter.js";

/**
 * A view of the site: the front, or a video.
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
  const id = decoded(video);
  return isVideo(id) ? { video: id } : null;
}

/**
 * Where a video's page is.
 * @param {string} video
 */
export function addressOf(video) {
  return `/video/${encodeURIComponent(video)}`;
}

/**
 * Whether a click asks for this page to move, and not for a new tab, a download or a menu.
 * @param {Pick<MouseEvent, "button" | "metaKey" | "ctrlKey" | "shiftKey" | "altKey" | "defaultPrevented">} click
 * @param {{target: string, hasAttribute: (name: string) => boolean}} link
 */
export function isPlain(click, link) {
  if (click.defaultPrevented || click.button !== 0) return false;
  if (click.metaKey || click.ctrlKey || click.shiftKey || click.altKey) return false;
  return (link.target === "" || link.target === "_self") && !link.hasAttribute("download");
}

/**
 * What is wrong with this id, in words for whoever typed it; empty when nothing is.
 * @param {string} video
 */
export function complaint(video) {
  if (isVideo(video) && video !== "." && video !== "..") return "";
  if (video === "") return "Type the id of a video, for example cats.";
  if (video.length > 128) return `An id has up to 128 characters; this one has ${video.length}.`;
  const strange = [...new Set(video)]
    .filter((letter) => !isVideo(letter))
    .map((letter) => (letter.trim() ? `“${letter}”` : "spaces"));
  if (strange.length === 0) return "Browsers take “.” and “..” for folders; please choose another id.";
  return `An id is made of the letters A to Z, digits and . _ ~ - and cannot hold ${strange.join(" or ")}.`;
}

/** @param {string} part of an address; `%` may stand in it for no letter at all */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}
