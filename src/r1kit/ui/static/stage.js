// Curves: values at the pointer and by keys, settings that live in the address, metrics that are searched, pictures.
"use strict";

// --- values at a place --------------------------------------------------------------------------------------
const exact = (value) => Number(value.toPrecision(6)).toLocaleString("en", { maximumSignificantDigits: 6, useGrouping: Math.abs(value) >= 1e4 });

function clock(seconds) {
  const whole = Math.round(seconds);
  const pad = (n) => String(n).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
}

function chartOf(plot) {
  if (!plot.chart) {
    const chart = JSON.parse(plot.dataset.chart);
    for (const line of chart.lines) {
      line.x ??= line.steps;
      line.shown = line.smooth ?? line.y;
    }
    // every place at which a line has a point, in order: what the arrow keys go through
    chart.places = [...new Set(chart.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
    plot.chart = chart;
  }
  return plot.chart;
}

function nearest(sorted, value) {
  let low = 0;
  let high = sorted.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle;
    else high = middle;
  }
  return Math.abs(sorted[low] - value) <= Math.abs(sorted[high] - value) ? low : high;
}

function across(chart, x) {
  const [left, , right] = chart.box;
  return left + ((x - chart.x[0]) / (chart.x[1] - chart.x[0] || 1)) * (right - left);
}

function down(chart, y) {
  const [, top, , foot] = chart.box;
  const scale = chart.log ? Math.log10 : (v) => v;
  const [low, high] = chart.y.map(scale);
  return top + ((high - scale(y)) / (high - low || 1)) * (foot - top);
}

function mark(svg, name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  svg.append(element);
}

function clear(plot) {
  plot.querySelectorAll(".cursor, .at").forEach((element) => element.remove());
  plot.querySelector(".readout").hidden = true;
}

function show(plot, place) {
  const chart = chartOf(plot);
  const svg = plot.querySelector("svg");
  const readout = plot.querySelector(".readout");
  clear(plot);
  const x = chart.places[place];
  mark(svg, "line", { class: "cursor", x1: across(chart, x), x2: across(chart, x), y1: chart.box[1], y2: chart.box[3] });
  const said = [];
  const rows = [];
  const reach = ((chart.x[1] - chart.x[0]) || 1) / 60; // lines without a point about here are not read off
  for (const line of chart.lines) {
    const at = nearest(line.x, x);
    if (Math.abs(line.x[at] - x) > reach) continue;
    if (line.y[at] >= chart.y[0] && line.y[at] <= chart.y[1]) {
      mark(svg, "circle", { class: "at", cx: across(chart, line.x[at]), cy: down(chart, line.y[at]), r: 4, fill: line.colour });
    }
    const step = line.x[at] === x || chart.axis !== "step" ? "" : ` at ${exact(line.x[at])}`;
    const mean = line.smooth ? `, mean ${exact(line.shown[at])}` : "";
    rows.push([line.colour, exact(line.y[at]), `${mean}${line.label ? ` ${line.label}` : ""}${step}`]);
    said.push(`${line.label} ${exact(line.y[at])}${mean}${step}`.trim());
  }
  const step = chart.lines.map((line) => line.steps[nearest(line.x, x)])[0];
  const title = chart.axis === "step" ? `step ${exact(x)}`
    : chart.axis === "time" ? `${clock(x)} (step ${exact(step)})` : `${exact(x)} tokens (step ${exact(step)})`;
  const head = document.createElement("b");
  head.textContent = title;
  readout.replaceChildren(head, ...rows.map(([colour, value, rest]) => {
    const row = document.createElement("div");
    const dot = document.createElement("i");
    dot.style.background = colour;
    const small = document.createElement("span");
    small.textContent = rest;
    row.append(dot, value, small);
    return row;
  }));
  readout.hidden = false;
  const width = plot.clientWidth;
  const left = (across(chart, x) / svg.viewBox.baseVal.width) * width;
  const room = readout.offsetWidth + 14;
  readout.style.left = `${Math.max(0, left + room > width ? left - room : left + 14)}px`;
  plot.setAttribute("aria-valuemax", chart.places.length - 1);
  plot.setAttribute("aria-valuenow", place);
  plot.setAttribute("aria-valuetext", `${title}: ${said.join("; ")}`);
  plot.place = place;
}

const plotOf = (event) => (event.target.closest ? event.target.closest(".plot") : null);

document.addEventListener("pointermove", (event) => {
  const plot = plotOf(event);
  if (!plot) return;
  show(plot, nearest(chartOf(plot).places, placeOf(plot, event)));
});
document.addEventListener("pointerout", (event) => {
  const plot = plotOf(event);
  if (plot && !plot.contains(event.relatedTarget) && document.activeElement !== plot) clear(plot);
});
document.addEventListener("focusin", (event) => {
  if (event.target.classList.contains("plot") && event.target.matches(":focus-visible")) {
    show(event.target, event.target.place ?? chartOf(event.target).places.length - 1);
  }
});
document.addEventListener("focusout", (event) => {
  if (event.target.classList.contains("plot")) clear(event.target);
});
document.addEventListener("keydown", (event) => {
  const plot = event.target.classList.contains("plot") ? event.target : null;
  if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
  const last = chartOf(plot).places.length - 1;
  const now = plot.place ?? last;
  const rollouts = document.getElementById("curves")?.dataset.rollouts;
  if (event.key === "Enter" && rollouts) {
    const line = chartOf(plot).lines[0];
    const step = line.steps[nearest(line.x, chartOf(plot).places[now])];
    location.href = `${rollouts}&step_from=${step}&step_to=${step}`;
    return;
  }
  const far = Math.max(1, Math.round(last / 10));
  const next = { ArrowLeft: now - 1, ArrowRight: now + 1, ArrowDown: now - 1, ArrowUp: now + 1, PageDown: now - far, PageUp: now + far, Home: 0, End: last }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  show(plot, Math.min(Math.max(next, 0), last));
});

// --- a part of the large chart --------------------------------------------------------------------------------
function placeOf(plot, event) {
  const chart = chartOf(plot);
  const svg = plot.querySelector("svg");
  const box = svg.getBoundingClientRect();
  const [left, , right] = chart.box;
  const at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
  return chart.x[0] + ((Math.min(Math.max(at, left), right) - left) / (right - left)) * (chart.x[1] - chart.x[0]);
}

function setRange(start, end) {
  const form = document.getElementById("settings");
  form.elements.from.value = start;
  form.elements.to.value = end;
  form.elements.to.dispatchEvent(new Event("change", { bubbles: true }));
}

let drag = null;
document.addEventListener("pointerdown", (event) => {
  const plot = plotOf(event);
  if (!plot?.closest(".large") || event.button !== 0 || event.pointerType !== "mouse") return;
  drag = { plot, x: event.clientX, start: placeOf(plot, event) };
});
document.addEventListener("pointermove", (event) => {
  if (!drag || !drag.plot.isConnected) return;
  drag.plot.querySelector(".chosen")?.remove();
  const chart = chartOf(drag.plot);
  const [a, b] = [drag.start, placeOf(drag.plot, event)].map((x) => across(chart, x)).sort((x, y) => x - y);
  mark(drag.plot.querySelector("svg"), "rect", { class: "chosen", x: a, width: b - a, y: chart.box[1], height: chart.box[3] - chart.box[1] });
});
document.addEventListener("pointerup", (event) => {
  if (!drag) return;
  const { plot, x, start } = drag;
  drag = null;
  plot.querySelector(".chosen")?.remove();
  if (!plot.isConnected || Math.abs(event.clientX - x) < 6) return;
  const [low, high] = [start, placeOf(plot, event)].sort((a, b) => a - b);
  const isWhole = chartOf(plot).axis !== "time" && high - low > 3;
  const text = (value, round) => String(isWhole ? round(value) : Number(value.toPrecision(6)));
  setRange(text(low, Math.ceil), text(high, Math.floor));
});
document.addEventListener("dblclick", (event) => { if (plotOf(event)?.closest(".large")) setRange("", ""); });

// --- curves that grow -----------------------------------------------------------------------------------------
// A refreshed chart is another element: whoever was reading values off it goes on at the same place.
let reading = null;
document.addEventListener("focusin", (event) => {
  const plot = plotOf(event);
  reading = plot ? plot.dataset.name : null;
});
document.addEventListener("r1:refreshed", (event) => {
  const live = event.target;
  if (reading !== null && document.activeElement === document.body) {
    const plot = [...live.querySelectorAll(".plot")].find((one) => one.dataset.name === reading);
    plot?.focus({ preventScroll: true, focusVisible: true });
  }
  if (!live.classList.contains("live-curves")) return;
  const loaded = [...document.querySelectorAll(".lazy")].filter((one) => one.querySelector("figure") && one.offsetParent);
  loaded.forEach((one) => htmx.trigger(one, "r1:grow"));
  if (Number(live.dataset.numMetrics) > document.querySelectorAll(".lazy").length) addMetrics();
});

// Metrics that have been logged for the first time; groups stay open and charts as they are.
async function addMetrics() {
  const answer = await fetch(location.href, { headers: { "x-r1-live": "1" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("all-metrics");
  const section = document.getElementById("all-metrics");
  if (!fresh) return;
  if (!section) {
    document.getElementById("curves").append(fresh);
    htmx.process(fresh);
    return;
  }
  for (const group of fresh.querySelectorAll("details.group")) {
    const old = [...section.querySelectorAll("details.group")].find((one) => one.dataset.group === group.dataset.group);
    if (!old) {
      section.append(group);
      htmx.process(group);
      continue;
    }
    const known = new Set([...old.querySelectorAll(".lazy")].map((one) => one.dataset.metric));
    for (const one of [...group.querySelectorAll(".lazy")].filter((one) => !known.has(one.dataset.metric))) {
      old.querySelector(".charts").append(one);
      htmx.process(one);
    }
  }
  search();
}

// --- settings -------------------------------------------------------------------------------------------------
document.body.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.elt.id !== "settings") return;
  const given = event.detail.parameters;
  const usual = { x: "step", smooth: "auto" };
  const smooth = given.smooth;
  for (const [name, value] of [...Object.entries(given)]) {
    if (value === "" || value === usual[name]) delete given[name];
  }
  if (smooth !== "mean" && smooth !== "ema") delete given.by;
});
// another way to smooth has another measure, and another axis another range
document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (!form || form.id !== "settings") return;
  if (event.target.name === "smooth") form.elements.by.value = "";
  if (event.target.name === "x") form.elements.from.value = form.elements.to.value = "";
}, true);
document.body.addEventListener("htmx:afterSwap", () => search());

