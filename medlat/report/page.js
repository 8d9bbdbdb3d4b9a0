"use strict";
document.documentElement.classList.add("js");

const form = document.querySelector("form.movers");
const shared = form && JSON.parse(form.dataset.movers);
const scratches = new Map();

function scratch(width, height) {
  const key = `${width}x${height}`;
  if (!scratches.has(key)) scratches.set(key, Object.assign(document.createElement("canvas"), { width, height }));
  return scratches.get(key);
}

// What the bar says. windows: [low, high], of images without colour.
function asked() {
  const [low, high] = form.elements.window ? JSON.parse(form.elements.window.value) : shared.span;
  const flag = (name) => Boolean(form.elements[name]?.checked);
  return { low, high, view: form.elements.view.value, order: form.elements.order?.value, method: form.elements.method.value,
    named: flag("named"), beyond: flag("beyond") };
}

// Of a sprite: red * 4 + the last two bits of blue. Of values 0 to shared.levels mean shared.span.
function levelsOf(sprite) {
  const [width, height] = [sprite.naturalWidth, sprite.naturalHeight];
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(sprite, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data, levels = new Uint16Array(width * height);
  for (let i = 0; i < levels.length; i++) levels[i] = 4 * pixels[4 * i] + (pixels[4 * i + 2] & 3);
  return levels;
}

// One traversal: a sprite of all steps beside each other, drawn step by step into a canvas.
class Card {
  constructor(element) {
    Object.assign(this, JSON.parse(element.dataset.card));
    this.element = element;
    this.moved = element.querySelector(".moved");
    this.still = element.querySelector("canvas.beside");
    this.slider = element.querySelector("input[type=range]");
    this.button = element.querySelector(".play");
    this.step = element.querySelector(".step");
    this.value = element.querySelector(".value");
    this.marker = element.querySelector("circle");
    this.sprites = { images: element.querySelector(".images"), differences: element.querySelector(".differences") };
    this.group = element.closest(".group");
    this.forward = true;
    this.tile = [this.moved.width, this.moved.height];
    this.factor = 2 ** Math.max(0, Math.ceil(Math.log2(384 / Math.max(...this.tile))));
    for (const canvas of [this.moved, this.still]) { canvas.width *= this.factor; canvas.height *= this.factor; }
    this.slider.addEventListener("input", () => { this.stop(); this.show(); });
    this.button.addEventListener("click", () => (this.playing ? this.stop() : this.play()));
  }

  // Draw what the bar says anew; of a card out of sight, when it comes into sight.
  refresh() {
    const beyond = asked().beyond;
    this.slider.min = beyond ? 0 : this.first;
    this.slider.max = beyond ? this.labels.length - 1 : this.last;
    this.slider.disabled = this.slider.min === this.slider.max;
    this.strip = undefined;
    if (this.seen) this.show();
  }

  show() {
    const index = Number(this.slider.value), label = this.labels[index], reading = this.readings[index];
    this.step.textContent = label;
    this.step.classList.toggle("beyond", index < this.first || index > this.last);
    this.slider.setAttribute("aria-valuetext", reading ? `${label}, ${reading}` : label);
    if (this.value) this.value.textContent = reading;
    const point = this.marker && this.curve[index];
    if (this.marker) this.marker.style.visibility = point ? "visible" : "hidden";
    if (point) { this.marker.setAttribute("cx", point[0]); this.marker.setAttribute("cy", point[1]); }
    if (!this.sprites.images.complete || !this.sprites.images.naturalWidth) {
      this.sprites.images.decode().then(() => this.show(), () => {});
      return;
    }
    if (!this.strip) {
      const { view } = asked(), images = this.drawn("images");
      this.strip = view === "images" ? images : this.drawn(view);
      this.enlarge(images, this.beside, this.still);
    }
    this.enlarge(this.strip, index, this.moved);
  }

  // All steps beside each other as the bar says: pictures in colour as they are, all else drawn from its values.
  drawn(view) {
    const { images, differences } = this.sprites;
    if (differences && view === "images") return images;
    const sprite = differences ?? images, [width, height] = [sprite.naturalWidth, sprite.naturalHeight];
    this.levels ??= levelsOf(sprite);
    const strip = new OffscreenCanvas(width, height), context = strip.getContext("2d");
    const image = context.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    const paint = view === "images" ? this.greys() : this.changes(width);
    for (let i = 0; i < pixels.length; i++) pixels[i] = 0xff000000 | paint(i);
    context.putImageData(image, 0, 0);
    return strip;
  }

  greys() {
    const { low, high } = asked(), [least, most] = shared.span;
    const start = (least - low) * 255 / (high - low), unit = (most - least) * 255 / (high - low) / shared.levels;
    return (i) => Math.round(Math.min(255, Math.max(0, start + unit * this.levels[i]))) * 0x010101;
  }

  // Of images in colour the differences are known, and 512 is none; else they are taken from the step at 0.
  changes(width) {
    const tile = this.tile[0], zero = this.zero * tile;
    const change = this.sprites.differences
      ? (i) => (this.levels[i] - 512) / 508
      : (i) => (this.levels[i] - this.levels[i - i % width + zero + i % width % tile]) / shared.limit_levels;
    return (i) => {
      const place = 3 * (127 + Math.round(127 * Math.min(1, Math.max(-1, change(i)))));
      return shared.palette[place + 2] << 16 | shared.palette[place + 1] << 8 | shared.palette[place];
    };
  }

  // All steps beside each other, for paper.
  print() {
    const strip = this.drawn("images"), canvas = this.element.querySelector(".strip canvas");
    [canvas.width, canvas.height] = [this.labels.length * this.tile[0], this.tile[1]];
    canvas.getContext("2d").drawImage(strip, 0, 0);
  }

  // Doubling the size again and again is smoother than one large step: no staircases along edges. The first copy is of
  // one tile alone, as smoothing would mix in its neighbour.
  enlarge(source, index, canvas) {
    let [width, height] = this.tile, x = index * width;
    for (let factor = 1; ; factor *= 2) {
      const last = factor === this.factor;
      const target = last ? canvas : scratch(this.tile[0] * factor, this.tile[1] * factor);
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
    if (now <= Number(this.slider.min)) this.forward = true;
    this.slider.value = now + (this.forward ? 1 : -1);
    this.show();
  }

  get playing() { return this.timer !== undefined; }

  play() {
    if (this.playing || this.slider.disabled) return;
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
const cardOf = new Map(cards.map((card) => [card.element, card]));
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
  for (const card of cards.filter((card) => !card.group.hidden && !card.element.hidden)) {
    card.slider.value = card.slider.min;  // in step with each other, so that they can be compared
    card.forward = true;
    card.show();
    card.play();
  }
});

// Which cards of a group are there, in which order: those asked for, some at a time.
function arrange(group) {
  const { order, named } = asked(), more = group.querySelector(".more"), none = group.querySelector(".none");
  const own = cards.filter((card) => card.group === group), wanted = own.filter((card) => card.named || !named);
  const byName = (p, q) => q.named - p.named || p.name.localeCompare(q.name, undefined, { numeric: true });
  if (own.some((card) => card.evidence))
    own.sort(order === "name" ? byName : (p, q) => Number(q.evidence) - Number(p.evidence));
  group.querySelector(".cards").append(...own.map((card) => card.element));
  const shown = own.filter((card) => wanted.includes(card)).slice(0, group.most ?? shared.most);
  for (const card of own) card.element.hidden = !shown.includes(card);
  none.hidden = wanted.length > 0;
  more.hidden = shown.length === wanted.length;
  more.textContent = `${Math.min(shared.most, wanted.length - shown.length)} more of ${wanted.length}`;
}

function follow() {
  const said = asked();
  for (const group of form.querySelectorAll(".group")) {
    group.hidden = group.dataset.group !== said.method;
    arrange(group);
  }
  const evident = cards.some((card) => card.evidence && !card.group.hidden);  // of directions, not of images
  for (const choice of form.querySelectorAll(".evident")) choice.hidden = !evident;
  for (const scale of form.querySelectorAll(".scales [data-view]")) scale.hidden = scale.dataset.view !== said.view;
  for (const end of ["low", "high"])
    for (const text of form.querySelectorAll(`.scales .${end}`)) text.textContent = String(said[end]).replace("-", "−");
  for (const card of cards) card.refresh();
}

if (form) {
  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting || cardOf.get(target).seen) continue;
      cardOf.get(target).seen = true;
      cardOf.get(target).show();
    }
  }, { rootMargin: "50%" });
  cards.forEach((card) => sight.observe(card.element));
  form.querySelectorAll(".bar input").forEach((input) => input.addEventListener("change", () => {
    if (input.name === "method") stopAll();
    follow();
  }));
  form.addEventListener("reset", () => {
    stopAll();
    for (const group of form.querySelectorAll(".group")) group.most = undefined;
    setTimeout(follow);  // when the inputs are reset
  });
  form.querySelectorAll(".more").forEach((button) => button.addEventListener("click", () => {
    const group = button.closest(".group");
    group.most = (group.most ?? shared.most) + shared.most;
    arrange(group);
  }));
  window.addEventListener("beforeprint", () => {
    for (const card of cards) if (!card.group.hidden && !card.element.hidden) card.print();
  });
  follow();
}

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

// Runs side by side: a click on a number's name puts the columns in its order, a second click the other way round.
for (const table of document.querySelectorAll("table.sideways")) {
  const lines = [...table.rows];
  lines.forEach((line) => line.querySelector("button")?.addEventListener("click", () => {
    const sign = line.cells[0].getAttribute("aria-sort") === "descending" ? 1 : -1;
    lines.forEach((other) => other.cells[0].removeAttribute("aria-sort"));
    line.cells[0].setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const value = (place) => line.cells[place].dataset.number;
    const places = [...line.cells].map((_, place) => place).slice(1);
    places.sort((p, q) => Boolean(value(q)) - Boolean(value(p)) || sign * (Number(value(p)) - Number(value(q))));
    for (const other of lines) {
      const cells = [...other.cells];
      other.append(...places.map((place) => cells[place]));
    }
  }));
}
