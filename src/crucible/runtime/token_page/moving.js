// How does one get about: keys, jumps, filters?

function go(row, i) {
  if (inTree() && !spanOf(row, i)) chooseView("tokens"); // which draws every token
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

function walkLines(by) { // to the next rollout's line
  const drawn = [...cards.values()].flatMap(({ members }) => members);
  const at = drawn.findIndex((member) => lines.get(member)?.contains(document.activeElement)) + by;
  const next = drawn[at] ?? (by > 0 ? null : drawn[0]);
  if (!next) return;
  if (!lines.has(next)) buildCard([...cards].find(([, { members }]) => members.includes(next))[0]);
  lines.get(next).scrollIntoView({ block: "center" });
  lines.get(next).firstChild.focus({ preventScroll: true });
}

function walkRows(by) {
  if (inTree()) { walkLines(by); return; }
  const at = shown.token ? shown.rows.indexOf(shown.token[0]) + by : 0;
  for (let place = at; shown.rows[place]; place += by) {
    if (shown.rows[place].length) { go(shown.rows[place], 0); return; }
  }
}

function placeOf(target) { // the [row, token] that an element shows
  const made = target.closest?.(".t"), drawn = made?.closest(".tokens[data-row]");
  return drawn ? [rows[drawn.dataset.row], Number(made.dataset.i)] : null;
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
  for (const id of ["search", "step", "from", "to", ...Object.keys(SIFTS)]) byId(id).value = "";
  byId("problems").checked = byId("matching").checked = false;
  isolate(null);
  filter();
  drawCurve();
}

function turnTheme() {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = (root.dataset.theme ?? (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
}

function chooseView(name) {
  document.body.dataset.view = name;
  byId(`view-${name}`).checked = true;
  byId("tree").hidden = byId("orderfield").hidden = !inTree();
  byId("rows").hidden = inTree();
  if (shown.kept) show(shown.kept, shown.members);
  drawCurve();
}

function chooseStep(by) {
  const options = [...byId("step").options], at = options.findIndex((option) => option.selected) + by;
  if (!options[at]) return;
  options[at].selected = true;
  filter();
  drawCurve();
}

function openAll() {
  const some = shown.members.filter((member) => lines.has(member)), wide = some.some((member) => !opened.has(member));
  for (const member of some) open(member, wide);
}

const KEYS = {
  "/": () => byId("search").focus(), n: () => jumpToMatch(1), N: () => jumpToMatch(-1),
  w: () => jumpToWorst(shown.worstAt + 1), W: () => jumpToWorst(shown.worstAt - 1),
  j: () => walkRows(1), k: () => walkRows(-1), ArrowRight: () => walk(1), ArrowLeft: () => walk(-1),
  p: () => byId("problems").click(), d: turnTheme, Escape: reset,
};
const ROLLOUT_KEYS = {
  v: () => chooseView(inTree() ? "tokens" : "rollouts"), "[": () => chooseStep(-1), "]": () => chooseStep(1), o: () => inTree() && openAll(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=search], input[type=number], select");
  if (event.target.id === "search" && event.key === "Enter") { event.preventDefault(); jumpToMatch(event.shiftKey ? -1 : 1); return; }
  if (typing && event.key !== "Escape") return;
  if (event.target.matches("input[type=radio]") && event.key.startsWith("Arrow")) return;
  const act = KEYS[event.key] ?? (rollouts && ROLLOUT_KEYS[event.key]) ?? (/^[1-5]$/.test(event.key) ? () => choose(QUANTITIES.filter((one) => one.there)[event.key - 1]) : null);
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
  const steps = [...new Set([...(rollouts?.steps ?? []), ...rows].map((one) => one.stepName ?? one.name))].filter((step) => step !== "");
  byId("stepfield").hidden = steps.length < 2;
  byId("step").append(new Option("all", ""), ...steps.map((step) => new Option(step, step)));
  const troubled = rows.filter((row) => row.problems.length).length;
  byId("problemfield").hidden = !troubled;
  byId("problemcount").textContent = count(troubled);
  for (const id of ["rows", "tree"]) byId(id).dataset.colours = shown.quantity.colours;
  if (rollouts) startRollouts();

  let typed;
  for (const id of ["search", "from", "to"]) byId(id).addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(filter, 120); });
  for (const id of ["step", "problems", "matching", ...Object.keys(SIFTS)]) byId(id).addEventListener("change", filter);
  byId("order").addEventListener("change", () => show(shown.kept, shown.members));
  byId("worst").addEventListener("click", () => jumpToWorst(shown.worstAt + 1));
  byId("back").addEventListener("click", () => jumpToWorst(shown.worstAt - 1));
  byId("theme").addEventListener("click", turnTheme);
  for (const box of [byId("rows"), byId("tree")]) {
    box.addEventListener("mouseover", (event) => { const place = placeOf(event.target); if (place) drawDetails(place); });
    box.addEventListener("mouseleave", () => drawDetails(shown.token));
    box.addEventListener("click", (event) => { const place = placeOf(event.target); if (place) event.target.closest(".t").focus({ preventScroll: true }); });
    box.addEventListener("focusin", (event) => { shown.token = placeOf(event.target) ?? shown.token; drawDetails(shown.token); });
  }
  document.addEventListener("keydown", onKey);
  new ResizeObserver(() => {
    document.documentElement.style.setProperty("--top", `${document.querySelector(".top").offsetHeight}px`);
  }).observe(document.querySelector(".top"));
  filter();
  drawCurve();
}

function startRollouts() {
  let drawnAt = 0; // the width that the curve was drawn for
  for (const name of ["rollouts", "tokens"]) {
    const radio = element("input", "");
    Object.assign(radio, { type: "radio", name: "view", id: `view-${name}` });
    radio.addEventListener("change", () => chooseView(name));
    byId("view").append(element("label", "", radio, name));
  }
  byId("view").hidden = byId("sift").hidden = false;
  for (const [id, sift] of Object.entries(SIFTS)) {
    const values = [...new Set(rollouts.members.flatMap((member) => sift.of(member)))].sort((a, b) => Number(a) - Number(b) || (a < b ? -1 : 1));
    byId(id).append(new Option("all", ""), ...values.map((value) => new Option(value.replace("_", " "), value)));
    byId(id).parentElement.hidden = values.length < 2;
  }
  byId("order").append(...Object.keys(GROUP_ORDERS).map((name) => new Option(name, name)));
  byId("step").value = rollouts.steps.findLast((step) => step.purpose === "step")?.name ?? "";
  byId("step").addEventListener("change", drawCurve);
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width !== drawnAt) drawCurve();
    drawnAt = contentRect.width;
  }).observe(byId("tree"));
  chooseView("rollouts");
}

start();
