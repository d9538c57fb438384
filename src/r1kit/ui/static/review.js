// The queue of a review. Decisions go through the outbox (outbox.js); what is typed is kept in this browser at
// once, and on the server a moment later.
"use strict";

const draftKey = () => `r1-review-draft:${base}:${desk().dataset.item}:${desk().dataset.by}`;
let shownAt = performance.now(); // when the item came, or the page was last hidden and shown again
let spent = 0; // milliseconds on this item before that
let checkNumber = 0;
let checkTimer = null;
let draftTimer = null;
let original = "";

async function saved(decision, value) {
  if (decision.action !== "undo" && decision.action !== "skip") {
    forget(`r1-review-draft:${base}:${decision.item}:${decision.by}`);
  }
  const isShown = decision.action === "undo" || decision.item === desk().dataset.item;
  if (isShown) await go(decision.action === "undo" ? value.item : null);
}

function refuse(value) {
  const place = byId("refusal");
  if (!place) return say(value.error || "The server refused the decision.");
  place.textContent = value.error || "The server refused the decision.";
  place.hidden = false;
  if (value.overridable) byId("override").hidden = false;
}

function decide(action, more = {}) {
  if (desk().dataset.busy) return;
  desk().dataset.busy = "1";
  setTimeout(() => delete desk().dataset.busy, 300); // a key held down
  const seconds = (spent + (document.hidden ? 0 : performance.now() - shownAt)) / 1000;
  const { item = "", by } = desk().dataset;
  const required = desk().dataset.required === "1";
  const decision = { id: newId(), by, action, item: action === "undo" ? "" : item, seconds, required, ...more };
  if (outbox().some((other) => other.item && other.item === decision.item)) {
    say("Your earlier decision on this item is kept in this browser, and not saved yet; wait for it.");
    return;
  }
  keep([...outbox(), decision]);
  if (byId("refusal")) byId("refusal").hidden = true;
  busy(true);
  flush();
}

// --- the next item, without a new page -------------------------------------------------------------------
async function go(item) {
  const address = item ? `${base}?item=${encodeURIComponent(item)}` : base;
  for (;;) {
    try {
      const answer = await fetch(address, { signal: AbortSignal.timeout(30_000) });
      if (answer.status >= 400 && answer.status < 500) return location.assign(address); // it says why
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("desk");
      if (!answer.ok || !fresh) throw new Error();
      say("");
      desk().replaceWith(fresh);
      break;
    } catch {
      say("Saved. The server is away; the next item comes as soon as it is back.");
      await new Promise((resolve) => setTimeout(resolve, 1500));
    }
  }
  if (desk().dataset.item) history.replaceState(null, "", `${base}?item=${encodeURIComponent(desk().dataset.item)}`);
  scrollTo(0, 0);
  byId("main").focus({ preventScroll: true });
  if (byId("saved")) byId("saved").textContent = "Saved";
  begin();
}

// --- the editor ------------------------------------------------------------------------------------------
function openEditor(text) {
  byId("editor").hidden = false;
  if (text !== undefined) {
    byId("text").value = text;
    typed();
  }
  fit();
  byId("text").focus();
  byId("text").setSelectionRange(0, 0);
  check();
}

function closeEditor() {
  byId("editor").hidden = true;
  byId("text").blur();
  check();
}

