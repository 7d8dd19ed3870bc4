// How does one get about: keys, jumps, filters?

function go(row, i) {
  const made = spanOf(row, i);
  if (!made) return;
  made.scrollIntoView({ block: "center" });
  made.focus({ preventScroll: true });
}

function jumpToWorst(at) {
  if (at < 0 || at >= shown.worst.length) return;
  shown.worstAt = at;
  const [index, i] = shown.worst[at];
  go(rows[index], i);
  drawRank();
}

function jumpToMatch(by) {
  if (!shown.matches.length) return;
  shown.at = shown.at < 0 ? (by > 0 ? 0 : shown.matches.length - 1) : (shown.at + by + shown.matches.length) % shown.matches.length;
  const [row, i] = shown.matches[shown.at];
  go(row, i);
  drawFound();
}

function walk(by) { // to the next token, over the edges of rows
  if (!shown.token) { const first = shown.rows.find((row) => row.length); if (first) go(first, 0); return; }
  let [row, i] = shown.token, at = shown.rows.indexOf(row);
  i += by;
  while (row && (i < 0 || i >= row.length)) {
    row = shown.rows[(at += by)];
    i = by > 0 ? 0 : (row?.length ?? 0) - 1;
  }
  if (row) go(row, i);
}

function walkRows(by) {
  const at = shown.token ? shown.rows.indexOf(shown.token[0]) + by : 0;
  for (let place = at; shown.rows[place]; place += by) {
    if (shown.rows[place].length) { go(shown.rows[place], 0); return; }
  }
}

function placeOf(target) { // the [row, token] that an element shows
  const made = target.closest?.(".t"), unit = made && units.get(made.closest(".unit"));
  return unit ? [unit.row, Number(made.dataset.i)] : null;
}

function choose(quantity) {
  if (!quantity?.there) return;
  shown.quantity = quantity;
  byId(`by-${quantity.name}`).checked = true;
  isolate(null);
  paint();
  rank();
}

function reset() {
  byId("search").value = "";
  byId("step").value = "";
  byId("problems").checked = byId("matching").checked = false;
  isolate(null);
  filter();
}

function turnTheme() {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = (root.dataset.theme ?? (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
}

const KEYS = {
  "/": () => byId("search").focus(), n: () => jumpToMatch(1), N: () => jumpToMatch(-1),
  w: () => jumpToWorst(shown.worstAt + 1), W: () => jumpToWorst(shown.worstAt - 1),
  j: () => walkRows(1), k: () => walkRows(-1), ArrowRight: () => walk(1), ArrowLeft: () => walk(-1),
  p: () => byId("problems").click(), d: turnTheme, Escape: reset,
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=search], select");
  if (typing && event.key === "Enter") { event.preventDefault(); jumpToMatch(event.shiftKey ? -1 : 1); return; }
  if (typing && event.key !== "Escape") return;
  if (event.target.matches("input[type=radio]") && event.key.startsWith("Arrow")) return;
  const act = KEYS[event.key] ?? (/^[1-4]$/.test(event.key) ? () => choose(QUANTITIES.filter((one) => one.there)[event.key - 1]) : null);
  if (!act) return;
  event.preventDefault();
  act();
}

function start() {
  byId("title").textContent = data.title;
  byId("facts").append(...Object.entries(data.facts).map(([name, value]) => {
    const said = element("dd", "", value);
    said.title = value;
    return element("div", "", element("dt", "", name), said);
  }));
  byId("notes").hidden = !data.notes.length;
  byId("notes").append(...data.notes.map((note) => element("p", "", note)));
  for (const quantity of QUANTITIES.filter((one) => one.there)) {
    const radio = element("input", "");
    Object.assign(radio, { type: "radio", name: "colour", id: `by-${quantity.name}`, checked: quantity === shown.quantity });
    radio.addEventListener("change", () => choose(quantity));
    byId("colour").append(element("label", "", radio, quantity.name));
  }
  const steps = [...new Set(rows.map((row) => row.given.step))].filter((step) => step !== null);
  byId("stepfield").hidden = steps.length < 2;
  byId("step").append(new Option("all", ""), ...steps.map((step) => new Option(count(step), String(step))));
  const troubled = rows.filter((row) => row.problems.length).length;
  byId("problemfield").hidden = !troubled;
  byId("problemcount").textContent = count(troubled);
  byId("rows").dataset.colours = shown.quantity.colours;

  let typed;
  byId("search").addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(filter, 120); });
  for (const id of ["step", "problems", "matching"]) byId(id).addEventListener("change", filter);
  byId("worst").addEventListener("click", () => jumpToWorst(shown.worstAt + 1));
  byId("back").addEventListener("click", () => jumpToWorst(shown.worstAt - 1));
  byId("theme").addEventListener("click", turnTheme);
  byId("rows").addEventListener("mouseover", (event) => { const place = placeOf(event.target); if (place) drawDetails(place); });
  byId("rows").addEventListener("mouseleave", () => drawDetails(shown.token));
  byId("rows").addEventListener("click", (event) => { const place = placeOf(event.target); if (place) event.target.closest(".t").focus({ preventScroll: true }); });
  byId("rows").addEventListener("focusin", (event) => { shown.token = placeOf(event.target); drawDetails(shown.token); });
  document.addEventListener("keydown", onKey);
  new ResizeObserver(() => {
    document.documentElement.style.setProperty("--top", `${document.querySelector(".top").offsetHeight}px`);
  }).observe(document.querySelector(".top"));
  show(rows);
}

start();
