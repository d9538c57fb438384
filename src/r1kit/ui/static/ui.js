// Keys, the theme, and parts of pages that follow their files. All content comes from the server as HTML.
"use strict";

// --- theme -----------------------------------------------------------------------------------------------
const dark = matchMedia("(prefers-color-scheme: dark)");
document.getElementById("theme-button").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("r1-theme", next);
});

// --- keys ------------------------------------------------------------------------------------------------
const dialog = document.getElementById("keys-dialog");
document.getElementById("keys-button").addEventListener("click", () => dialog.showModal());

const isTyping = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;
const rows = () => [...document.querySelectorAll("a.open, button.open")].filter((row) => row.offsetParent);

function moveRow(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1);
  all[next].focus();
  all[next].scrollIntoView({ block: "nearest" });
}

function up() {
  const link = document.querySelector("[data-up]");
  const parent = location.pathname.replace(/\/[^/]+\/?$/, "") || "/";
  location.href = link ? link.getAttribute("href") : parent === "/runs" ? "/" : parent;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || dialog.open) return;
  const actions = {
    j: () => moveRow(1),
    k: () => moveRow(-1),
    u: up,
    "/": () => document.querySelector("[data-search]")?.focus(),
    "?": () => dialog.showModal(),
  };
  // a page's own keys: <button data-key="a">; they come first
  const own = [...document.querySelectorAll("[data-key]")].find(
    (element) => element.dataset.key === event.key && element.offsetParent && !element.disabled,
  );
  if (own) {
    event.preventDefault();
    own.click();
  } else if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
});

// --- live parts ------------------------------------------------------------------------------------------
// <div id="..." data-events="URL">: whenever URL sends `changed`, the element is fetched anew from this page's
// address (or data-source) and swapped, unless someone is typing in it or has selected text in it.
function follow(element) {
  let timer = null;
  let waiting = false;
  let source = null;
  const refresh = async () => {
    timer = null;
    const live = document.getElementById(element.id);
    if (live !== element) return element.stopFollowing();
    const selection = getSelection();
    const busy = live.contains(document.activeElement) && isTyping(document.activeElement);
    if (document.hidden || busy || (!selection.isCollapsed && live.contains(selection.anchorNode))) {
      waiting = true;
      return;
    }
    waiting = false;
    const answer = await fetch(live.dataset.source || location.href, { headers: { "x-r1-live": "1" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(live.id);
    if (!fresh) return;
    const focused = rows().indexOf(document.activeElement);
    const opened = [...live.querySelectorAll("details")].map((d) => d.open);
    fresh.querySelectorAll("details").forEach((d, i) => { if (i in opened) d.open = opened[i]; });
    for (const [name, value] of Object.entries(fresh.dataset)) live.dataset[name] = value;
    live.replaceChildren(...fresh.childNodes);
    htmx.process(live);
    if (focused >= 0) rows()[focused]?.focus({ preventScroll: true });
    live.dispatchEvent(new CustomEvent("r1:refreshed", { bubbles: true }));
  };
  // a browser has six connections to a server for all its pages: one that nobody looks at gives its own back
  const listen = () => {
    source ??= new EventSource(element.dataset.events);
    source.addEventListener("changed", () => { timer ??= setTimeout(refresh, 300); });
  };
  const silence = () => { source?.close(); source = null; };
  const look = () => {
    if (document.hidden) return silence();
    if (!source) { listen(); waiting = true; }
    if (waiting) refresh();
  };
  const retry = () => setTimeout(() => { if (waiting) refresh(); }, 200);
  element.stopFollowing = () => {
    silence();
    document.removeEventListener("visibilitychange", look);
    document.removeEventListener("focusout", retry);
  };
  document.addEventListener("visibilitychange", look);
  document.addEventListener("focusout", retry);
  addEventListener("pagehide", silence);
  if (!document.hidden) listen();
}
const followAll = () => [...document.querySelectorAll("[data-events]")].filter((one) => !one.stopFollowing).forEach(follow);
followAll();
document.body.addEventListener("htmx:afterSwap", followAll);
document.body.addEventListener("htmx:beforeCleanupElement", (event) => event.detail.elt.stopFollowing?.());

// --- small things ----------------------------------------------------------------------------------------
// errors of htmx requests are pages with a sentence: show them where the answer would have gone
document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status >= 400) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});
// <button data-copy="text">
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(new URL(button.dataset.copy, location.href).href);
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1200);
});