function fit() {
  const area = byId("text");
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 4, innerHeight * 0.6)}px`;
}

function typed() {
  const isKept = remember(draftKey(), { text: byId("text").value, at: Date.now() / 1000 });
  byId("draft-saved").textContent = isKept ? "kept in this browser" : "";
  clearTimeout(checkTimer);
  checkTimer = setTimeout(check, 350);
  clearTimeout(draftTimer);
  draftTimer = setTimeout(sendDraft, 800);
}

async function sendDraft(options) {
  clearTimeout(draftTimer);
  draftTimer = null;
  const { item, by } = desk().dataset;
  const body = { by, item, text: byId("text").value };
  try {
    const answer = await post("draft", body, options);
    if (desk().dataset.item !== item) return;
    byId("draft-saved").textContent = answer.status === 200 ? "draft saved" : answer.value.error || "kept in this browser";
  } catch {
    if (desk().dataset.item !== item) return;
    byId("draft-saved").textContent = "kept in this browser; the server is away";
    draftTimer = setTimeout(sendDraft, 5000);
  }
}

async function check() {
  const number = ++checkNumber;
  const { item, by } = desk().dataset;
  const text = byId("editor").hidden ? original : byId("text").value;
  let answer;
  try { answer = await post("check", { by, item, text }); } catch { return; }
  if (number !== checkNumber || answer.status !== 200 || desk().dataset.item !== item) return;
  const { lines, forbidding, of_style: ofStyle } = answer.value;
  byId("checks").replaceChildren(...lines.map((line) => {
    const row = document.createElement("div");
    const name = document.createElement("dt");
    const found = document.createElement("dd");
    name.textContent = line.name;
    found.textContent = line.found + (line.right === null ? "" : line.right ? " ✓" : " ✗");
    found.className = line.right === null ? "" : line.right ? "right" : "wrong";
    row.append(name, found);
    return row;
  }));
  mark("left", answer.value.left, "del");
  mark("right", answer.value.right, "ins");
  const isOpen = !byId("editor").hidden;
  byId("override").hidden = !isOpen || !ofStyle.length || forbidding.length > 0;
}

// the differences to the raw completion, as they are now
function mark(side, pieces, tag) {
  const place = byId(`${side}-text`);
  if (!place || !pieces.length) return;
  byId("unmarked").hidden = pieces[0][0] !== "unmarked";
  place.replaceChildren(...pieces.map(([kind, text]) => {
    if (kind !== "only") return document.createTextNode(text);
    const marked = document.createElement(tag);
    marked.textContent = text;
    return marked;
  }));
}

// an edit that was closed must not be lost by the key that accepts the text as it was
function accept() {
  if (byId("text").value !== original && !desk().dataset.asked) {
    desk().dataset.asked = "1";
    refuse({ error: "You have edited this text. Ctrl Enter in the editor (e) saves your edit; a once more accepts the original." });
  } else {
    decide("accept");
  }
}

function saveEdit() {
  decide("edit", { text: byId("text").value, override: byId("override").hidden ? "" : byId("override-reason").value });
}

// --- one item --------------------------------------------------------------------------------------------
function begin() {
  spent = 0;
  shownAt = performance.now();
  const data = desk().dataset;
  data.ready = "1"; // keys work from here on
  if (!data.item) return;
  if (data.kind !== "response") return;
  original = byId("text").value;
  const local = recall(draftKey());
  const draft = [{ text: data.draft, at: Number(data.draftAt) }, local ?? { text: "", at: 0 }].sort((a, b) => b.at - a.at)[0];
  if (draft.at > Number(data.decidedAt) && draft.text !== original) {
    byId("draft-note").textContent = `Your draft of ${new Date(draft.at * 1000).toLocaleString()} is here again.`;
    byId("draft-note").hidden = false;
    byId("text").value = draft.text;
    byId("editor").hidden = false;
    fit();
    check();
  }
}

const actions = {
  accept,
  skip: () => decide("skip"),
  undo: () => decide("undo"),
  prefer: (button) => decide("prefer", { value: Number(button.dataset.value) }),
  label: (button) => decide("label", { value: Number(button.dataset.value) }),
  "open-editor": () => openEditor(),
  "use-text": (button) => openEditor(button.dataset.text),
  "open-reject": () => byId("reject-dialog").showModal(),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.aside) settleAside(button);
  if (button.dataset.action) actions[button.dataset.action](button);
  if (button.dataset.reason) reject(button.dataset.reason);
  if (button.id === "reject-cancel") byId("reject-dialog").close();
  if (button.id === "save-edit") saveEdit();
  if (button.id === "close-editor") closeEditor();
  if (button.id === "reset-text") openEditor(original);
});

function reject(reason) {
  byId("reject-dialog").close();
  decide("reject", { reason });
}

document.addEventListener("submit", (event) => {
  if (event.target.id !== "reject-form") return;
  event.preventDefault();
  const reason = byId("reject-reason").value.trim();
  if (reason) reject(reason);
  else byId("reject-reason").focus();
});

document.addEventListener("input", (event) => { if (event.target.id === "text") { fit(); typed(); } });

// before the page's own keys: an open dialog has only its own, and the editor two
document.addEventListener("keydown", (event) => {
  const isTyped = event.target.closest?.("input, textarea, select");
  if (event.repeat && !isTyped && !/^[jk]$/.test(event.key)) event.stopImmediatePropagation(); // a key held down
  const dialogIsOpen = byId("reject-dialog")?.open;
  if (dialogIsOpen && !/^[1-9]$/.test(event.key)) event.stopImmediatePropagation();
  if (event.target.id === "text" || event.target.id === "override-reason") {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) saveEdit();
    if (event.key === "Escape") closeEditor();
  }
}, true);

// time is counted while the page can be seen
document.addEventListener("visibilitychange", () => {
  if (document.hidden) spent += performance.now() - shownAt;
  else shownAt = performance.now();
});
addEventListener("pagehide", () => { if (draftTimer) sendDraft({ keepalive: true }); });
addEventListener("online", flush);
// an item that is read for long stays on this desk
setInterval(() => {
  const { item, kind } = desk().dataset;
  if (item && !document.hidden && kind === "response") check();
  else if (item && !document.hidden) post("check", { by: desk().dataset.by, item, text: "" }).catch(() => {});
}, 120_000);

begin();
showAside();
flush();
