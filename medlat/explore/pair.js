"use strict";
// Two pages of runs: what one of them begins with and how near it looks, the other does too.
const facts = JSON.parse(document.getElementById("facts").textContent);
const frames = [...document.querySelectorAll("iframe")];
for (const frame of frames) frame.src = frame.dataset.address + location.search;

const shared = (start) => start.startsWith("sample ") || (facts.same && start.startsWith("image "));

function lead(frame, start) {
  const parts = new URLSearchParams(frame.contentWindow.location.hash.slice(1));
  if (parts.get("start") === start) return;
  parts.set("start", start);
  frame.contentWindow.location.hash = parts;
}

window.addEventListener("message", (event) => {
  if (event.origin !== location.origin) return;
  for (const frame of frames) {
    if (frame.contentWindow === event.source || !frame.contentDocument?.getElementById("facts")) continue;
    if (event.data.file || event.data.zoom) frame.contentWindow.postMessage(event.data, location.origin);
    else if (shared(event.data.start)) lead(frame, event.data.start);
  }
});
