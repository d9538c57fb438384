// Decisions on their way. One is kept in this browser until the server says that it is on disk, and sent again
// until then. One that the server will never take is set aside, and shown until the reviewer has dealt with it.
"use strict";

const desk = () => document.getElementById("desk");
const byId = (id) => document.getElementById(id);
const base = desk().dataset.base;
const outboxKey = `r1-review-outbox:${base}`;
const asideKey = `r1-review-aside:${base}`;
const outbox = () => recall(outboxKey) ?? [];
const keep = (list) => remember(outboxKey, list);
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

// the browser's store; for what it does not take (it is full, or forbidden), this page's memory
const memory = {};
function remember(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    delete memory[key];
    return true;
  } catch {
    memory[key] = value;
    return false;
  }
}
function recall(key) {
  if (key in memory) return memory[key];
  try { return JSON.parse(localStorage.getItem(key)) ?? null; } catch { return null; }
}
function forget(key) {
  delete memory[key];
  try { localStorage.removeItem(key); } catch { /* nothing was kept */ }
}

let sending = false;
let retrySeconds = 1;
let retryTimer = null;
let numFaults = 0; // answers 500 to the same decision

async function post(what, body, options = {}) {
  const headers = { "content-type": "application/json", accept: "application/json" };
  const answer = await fetch(`${base}/${what}`, { method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.timeout(30_000), ...options });
  const text = await answer.text();
  let value = {};
  try { value = JSON.parse(text); } catch { /* a proxy's page */ }
  return { status: answer.status, value };
}

function say(text) {
  byId("away").textContent = text;
  byId("away").hidden = !text;
}

function busy(isBusy) {
  document.querySelectorAll(".bar button, #save-edit").forEach((button) => { button.disabled = isBusy; });
  if (byId("saved")) byId("saved").textContent = isBusy ? "Saving…" : "";
}

// Sends what is in the outbox, oldest first; never two at once.
async function flush() {
  if (sending) return;
  sending = true;
  clearTimeout(retryTimer);
  try {
    for (let list = outbox(); list.length; list = outbox()) {
      const decision = list[0];
      let answer = null;
      try { answer = await post("decide", decision); } catch { /* no server */ }
      numFaults = answer?.status === 500 ? numFaults + 1 : 0;
      if (isPassing(answer)) {
        waitFor(list.length, answer);
        return;
      }
      retrySeconds = 1;
      numFaults = 0;
      say("");
      if (answer.status === 200) {
        take([decision]);
        await saved(decision, answer.value);
      } else {
        refused(decision, answer);
      }
    }
  } finally {
    sending = false;
  }
}

// whether the same decision may be taken later: no server, a stage at work, a file that is being mended, or
// the token that is missing
function isPassing(answer) {
  if (!answer) return true;
  if (answer.status === 500) return numFaults < 5; // a full disk may pass, a fault of the server does not
  return answer.status > 500 || [401, 403, 408, 425, 429].includes(answer.status);
}

function waitFor(num, answer) {
  let why = answer?.value.error || "The server is away.";
  if (answer?.status === 401 || answer?.status === 403) why += " Open the address with its token again.";
  say(`${why} ${num} decision${num > 1 ? "s are" : " is"} kept in this browser, and sent again until saved.`);
  retryTimer = setTimeout(flush, 1000 * retrySeconds);
  retrySeconds = Math.min(retrySeconds * 2, 8);
}

const take = (decisions) => keep(outbox().filter((other) => !decisions.some((one) => one.id === other.id)));

function refused(decision, answer) {
  const error = answer.value.error || `The server refused the decision (${answer.status}).`;
  const isShown = decision.item === desk().dataset.item || decision.action === "undo";
  busy(false);
  delete desk().dataset.busy;
  if (isShown && (answer.status === 409 || answer.status === 422)) {
    take([decision]); // the reviewer has it before them, and an edit in the editor
    refuse({ ...answer.value, error });
    return;
  }
  const undo = undoOf(decision);
  if (undo) {
    take([decision, undo]);
    say(`${error} You had undone that decision, so nothing of it is left to be saved.`);
    return;
  }
  remember(asideKey, [...setAside(), { decision, error }]);
  take([decision]);
  showAside();
}

// the undo in the outbox that was meant for a decision: alone, it would undo the one before
function undoOf(decision) {
  if (decision.action === "undo") return null;
  let depth = 0;
  for (const other of outbox().slice(outbox().findIndex((one) => one.id === decision.id))) {
    if (other.by !== decision.by) continue;
    depth += other.action === "undo" ? -1 : 1;
    if (depth === 0) return other;
  }
  return null;
}

const setAside = () => recall(asideKey) ?? [];

function showAside() {
  const list = setAside();
  byId("aside").hidden = !list.length;
  byId("aside").replaceChildren(...list.map(({ decision, error }) => {
    const row = document.createElement("div");
    const { id, action, item, text, reason } = decision;
    const words = document.createElement("p");
    words.textContent = `Not saved: ${action} ${item}${reason ? ` (${reason})` : ""}. ${error}`;
    row.append(words);
    if (text) {
      const more = document.createElement("details");
      const name = document.createElement("summary");
      const shown = document.createElement("pre");
      name.textContent = "The text";
      shown.textContent = text;
      more.append(name, shown);
      row.append(more);
    }
    for (const [what, label] of [["again", "Try again"], ["drop", "Drop it"]]) {
      if (what === "again" && action === "undo") continue; // by now it may undo another decision
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.dataset.aside = what;
      button.dataset.id = id;
      row.append(button, " ");
    }
    return row;
  }));
}

function settleAside(button) {
  const found = setAside().find(({ decision }) => decision.id === button.dataset.id);
  remember(asideKey, setAside().filter((other) => other.decision.id !== button.dataset.id));
  showAside();
  if (!found || button.dataset.aside !== "again") return;
  keep([...outbox(), found.decision]);
  flush();
}
