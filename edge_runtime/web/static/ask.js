// Requests to the API: the session's token goes along; who is logged out is sent to the login.

import { t } from "./words.js";

export const csrfToken = document.querySelector('meta[name="csrf-token"]')?.content ?? "";

export function loggedOut() {
  location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
}

/**
 * @param {string} address
 * @param {{method?: string, body?: object, background?: boolean, signal?: AbortSignal}} [options] `background`: the
 *   page asks by itself; nobody need be there
 * @returns {Promise<any>} the JSON body; null of 204
 * @throws {Error} with the API's own message, or what kept it from answering, in the page's language
 */
export async function ask(address, { method = "GET", body, background = false, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (csrfToken) headers["X-CSRFToken"] = csrfToken;
  if (body) headers["Content-Type"] = "application/json";
  if (background) headers["X-Background"] = "1";
  const response = await fetch(address, { method, headers, signal, body: body && JSON.stringify(body) }).catch((error) => {
    throw error.name === "AbortError" ? error : new Error(t("The runtime cannot be reached."));
  });
  if (response.status === 401) loggedOut();
  if (response.status === 204) return null;
  const answer = await response.json().catch((error) => {
    throw error.name === "AbortError" ? error : new Error(t("The runtime sent no answer that this page understands."));
  });
  if (!response.ok) throw new Error([answer.message ?? String(response.status), answer.remedy].filter(Boolean).join(" "));
  return answer;
}
