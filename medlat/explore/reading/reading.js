"use strict";
const given = new URLSearchParams(location.search), token = given.get("token");
const $ = (id) => document.getElementById(id);
const CAPTIONS = { image: () => "", pair: (i) => ["left", "right"][i], series: (i) => String(i + 1) };
let now = null;

async function ask(path, body) {
  const headers = { "content-type": "application/json", "x-token": token };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await answer.text();
  if (answer.ok) return JSON.parse(text);
  let error = text;
  try { error = JSON.parse(text).error; } catch { /* plain text */ }
  throw new Error(error);
}

function say(error) {
  $("problem").textContent = error ? String(error.message ?? error) : "";
  $("problem").hidden = !error;
}

function element(tag, attributes = {}, ...inside) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...inside);
  return made;
}

function picture(uri, i) {
  const caption = CAPTIONS[now.shown](i), figure = element("figure", {}, element("img", { src: uri, alt: caption || "the image" }));
  if (caption) figure.append(element("figcaption", {}, caption));
  return figure;
}

function question(each) {
  const box = element("fieldset", {}, element("legend", {}, each.ask));
  if (each.choices.length) {
    box.append(...each.choices.map((choice) => element("label", {}, element("input", { type: "radio", name: each.name, value: choice, required: true }), ` ${choice}`)));
  } else {
    const text = element("textarea", { name: each.name, rows: 2, cols: 60, maxLength: Number($("questions").dataset.longest), required: true });
    text.setAttribute("aria-label", each.ask);
    box.append(text);
  }
  return box;
}

function show(found) {
  now = found;
  $("begin").hidden = true;
  $("case").hidden = found.place === null;
  $("done").hidden = found.place !== null;
  if (found.place === null) return;
  $("place").textContent = `Reader ${found.reader}, case ${found.place} of ${found.of}`;
  $("pictures").replaceChildren(...found.pictures.map(picture));
  $("questions").replaceChildren(...found.questions.map(question));
  scrollTo(0, 0);
}

async function tried(button, work) {
  button.disabled = true;
  try { show(await work()); say(null); } catch (error) { say(error); }
  button.disabled = false;
}

$("begin").addEventListener("submit", (event) => {
  event.preventDefault();
  tried($("begin").querySelector("button"), () => ask("case", { reader: $("reader").value }));
});
$("case").addEventListener("submit", (event) => {
  event.preventDefault();
  const said = Object.fromEntries(new FormData($("case")));
  tried($("send"), () => ask("answer", { reader: now.reader, place: now.place, said }));
});
if (given.get("reader")) {  // who was sent an address that has their code
  $("reader").value = given.get("reader");
  $("begin").requestSubmit();
}
