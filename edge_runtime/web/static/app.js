// On every page: the lock after idle time, the menu, the service worker.

const ASK_BEFORE_MS = 60_000;
const PING_EVERY_MS = 60_000;

const idleMinutes = Number(document.body.dataset.idleMinutes);
if (idleMinutes) watchIdleness(idleMinutes * 60_000);

function watchIdleness(limit) {
  const dialog = document.getElementById("idle");
  let used = Date.now();
  let pinged = used;

  const use = () => {
    used = Date.now();
    if (dialog.open) dialog.close();
    if (used - pinged > PING_EVERY_MS) {
      pinged = used;
      fetch("/api/v1/health").catch(() => {}); // looking at an image is use too: the server should know
    }
  };
  for (const kind of ["pointerdown", "keydown", "wheel", "touchstart"]) {
    document.addEventListener(kind, () => { if (!dialog.open) use(); }, { passive: true });
  }
  document.getElementById("stay").addEventListener("click", use);
  dialog.addEventListener("cancel", use);
  setInterval(() => {
    const idle = Date.now() - used;
    if (idle >= limit) document.getElementById("lock").click();
    else if (idle >= limit - Math.min(ASK_BEFORE_MS, limit / 2) && !dialog.open) dialog.showModal();
  }, Math.min(1000, limit / 10));
}

document.querySelector(".places [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

const menu = document.querySelector(".menu");
document.addEventListener("click", (event) => { if (menu?.open && !menu.contains(event.target)) menu.open = false; });
menu?.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !menu.open) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

if (navigator.serviceWorker) {
  // The policy of the page lets one address through, and nothing else ever becomes a script.
  const address = "/service-worker.js";
  const policy = window.trustedTypes?.createPolicy("service-worker", {
    createScriptURL: (wanted) => { if (wanted !== address) throw new TypeError(wanted); return wanted; },
  });
  navigator.serviceWorker.register(policy ? policy.createScriptURL(address) : address).catch(() => {});
}
