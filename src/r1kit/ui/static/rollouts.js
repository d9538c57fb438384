// Keys that switch filters, shades of tokens, and the row that was in focus while the list grows.
"use strict";

// --- filters by key ----------------------------------------------------------------------------------------
const filters = document.getElementById("filters");
const switches = { r: ["right", "right"], w: ["right", "wrong"], b: ["mixed", "yes"], t: ["truncated", "yes"], m: ["malformed", "yes"] };

function toggle(name, value) {
  const field = filters.elements[name];
  if (field.type === "checkbox") field.checked = !field.checked;
  else field.value = field.value === value ? "" : value;
  field.dispatchEvent(new Event("change", { bubbles: true }));
}

if (filters) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || dialog.open) return;
    const found = switches[event.key];
    if (!found) return;
    event.preventDefault();
    toggle(...found);
  });
  // Enter or Escape in a field leaves it, so that j and k walk through what was found
  filters.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && isTyping(event.target)) event.target.blur();
  });
}

// --- the list is replaced while a search goes on -------------------------------------------------------------
let focused = null;
document.body.addEventListener("htmx:beforeSwap", () => {
  focused = document.activeElement?.closest("#results") ? document.activeElement.getAttribute("href") : null;
});
document.body.addEventListener("htmx:afterSwap", () => {
  if (!focused) return;
  const again = [...document.querySelectorAll("#results a.open")].find((row) => row.getAttribute("href") === focused);
  again?.focus({ preventScroll: true });
});

// --- tokens ------------------------------------------------------------------------------------------------
function shade(name, within) {
  within.querySelectorAll(".pieces").forEach((pieces) => { pieces.dataset.shown = name; });
  within.querySelectorAll("[data-shade]").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.dataset.shade === name));
  });
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-shade]");
  if (button) shade(button.dataset.shade, button.closest("details"));
});
// parts that are loaded later get the shade that is shown
document.body.addEventListener("htmx:load", (event) => {
  const within = event.target.closest?.("details.tokens");
  const pressed = within?.querySelector('[data-shade][aria-pressed="true"]');
  if (pressed) shade(pressed.dataset.shade, within);
});
