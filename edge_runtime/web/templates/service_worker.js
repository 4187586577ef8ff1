// Keeps the page's own files and the page that says the server is away. No radiograph, answer or list is ever kept.
"use strict";

const FILES = {{ files | tojson }};
const AWAY = {{ away | tojson }};
const PATIENCE_MS = 3000;
const CACHE = "page-" + {{ (files[0] ~ language) | tojson }};

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE)
    .then((cache) => cache.addAll([...FILES, new Request(AWAY, { cache: "reload" })]))
    .then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(caches.keys()
    .then((names) => Promise.all(names.filter((name) => name.startsWith("page-") && name !== CACHE).map((name) => caches.delete(name))))
    .then(() => self.clients.claim()));
});

/** The page from the server. A host that is not there may leave a request hanging for minutes: it gets PATIENCE_MS. */
function page(request) {
  const patience = new Promise((_, reject) => { setTimeout(reject, PATIENCE_MS, new Error("no answer yet")); });
  return Promise.race([fetch(request), patience]);
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET") return;
  const path = new URL(request.url).pathname;
  if (FILES.includes(path)) {
    event.respondWith(caches.match(request).then((kept) => kept ?? fetch(request)));
  } else if (request.mode === "navigate" && !path.startsWith("/api/")) {
    event.respondWith(page(request).catch(() => caches.match(AWAY).then((kept) => kept ?? Response.error())));
  }
});
