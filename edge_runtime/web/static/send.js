// Sends one file to the API and resolves to its answer; waits and tries again while the model is busy.

import { csrfToken, loggedOut } from "./ask.js";
import { t } from "./words.js";

const LONGEST_WAIT_MS = 5 * 60 * 1000;

/** An answer that the page gives itself, in the shape of the API's. */
function ownAnswer(reason, message, remedy) {
  return { status: "error", reason, message, remedy, own: true };
}

/**
 * @param {File} file
 * @param {{address: string, maxBytes: number}} settings
 * @param {import("./card.js").Card} card told of the progress; its `signal` ends the attempt
 * @returns {Promise<object|null>} the answer, or null when the card was discarded
 */
export async function sendRadiograph(file, settings, card) {
  if (file.size > settings.maxBytes) {
    const limit = Math.floor(settings.maxBytes / 1048576);
    return ownAnswer("too_large", t("The file is larger than {limit} MiB.", { limit }),
      t("Send one radiograph without other series or attachments."));
  }
  const giveUpAt = Date.now() + LONGEST_WAIT_MS;
  while (!card.signal.aborted) {
    const { code, answer, retryAfter } = await attempt(file, settings, card);
    if (code !== 503 || Date.now() > giveUpAt) return answer;
    card.showStage(t("The model is busy; this file is next in line"));
    await pause(retryAfter * 1000, card.signal);
  }
  return null;
}

function attempt(file, settings, card) {
  return new Promise((resolve) => {
    const form = new FormData();
    form.append("file", file, file.name);
    const request = new XMLHttpRequest(); // fetch() reports no upload progress
    request.open("POST", settings.address);
    request.responseType = "json";
    if (csrfToken) request.setRequestHeader("X-CSRFToken", csrfToken);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) card.showUploaded(event.loaded / event.total);
    });
    request.upload.addEventListener("load", () => card.showStage(t("Reading")));
    request.addEventListener("load", () => {
      if (request.status === 401) loggedOut();
      resolve({
        code: request.status,
        answer: request.response ?? ownAnswer("no_answer", t("The runtime sent no answer that this page understands."),
          t("Reload the page and try again.")),
        retryAfter: Number(request.getResponseHeader("Retry-After")) || 2,
      });
    });
    request.addEventListener("error", () => resolve({
      code: 0,
      answer: ownAnswer("unreachable", t("The runtime cannot be reached."),
        t("See that `edge-runtime serve` is still running and the network is up, then try again.")),
    }));
    request.addEventListener("abort", () => resolve({ code: 0, answer: null }));
    card.signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
