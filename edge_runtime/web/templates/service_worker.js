// Keeps the page's own files and the page that says the server is away. No radiograph, answer or list is ever kept.
"use strict";

const FILES = {{ files | tojson }};
const AWAY = {{ away | tojson }};
const CACHE = "page-" + {{ (files[0] ~ language) | tojson }};

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE)
    .then((cache) => cache.addAll([...FILES, new Request(AWAY, { cache: "reload" })]))
    .then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(caches.keys()
    .then((names) => Promise.all(names.filter((name) => name !== CACHE).map((name) => caches.delete(name))))
    .then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET") return;
  if (FILES.includes(new URL(request.url).pathname)) {
    event.respondWith(caches.match(request).then((kept) => kept ?? fetch(request)));
  } else if (request.mode === "navigate") {
    event.respondWith(fetch(request).catch(() => caches.match(AWAY).then((kept) => kept ?? Response.error())));
  }
});
