// The large files (runtime, model, golden vectors): fetched once with progress, checked against their SHA-256, kept
// in the browser's cache under that hash, and checked again each time they are taken out.

import { Failure } from "./refusal.js";

/**
 * The service worker (service_worker.js) keeps its files in the same cache under the same keys.
 * @typedef {{path: string, bytes: number, sha256: string}} FileEntry
 */
const CACHE = `cxr-mobile ${new URL("./", document.baseURI).pathname}`;
const keyOf = ({ path, sha256 }) => new URL(`${path}?sha256=${sha256}`, document.baseURI).href;

const GET_AGAIN = "Load the page again on a network; if it stays so, the site has to be written anew.";

async function sha256(buffer) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", buffer));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {FileEntry} entry
 * @param {(bytes: number) => void} onProgress told of the bytes that are there so far
 * @returns {Promise<ArrayBuffer>} checked
 */
export async function loadFile(entry, onProgress = () => {}) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(keyOf(entry));
  if (kept) {
    const buffer = await kept.arrayBuffer();
    if (buffer.byteLength === entry.bytes && (await sha256(buffer)) === entry.sha256) {
      onProgress(entry.bytes);
      return buffer;
    }
    await cache.delete(keyOf(entry)); // damaged on this phone: fetched again below, never used
  }
  const buffer = await download(entry, onProgress);
  if ((await sha256(buffer)) !== entry.sha256) {
    throw new Failure(`${entry.path} is not the file that the bundle vouches for (its SHA-256 differs).`, GET_AGAIN);
  }
  try {
    await cache.put(keyOf(entry), new Response(buffer.slice(0), { headers: { "Content-Length": String(entry.bytes) } }));
  } catch (error) {
    throw new Failure(`There is no room to keep ${entry.path} on this phone (${error.name}).`, "Free some storage and load the page again.");
  }
  return buffer;
}

/** Which of the entries are kept on this phone already. */
export async function areKept(entries) {
  const cache = await caches.open(CACHE);
  const found = await Promise.all(entries.map((entry) => cache.match(keyOf(entry))));
  return found.every(Boolean);
}

async function download(entry, onProgress) {
  let response;
  try {
    response = await fetch(entry.path, { cache: "no-cache" });
  } catch {
    throw new Failure(`${entry.path} cannot be reached.`, "Connect once to a network; afterwards the page works without one.");
  }
  if (!response.ok) throw new Failure(`${entry.path} cannot be loaded (HTTP ${response.status}).`, GET_AGAIN);
  const bytes = new Uint8Array(entry.bytes);
  let place = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Failure(`The download of ${entry.path} broke off.`, "Load the page again; what is complete is kept.");
    });
    if (done) break;
    if (place + value.length > entry.bytes) {
      await reader.cancel();
      throw new Failure(`${entry.path} is longer than the bundle says.`, GET_AGAIN);
    }
    bytes.set(value, place);
    place += value.length;
    onProgress(place);
  }
  if (place !== entry.bytes) {
    throw new Failure(`${entry.path} is truncated: ${place} of ${entry.bytes} bytes.`, GET_AGAIN);
  }
  return bytes.buffer;
}
