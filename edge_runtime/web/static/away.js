// Shown while the server is away: asks for it every few seconds, and goes on where it was.

const place = document.getElementById("away");
const wanted = location.pathname === "/away" ? "/" : location.href;

setInterval(() => {
  fetch(place.dataset.health, { cache: "no-store", signal: AbortSignal.timeout(2500) }).then((answer) => { if (answer.ok) location.replace(wanted); }, () => {});
}, 3000);
