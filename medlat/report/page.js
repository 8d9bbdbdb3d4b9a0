"use strict";
document.documentElement.classList.add("js");

const scratches = new Map();

function scratch(width, height) {
  const key = `${width}x${height}`;
  if (!scratches.has(key)) scratches.set(key, Object.assign(document.createElement("canvas"), { width, height }));
  return scratches.get(key);
}

// One traversal: a sprite of all steps beside each other, drawn step by step into a canvas.
class Card {
  constructor(element) {
    this.canvas = element.querySelector("canvas");
    this.slider = element.querySelector("input[type=range]");
    this.button = element.querySelector(".play");
    this.step = element.querySelector(".step");
    this.value = element.querySelector(".value");
    this.marker = element.querySelector("circle");
    this.sprites = { images: element.querySelector(".images"), differences: element.querySelector(".differences") };
    this.labels = JSON.parse(element.dataset.labels);
    this.readings = JSON.parse(element.dataset.readings);
    this.curve = JSON.parse(element.dataset.curve);
    this.group = element.closest(".group");
    this.view = "images";
    this.forward = true;
    this.tile = [this.canvas.width, this.canvas.height];
    this.factor = 2 ** Math.max(0, Math.ceil(Math.log2(512 / Math.max(...this.tile))));
    this.canvas.width *= this.factor;
    this.canvas.height *= this.factor;
    this.slider.addEventListener("input", () => { this.stop(); this.show(); });
    this.button.addEventListener("click", () => (this.playing ? this.stop() : this.play()));
    for (const sprite of Object.values(this.sprites)) sprite.decode().then(() => this.show(), () => {});
  }

  show() {
    const index = Number(this.slider.value), [width, height] = this.tile, sprite = this.sprites[this.view];
    const label = this.labels[index], reading = this.readings[index];
    this.step.textContent = label;
    this.slider.setAttribute("aria-valuetext", reading ? `${label}, ${reading}` : label);
    if (this.value) this.value.textContent = reading;
    const point = this.marker && this.curve[index];
    if (this.marker) this.marker.style.visibility = point ? "visible" : "hidden";
    if (point) { this.marker.setAttribute("cx", point[0]); this.marker.setAttribute("cy", point[1]); }
    if (!sprite.complete || !sprite.naturalWidth) return;
    this.enlarge(sprite, index * width, width, height);
  }

  // Doubling the size again and again is smoother than one large step: no staircases along edges.
  enlarge(source, x, width, height) {
    for (let factor = Math.min(2, this.factor); ; factor *= 2) {
      const last = factor === this.factor;
      const target = last ? this.canvas : scratch(this.tile[0] * factor, this.tile[1] * factor);
      const context = target.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(source, x, 0, width, height, 0, 0, target.width, target.height);
      if (last) return;
      [source, x, width, height] = [target, 0, target.width, target.height];
    }
  }

  advance() {
    const last = Number(this.slider.max), now = Number(this.slider.value);
    if (now >= last) this.forward = false;
    if (now <= 0) this.forward = true;
    this.slider.value = now + (this.forward ? 1 : -1);
    this.show();
  }

  get playing() { return this.timer !== undefined; }

  play() {
    if (this.playing || Number(this.slider.max) < 1) return;
    this.timer = setInterval(() => this.advance(), 280);
    this.mark();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = undefined;
    this.mark();
  }

  mark() {
    this.button.setAttribute("aria-pressed", String(this.playing));
    this.button.textContent = this.playing ? "❚❚" : "▶";
  }
}

const cards = [...document.querySelectorAll(".card")].map((element) => new Card(element));
const playAll = document.getElementById("play-all");

function stopAll() {
  cards.forEach((card) => card.stop());
  if (!playAll) return;
  playAll.setAttribute("aria-pressed", "false");
  playAll.textContent = "▶ all";
}

playAll?.addEventListener("click", () => {
  const start = playAll.getAttribute("aria-pressed") !== "true";
  stopAll();
  if (!start) return;
  playAll.setAttribute("aria-pressed", "true");
  playAll.textContent = "❚❚ all";
  for (const card of cards.filter((card) => !card.group.hidden)) {
    card.slider.value = 0;  // in step with each other, so that they can be compared
    card.forward = true;
    card.show();
    card.play();
  }
});

document.querySelectorAll("input[name=method]").forEach((input) => input.addEventListener("change", () => {
  stopAll();
  for (const group of document.querySelectorAll(".group")) group.hidden = group.dataset.group !== input.value;
}));

document.querySelectorAll("input[name=view]").forEach((input) => input.addEventListener("change", () => {
  for (const scale of document.querySelectorAll(".scales [data-view]")) scale.hidden = scale.dataset.view !== input.value;
  for (const card of cards) { card.view = input.value; card.show(); }
}));

// Browsers restore form values on reload; begin from what is checked, not from what the page was written with.
for (const input of document.querySelectorAll(".bar input:checked")) input.dispatchEvent(new Event("change"));
cards.forEach((card) => card.show());

// Tables: a click on a heading sorts (numbers: largest first, missing ones last), a second click reverses.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const before = heading.getAttribute("aria-sort"), numeric = heading.classList.contains("number");
    const sign = before === "ascending" || (numeric && before !== "descending") ? -1 : 1;
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const order = (a, b) => {
      const [p, q] = [a.cells[column], b.cells[column]];
      if (p?.dataset.number === undefined || q?.dataset.number === undefined)
        return sign * (p?.textContent ?? "").localeCompare(q?.textContent ?? "", undefined, { numeric: true });
      if (!p.dataset.number || !q.dataset.number) return Boolean(q.dataset.number) - Boolean(p.dataset.number);
      return sign * (Number(p.dataset.number) - Number(q.dataset.number));
    };
    body.append(...[...body.rows].sort(order));
  }));
}
