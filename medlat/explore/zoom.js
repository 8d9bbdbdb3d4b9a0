// --- zoom: one for all pictures ----------------------------------------------------------------------------------

const zoom = { by: 1, x: 0.5, y: 0.5 };

function zoomed() {
  const half = 0.5 / zoom.by;
  zoom.x = Math.min(1 - half, Math.max(half, zoom.x));
  zoom.y = Math.min(1 - half, Math.max(half, zoom.y));
  for (const img of document.querySelectorAll(".frame img")) {
    img.style.transform = `scale(${zoom.by}) translate(${-100 * (zoom.x - half)}%, ${-100 * (zoom.y - half)}%)`;
  }
  $("zoom").value = zoom.by;
  $("stage").classList.toggle("zoomed", zoom.by > 1);
}

// Of two runs beside each other both zoom.
function zoomedByHand() {
  zoomed();
  if (framed) parent.postMessage({ zoom: { ...zoom } }, location.origin);
}

function zoomBy(by) { zoom.by = Math.min(8, Math.max(1, by)); zoomedByHand(); }

$("zoom").addEventListener("input", (event) => zoomBy(Number(event.target.value)));
for (const frame of document.querySelectorAll(".frame")) {
  frame.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (by) { zoom.x += (0.1 * by[0]) / zoom.by; zoom.y += (0.1 * by[1]) / zoom.by; zoomedByHand(); }
    else if (event.key === "+" || event.key === "=") zoomBy(zoom.by * 1.25);
    else if (event.key === "-") zoomBy(zoom.by / 1.25);
    else if (event.key === "0") zoomBy(1);
    else return;
    event.preventDefault();
  });
  frame.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && zoom.by === 1) return;  // the page scrolls
    event.preventDefault();
    zoomBy(zoom.by * (event.deltaY < 0 ? 1.15 : 1 / 1.15));
  }, { passive: false });
  frame.addEventListener("dblclick", () => zoomBy(zoom.by > 1 ? 1 : 3));
  frame.addEventListener("pointerdown", (event) => frame.setPointerCapture(event.pointerId));
  frame.addEventListener("pointermove", (event) => {
    if (!event.buttons || zoom.by === 1) return;
    zoom.x -= event.movementX / frame.clientWidth / zoom.by;
    zoom.y -= event.movementY / frame.clientHeight / zoom.by;
    zoomedByHand();
  });
}
