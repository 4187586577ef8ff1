// Keeps the page on the phone and answers for it in flight mode. Everything it serves was checked against its SHA-256,
// and carries the headers of the page's security policy, so that they hold on a plain file server too.

// Written by `python -m mobile_demo.web`: {"files": [{path, bytes, sha256, type, shell}], "headers": {name: value}}
const SITE = null;

const SCOPE = new URL(self.registration.scope);
const CACHE = `cxr-mobile ${SCOPE.pathname}`; // loading.js keeps the large files in the same cache
const FILES = new Map(SITE.files.map((entry) => [entry.path, entry]));
const keyOf = ({ path, sha256 }) => new URL(`${path}?sha256=${sha256}`, SCOPE).href;

self.addEventListener("install", (event) => event.waitUntil(keepShell()));

self.addEventListener("activate", (event) => event.waitUntil(Promise.all([removeOld(), self.clients.claim()])));

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== SCOPE.origin || !url.pathname.startsWith(SCOPE.pathname)) return;
  event.respondWith(answer(url.pathname.slice(SCOPE.pathname.length) || "index.html"));
});

async function keepShell() {
  const cache = await caches.open(CACHE);
  for (const entry of SITE.files.filter((file) => file.shell)) {
    if (!(await cache.match(keyOf(entry)))) await cache.put(keyOf(entry), new Response(await fetchChecked(entry)));
  }
}

async function removeOld() {
  const cache = await caches.open(CACHE);
  const wanted = new Set(SITE.files.map(keyOf));
  for (const request of await cache.keys()) if (!wanted.has(request.url)) await cache.delete(request);
}

async function answer(path) {
  const entry = FILES.get(path);
  if (!entry) return new Response("There is no such file here.\n", { status: 404, headers: SITE.headers });
  const cache = await caches.open(CACHE);
  const kept = await cache.match(keyOf(entry));
  const headers = { ...SITE.headers, "Content-Type": entry.type, "Content-Length": String(entry.bytes) };
  if (kept) return new Response(kept.body, { headers });
  // Large files are checked, and kept, by the page that asked for them: it shows how far they are.
  if (!entry.shell) return fetch(new URL(path, SCOPE), { cache: "no-cache" });
  return new Response(await fetchChecked(entry), { headers });
}

async function fetchChecked(entry) {
  const response = await fetch(new URL(entry.path, SCOPE), { cache: "no-cache" });
  const buffer = await response.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", buffer));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (!response.ok || found !== entry.sha256) throw new Error(`${entry.path} is not the file that was written for this site`);
  return buffer;
}
