"use strict";
const facts = JSON.parse(document.getElementById("facts").textContent);
const token = new URLSearchParams(location.search).get("token");
const framed = parent !== window;  // two runs stand side by side
document.documentElement.classList.toggle("framed", framed);
const $ = (id) => document.getElementById(id);
const sliders = new Map(facts.sliders.map((each, place) => [each.name, { ...each, place, value: 0 }]));
const view = { start: facts.start, window: null, layers: null };
let kept = facts.kept;

// --- asking ------------------------------------------------------------------------------------------------------

let asked = 0;  // and not answered

function busy(more) {
  asked += more;
  $("stage").setAttribute("aria-busy", asked > 0);
}

async function send(path, body, headers = { "content-type": "application/json" }) {
  busy(1);
  const answer = await fetch(path, { method: "POST", headers: { ...headers, "x-token": token }, body }).finally(() => busy(-1));
  if (answer.ok) return answer;
  const told = await answer.text();
  let error = told;
  try { error = JSON.parse(told).error; } catch { /* plain text */ }
  throw new Error(error);
}

const ask = async (path, body) => (await send(path, JSON.stringify(body))).json();

function say(error) {
  $("problem").textContent = error ? String(error.message ?? error) : "";
  $("problem").hidden = !error;
}

// The last of many wishes: while one is computed, those before the newest are forgotten.
function newest(work) {
  let busy = false, again = false;
  return async () => {
    again = true;
    if (busy) return;
    busy = true;
    while (again) {
      again = false;
      try { await work(); } catch (error) { say(error); }
    }
    busy = false;
  };
}

function wanted() {
  const steps = {};
  for (const each of sliders.values()) if (each.value) steps[each.name] = each.value;
  return { start: view.start, steps, window: view.window, layers: view.layers };
}

// --- what is seen ------------------------------------------------------------------------------------------------

const ALTS = { original: "the image itself", reconstruction: "what the generator gives back", moved: "the moved image", change: "moved minus reconstruction: red more, blue less" };

function show(name, uri) {
  const figure = $(name);
  figure.hidden = !uri;
  if (!uri) return;
  const img = figure.querySelector("img");
  img.src = uri;
  img.alt = ALTS[name];
}

const draw = newest(async () => {
  const asked = wanted(), began = performance.now();
  const found = await ask("frame", { view: asked });
  show("moved", found.moved);
  show("change", found.change);
  $("looked").replaceChildren();  // which was of another view
  $("speed").textContent = `drawn in ${Math.round(performance.now() - began)} ms`;
  say(null);
  link();
  soon();
});

const begin = newest(async () => {
  const found = await ask("begin", { view: wanted() });
  show("original", found.original);
  show("reconstruction", found.reconstruction);
  $("notes").replaceChildren(...found.notes.map((note) => element("li", note)));
  await draw();
});

const measure = newest(async () => {
  const found = await ask("numbers", { view: wanted() });
  predictions(found.predictions);
  measured(found.measurements);
  near(found.distance);
  if (!found.distance) setTimeout(measure, 2000);
});

// Numbers take longer than a picture: while a slider moves, they follow a few times a second.
let due = 0;
function soon() {
  if (due) return;
  busy(1);
  due = setTimeout(() => { due = 0; measure(); busy(-1); }, 120);
}

function element(tag, text = "", of = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (of) made.className = of;
  return made;
}

function predictions(rows) {
  $("predictions").replaceChildren(...rows.map((row) => {
    const box = element("div", "", "says");
    const ends = ["original", "reconstruction", "moved"].filter((end) => end in row.said);
    const text = ends.map((end) => `${end} ${row.said[end]}`).join(", ");
    const what = row.probability ? `probability of ${row.target}` : row.target;
    box.append(element("div", `${row.by}, ${what}: ${text}` + (row.threshold === null ? "" : `; threshold ${row.threshold}`)));
    if (row.probability) {
      const meter = element("div", "", "meter"), bar = element("i"), mark = element("b");
      bar.style.width = `${100 * row.moved}%`;
      meter.append(bar);
      if (row.threshold !== null) { mark.style.left = `${100 * row.threshold}%`; meter.append(mark); }
      box.append(meter);
    }
    return box;
  }));
}

function measured(rows) {
  $("measured").tBodies[0].replaceChildren(...rows.map((row) => {
    const line = element("tr"), name = element("td", row.measurement.replaceAll("_", " "));
    name.title = row.description;
    line.append(name);
    for (const end of ["original", "reconstruction", "moved", "change", "change_in_sd"]) line.append(element("td", row.said[end] ?? "–", "number"));
    return line;
  }));
}

