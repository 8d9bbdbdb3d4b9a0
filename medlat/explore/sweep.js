"use strict";
const facts = JSON.parse(document.getElementById("facts").textContent);
const $ = (id) => document.getElementById(id);
const most = 24;  // columns of numbers at once
let by = null, falling = false;

function element(tag, text = "", of = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (of) made.className = of;
  return made;
}

function columns() {
  const words = $("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = words.length ? facts.numbers.filter((name) => words.every((word) => name.toLowerCase().includes(word))) : facts.shown;
  $("count").textContent = `${found.length} of ${facts.numbers.length} numbers` + (found.length > most ? `, the first ${most} shown` : "");
  return [...facts.settings, ...found.slice(0, most)];
}

function order(a, b) {
  const [x, y] = [a, b].map((run) => run.cells[by] ?? ["", null]);
  if (x[1] !== null || y[1] !== null) return (x[1] === null) - (y[1] === null) || (falling ? y[1] - x[1] : x[1] - y[1]);
  return (falling ? -1 : 1) * x[0].localeCompare(y[0], undefined, { numeric: true });
}

function head(name) {
  const cell = element("th", "", facts.settings.includes(name) ? "" : "number"), button = element("button", name.replaceAll("_", " "));
  button.type = "button";
  button.addEventListener("click", () => { [by, falling] = [name, by === name && !falling]; draw(); });
  cell.scope = "col";
  if (by === name) cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
  cell.append(button);
  return cell;
}

const chosen = new Set();

function row(run, shown) {
  const line = element("tr"), first = element("td"), tick = element("input");
  Object.assign(tick, { type: "checkbox", checked: chosen.has(run.place), disabled: run.fault !== null });
  tick.setAttribute("aria-label", `run ${run.run}, to see beside another`);
  tick.addEventListener("change", () => { chosen[tick.checked ? "add" : "delete"](run.place); $("pair").disabled = chosen.size !== 2; });
  first.append(tick);
  const name = element(run.fault === null ? "a" : "span", run.run);
  if (run.fault === null) name.href = `${run.place}/${location.search}`;
  const second = element("td");
  second.append(name);
  line.append(first, second, ...shown.map((key) => element("td", run.cells[key]?.[0] ?? "–", facts.settings.includes(key) ? "" : "number")));
  if (run.fault === null) return [line];
  const why = element("td", `not finished: ${run.fault}`, "fault");
  why.colSpan = shown.length + 2;
  const below = element("tr");
  below.append(why);
  return [line, below];
}

function draw() {
  const shown = columns(), runs = by === null ? facts.runs : [...facts.runs].sort(order);
  const top = element("tr"), ends = [element("th"), element("th", "run")];
  for (const end of ends) end.scope = "col";
  ends[0].append(element("span", "side by side", "caption"));
  top.append(...ends, ...shown.map(head));
  $("runs").tHead.replaceChildren(top);
  $("runs").tBodies[0].replaceChildren(...runs.flatMap((run) => row(run, shown)));
}

$("words").addEventListener("input", draw);
$("pair").addEventListener("click", () => { location.href = `${[...chosen].sort((a, b) => a - b).join("-")}/${location.search}`; });
draw();