// --- search ---------------------------------------------------------------------------------------------------
function search() {
  const field = document.getElementById("metric-search");
  if (!field) return;
  const wanted = field.value.trim().toLowerCase();
  let found = 0;
  for (const group of document.querySelectorAll("details.group")) {
    let here = 0;
    for (const one of group.querySelectorAll(".lazy")) {
      one.hidden = !one.dataset.metric.toLowerCase().includes(wanted);
      here += one.hidden ? 0 : 1;
    }
    group.hidden = here === 0;
    if (wanted) group.open = here > 0;
    found += here;
  }
  document.getElementById("no-metric").hidden = found > 0;
}
document.addEventListener("input", (event) => { if (event.target.id === "metric-search") search(); });

// --- pictures -------------------------------------------------------------------------------------------------
const themed = (address) => {
  const theme = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  return theme === "dark" ? `${address}&theme=dark` : address;
};
document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-picture]");
  if (link) link.href = themed(link.getAttribute("href").replace("&theme=dark", ""));
});
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-png]");
  if (!button) return;
  const answer = await fetch(themed(button.dataset.png));
  if (!answer.ok) return;
  const name = /filename="(.*)\.svg"/.exec(answer.headers.get("content-disposition"))?.[1] ?? "curves";
  const picture = new Image();
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(await answer.text())}`;
  await picture.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width * 2, picture.height * 2]; // sharp on dense screens and in print
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  const link = document.createElement("a");
  link.href = canvas.toDataURL("image/png");
  link.download = `${name}.png`;
  link.click();
});