function near(distance) {
  document.body.classList.toggle("left", Boolean(distance?.left));
  if (!distance) { $("near").textContent = "Distance to the data: being prepared …"; return; }
  const { moved, reconstruction, limit } = distance.said;
  $("near").textContent = `${distance.verdict} Distance ${moved} (limit ${limit}; before the move ${reconstruction}).`;
}

// What is scrolled to is not hidden by the pictures, which stay.
new ResizeObserver(() => { document.documentElement.style.scrollPaddingTop = `${$("stage").offsetHeight}px`; }).observe($("stage"));

// --- directions --------------------------------------------------------------------------------------------------

const sigma = (step) => (step ? `${step > 0 ? "+" : "−"}${Math.abs(step).toFixed(2)} σ` : "0");

function row(slider) {
  const item = $("direction").content.firstElementChild.cloneNode(true);
  const part = (selector) => item.querySelector(selector);
  const range = part("input[type=range]"), number = part(".step"), band = part(".band span");
  const name = part(".name"), id = `slider-${slider.place}`;
  Object.assign(range, { id, min: -slider.reach, max: slider.reach, value: 0 });
  name.htmlFor = id;
  part("summary").textContent = slider.named ? "what it rests on, my note" : "why it has no name, my note";
  part(".why").textContent = [slider.why && `${slider.called}: ${slider.why}.`, slider.range === null ? "How far the data support it is not known." : `The data support ±${slider.range} σ.`].filter(Boolean).join(" ");
  const half = 50 * Math.min(1, (slider.range ?? 0) / slider.reach);
  Object.assign(band.style, { left: `${50 - half}%`, right: `${50 - half}%` });
  slider.show = () => {
    const said = kept[slider.name] ?? { name: "", star: false, note: "" };
    name.replaceChildren(element("span", said.name || slider.called), document.createTextNode(" "), element("i", said.name ? `my name; ${slider.name}, ${slider.called}` : slider.name));
    part(".star").textContent = said.star ? "★" : "☆";
    part(".star").setAttribute("aria-pressed", said.star);
    part(".star").setAttribute("aria-label", `star ${slider.name}`);
    if (document.activeElement !== part(".my-name")) part(".my-name").value = said.name;
    if (document.activeElement !== part(".my-note")) part(".my-note").value = said.note;
  };
  slider.set = (value) => {
    slider.value = Number.isFinite(value) ? Math.max(-100, Math.min(100, value)) : 0;
    range.value = slider.value;
    if (document.activeElement !== number) number.value = slider.value;
    const beyond = slider.range !== null && Math.abs(slider.value) > slider.range;
    part("output").textContent = sigma(slider.value);
    range.setAttribute("aria-valuetext", sigma(slider.value) + (beyond ? ", farther than the data support" : ""));
    item.classList.toggle("beyond", beyond);
  };
  const keep = async (change) => {
    const said = { name: "", star: false, note: "", ...kept[slider.name], ...change };
    try { kept = await ask("keep", { direction: slider.name, said }); slider.show(); say(null); } catch (error) { say(error); }
  };
  range.addEventListener("input", () => { slider.set(Number(range.value)); draw(); });
  range.addEventListener("dblclick", () => { slider.set(0); draw(); });
  range.addEventListener("keydown", (event) => { if (event.key === "0") { slider.set(0); draw(); event.preventDefault(); } });
  number.addEventListener("change", () => { slider.set(Number(number.value)); draw(); });
  part(".star").addEventListener("click", () => keep({ star: !kept[slider.name]?.star }));
  part(".my-name").addEventListener("change", (event) => keep({ name: event.target.value }));
  part(".my-note").addEventListener("change", (event) => keep({ note: event.target.value }));
  slider.item = item;
  slider.show();
  slider.set(0);
}

function list() {
  const shown = [...sliders.values()].filter((each) => each.role !== "control" || $("controls").checked || each.value);
  if ($("order").value === "place") shown.sort((a, b) => a.role.localeCompare(b.role) && a.place - b.place || a.name.localeCompare(b.name));
  shown.sort((a, b) => Boolean(kept[b.name]?.star) - Boolean(kept[a.name]?.star));
  $("directions").replaceChildren(...shown.map((each) => each.item));
}

