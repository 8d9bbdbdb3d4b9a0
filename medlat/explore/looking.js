// --- what is asked of the classifier now and then ---------------------------------------------------------------------

function picture(uri, caption, alt) {
  const figure = element("figure"), img = element("img"), text = element("figcaption", caption);
  Object.assign(img, { src: uri, alt });
  figure.append(img, text);
  return figure;
}

async function look(path, shown) {
  $("looked").style.setProperty("--columns", 3);
  $("looked").replaceChildren(element("p", "looking …", "caption"));
  try { $("looked").replaceChildren(...shown(await ask(path, { view: wanted() }))); say(null); } catch (error) { $("looked").replaceChildren(); say(error); }
}

$("where").addEventListener("click", () => look("where", (found) => {
  $("looked").style.setProperty("--columns", new Set(found.maps.map(({ of }) => of)).size);
  return [
    ...found.maps.map(({ of, map, picture: uri }) => picture(uri, `${map}, ${of}`, `${map}, ${ALTS[of]}: red speaks for the target, blue against it`)),
    element("p", "Red speaks for the target, blue against it, each map on a scale of its own. Where a classifier looks says nothing of what it sees there.", "caption"),
  ];
}));

$("otherwise").addEventListener("click", () => look("otherwise", (found) => {
  const begin = element("button", "begin with it");
  begin.type = "button";
  begin.addEventListener("click", () => choose(found.start));
  const text = element("p", `${found.said} `, "caption");
  text.append(begin);
  return [picture(found.picture, found.start, `held-out ${facts.noun} ${found.start.slice(6)}`), text];
}));