sliders.forEach(row);
$("controls").addEventListener("change", list);
$("order").addEventListener("change", list);
$("reset").addEventListener("click", () => { sliders.forEach((each) => each.set(0)); draw(); });
$("along").append(...[...sliders.values()].filter((each) => each.role !== "control").map((each) => new Option(each.name, each.name, false, each.name === facts.main)));
if (facts.threshold !== null) $("wanted").value = facts.threshold;
$("reach").addEventListener("submit", async (event) => {
  event.preventDefault();
  const direction = $("along").value, prediction = Number($("wanted").value);
  $("reached").textContent = "looking …";
  try {
    const found = await ask("reach", { view: wanted(), direction, prediction });
    sliders.get(direction).set(found.step);
    $("reached").textContent = found.reached ? `Reached at ${sigma(found.step)} along ${direction}.` : `Not reached within ±${sliders.get(direction).reach} σ along ${direction}; the nearest is ${found.prediction.toFixed(2)}, at ${sigma(found.step)}.`;
    list();
    draw();
  } catch (error) { $("reached").textContent = ""; say(error); }
});

// Layers that are moved: all, unless the user says which.
function layered() {
  const [first, last] = view.layers ?? [0, facts.layers - 1];
  $("first-layer").value = first;
  $("last-layer").value = last;
}

$("layers").hidden = !facts.layers;
for (const end of ["first-layer", "last-layer"]) {
  $(end).max = facts.layers - 1;
  $(end).addEventListener("change", () => {
    const within = (id) => Math.max(0, Math.min(facts.layers - 1, Math.trunc(Number($(id).value))));
    const first = within("first-layer"), last = within("last-layer");
    view.layers = [Math.min(first, last), Math.max(first, last)];
    if (view.layers[0] === 0 && view.layers[1] === facts.layers - 1) view.layers = null;
    layered();
    draw();
  });
}

// --- what it begins with -----------------------------------------------------------------------------------------

let page = 0;

function choose(start) {
  view.start = start;
  marked();
  begin();
}

function marked() {
  const kind = view.start.split(" ")[0];
  for (const radio of document.querySelectorAll("input[name=start]")) radio.checked = radio.value === kind;
  for (const part of document.querySelectorAll(".start")) part.hidden = part.dataset.start !== kind;
  for (const each of $("thumbnails").children) each.setAttribute("aria-selected", each.dataset.start === view.start);
  $("thumbnails").setAttribute("aria-activedescendant", kind === "image" ? `option-${view.start.slice(6)}` : "");
}

async function thumbnails() {
  try {
    const found = await ask("thumbnails", { page }), sprite = new Image();
    sprite.src = found.picture;
    await sprite.decode();
    const side = sprite.width / found.count;
    $("thumbnails").replaceChildren(...Array.from({ length: found.count }, (_, place) => {
      const canvas = document.createElement("canvas"), number = found.first + place;
      Object.assign(canvas, { width: side, height: sprite.height });
      canvas.getContext("2d").drawImage(sprite, -place * side, 0);
      canvas.dataset.start = `image ${number}`;
      canvas.id = `option-${number}`;
      canvas.setAttribute("role", "option");
      canvas.setAttribute("aria-label", `held-out ${facts.noun} ${number}`);
      canvas.addEventListener("click", () => choose(canvas.dataset.start));
      return canvas;
    }));
    $("of-all").textContent = `${found.first} to ${found.first + found.count - 1} of ${found.all}`;
    $("earlier").disabled = page === 0;
    $("later").disabled = found.first + found.count >= found.all;
    marked();
  } catch (error) { say(error); }
}

$("thumbnails").addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!by) return;
  event.preventDefault();
  const now = view.start.startsWith("image ") ? Number(view.start.slice(6)) : 0;
  const next = Math.min(facts.held_out - 1, Math.max(0, now + by));
  if (page !== Math.floor(next / facts.thumbnails)) { page = Math.floor(next / facts.thumbnails); thumbnails(); }
  choose(`image ${next}`);
});
$("earlier").addEventListener("click", () => { page -= 1; thumbnails(); });
$("later").addEventListener("click", () => { page += 1; thumbnails(); });
$("seed").addEventListener("change", () => choose(`sample ${Math.max(0, Math.trunc(Number($("seed").value)))}`));
$("another").addEventListener("click", () => { $("seed").value = Number($("seed").value) + 1; choose(`sample ${$("seed").value}`); });
for (const radio of document.querySelectorAll("input[name=start]")) {
  radio.addEventListener("change", () => {
    if (radio.value === "image") choose("image 0");
    else if (radio.value === "sample") choose(`sample ${$("seed").value}`);
    else for (const part of document.querySelectorAll(".start")) part.hidden = part.dataset.start !== "upload";
  });
}
async function upload(file, place) {
  const suffix = /(\.[A-Za-z0-9]{1,8}){0,2}$/.exec(file.name)[0];
  const query = new URLSearchParams({ suffix: /^(\.nii)?\.gz$/i.test(suffix) ? suffix : suffix.slice(Math.max(0, suffix.lastIndexOf("."))), place });
  try { choose((await (await send(`upload?${query}`, file, { "content-type": "application/octet-stream" })).json()).start); say(null); } catch (error) { say(error); }
}

$("send").addEventListener("click", () => {
  const file = $("file").files[0], place = $("place").value.trim();
  if (!file) return say("Choose a file first.");
  if (file.size > facts.largest) return say(facts.too_large);
  upload(file, place);
  if (framed) parent.postMessage({ file, place }, location.origin);
});
window.addEventListener("message", (event) => {
  if (!framed || event.source !== parent || event.origin !== location.origin) return;
  if (event.data.zoom) { Object.assign(zoom, event.data.zoom); zoomed(); } else upload(event.data.file, event.data.place);
});

// --- windows, links, files ---------------------------------------------------------------------------------------

$("window").append(new Option("of the run", ""), ...Object.entries(facts.windows).map(([name, [low, high]]) => new Option(`${name.replaceAll("_", " ")} (${low} to ${high} ${facts.unit})`, name)), new Option("my own", "own"));

function windowed() {
  const own = Array.isArray(view.window), [low, high] = own ? view.window : facts.windows[view.window] ?? facts.window;
  $("window").value = own ? "own" : view.window ?? "";
  $("own").hidden = !own;
  $("low").value = low;
  $("high").value = high;
}

$("window").addEventListener("change", () => {
  const chosen = $("window").value;
  view.window = chosen === "own" ? [Number($("low").value), Number($("high").value)] : chosen || null;
  windowed();
  begin();
});
for (const end of ["low", "high"]) $(end).addEventListener("change", () => { view.window = [Number($("low").value), Number($("high").value)]; begin(); });
$("ramp").style.background = `linear-gradient(90deg, ${$("ramp").dataset.colours})`;

function link() {
  const parts = new URLSearchParams({ start: view.start });
  if (view.window) parts.set("window", Array.isArray(view.window) ? view.window.join(":") : view.window);
  if (view.layers) parts.set("layers", view.layers.join(":"));
  for (const each of sliders.values()) if (each.value) parts.append("move", `${each.name}:${each.value}`);
  history.replaceState(null, "", `${location.pathname}${location.search}#${parts}`);
  if (framed) parent.postMessage({ start: view.start }, location.origin);
}

function follow() {
  const parts = new URLSearchParams(location.hash.slice(1)), lost = [];
  view.start = parts.get("start") ?? facts.start;
  const asked = parts.get("window");
  view.window = /^-?[\d.]+:-?[\d.]+$/.test(asked ?? "") ? asked.split(":").map(Number) : asked;
  windowed();
  view.layers = facts.layers && /^\d+:\d+$/.test(parts.get("layers") ?? "") ? parts.get("layers").split(":").map(Number) : null;
  layered();
  if (view.start.startsWith("sample ")) $("seed").value = view.start.slice(7);
  sliders.forEach((each) => each.set(0));
  for (const move of parts.getAll("move")) {
    const at = move.lastIndexOf(":"), slider = sliders.get(move.slice(0, at));
    if (slider) slider.set(Number(move.slice(at + 1)));
    else lost.push(move.slice(0, at));
  }
  list();
  marked();
  begin().then(() => { if (lost.length) say(`The link moves along ${lost.join(", ")}, which this run does not have.`); });
}

window.addEventListener("hashchange", follow);
$("link").addEventListener("click", async () => {
  link();
  try { await navigator.clipboard.writeText(location.href); $("taken").textContent = "copied"; } catch { $("taken").textContent = "it stands in the address bar"; }
});
for (const button of document.querySelectorAll("button[data-as]")) {
  button.addEventListener("click", async () => {
    try {
      const file = await (await send("export", JSON.stringify({ view: wanted(), as: button.dataset.as }))).blob();
      const anchor = document.createElement("a"), name = button.dataset.as === "html" ? "finding.html" : `view.${button.dataset.as}`;
      Object.assign(anchor, { href: URL.createObjectURL(file), download: name });
      anchor.click();
      setTimeout(() => URL.revokeObjectURL(anchor.href), 1000);
      $("taken").textContent = name;
      say(null);
    } catch (error) { say(error); }
  });
}

follow();
if (view.start.startsWith("image ")) page = Math.floor(Math.min(facts.held_out - 1, Number(view.start.slice(6))) / facts.thumbnails);
thumbnails();
