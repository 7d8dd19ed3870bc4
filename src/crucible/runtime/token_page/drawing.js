// How do rows get onto the page? In units that come and go as they near the window.

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

const units = new Map(); // element -> {row, from, to, first, last, built}
let unitsOf = []; // row index -> its elements
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) (entry.isIntersecting ? build : clear)(entry.target);
}, { rootMargin: "1500px 0px" });

function cuts(row) { // where the row's units begin
  const starts = [0];
  for (let i = 0, start = 0; i < row.length - 1; i++) {
    const size = i + 1 - start;
    if ((size >= UNIT && row.piece(i)[1].includes("\n")) || size >= LONGEST_UNIT) starts.push(start = i + 1);
  }
  return starts;
}

function layOut() {
  near.disconnect();
  units.clear();
  unitsOf = [];
  const perLine = Math.max(20, (byId("rows").clientWidth - 34) / 7.9), boxes = [];
  for (const row of shown.rows) {
    const starts = cuts(row);
    unitsOf[row.index] = starts.map((from, at) => {
      const unit = { row, from, to: starts[at + 1] ?? row.length, first: at === 0, last: at === starts.length - 1 };
      const box = element("section", `unit${unit.first ? " first" : ""}${unit.last ? " last" : ""}`);
      box.style.height = `${guess(unit, perLine)}px`;
      units.set(box, unit);
      boxes.push(box);
      return box;
    });
  }
  if (!boxes.length) boxes.push(element("p", "empty", rows.length ? "No row is left by these filters." : "There are no rows."));
  byId("rows").replaceChildren(...boxes);
  for (const box of units.keys()) near.observe(box);
}

function guess({ row, from, to, first }, perLine) { // a unit's height before it is drawn
  let lines = 1, column = 0;
  for (let i = from; i < to; i++) {
    const text = row.piece(i)[1];
    column += text.length;
    if (text.includes("\n")) { lines += Math.ceil(column / perLine); column = 0; }
  }
  return (lines + Math.floor(column / perLine)) * 23 + (first ? 34 + 30 * row.problems.length : 0) + 8;
}

function build(box) {
  const unit = units.get(box);
  if (!unit || unit.built) return;
  unit.built = true;
  const { row, from, to } = unit, tokens = element("div", "tokens");
  tokens.dataset.row = row.index;
  unit.spans = Array.from({ length: to - from }, (_, at) => drawToken(row, from + at));
  tokens.append(...unit.spans);
  box.replaceChildren(...(unit.first ? heading(row) : []), ...(to > from ? [tokens] : []));
  box.style.height = "";
}

function clear(box) { // what is far away costs nothing but its height
  const unit = units.get(box);
  if (!unit?.built || box.contains(document.activeElement)) return;
  box.style.height = `${box.offsetHeight}px`;
  box.replaceChildren();
  unit.built = false;
  unit.spans = [];
}

function heading(row) {
  const { step, epoch, row: number, origin, kept, version } = row.given, head = element("header", "rowhead");
  const say = (label, value) => head.append(element("span", "", `${label} `, element("b", "", value)));
  if (step !== null) say(row.given.eval ? "evaluation after step" : "step", count(step));
  if (epoch) say("epoch", count(epoch));
  if (number !== null) say("row", count(number + 1));
  if (version !== null) say("policy", count(version));
  const short = origin.replace(/^.*[\\/](?=[^\\/]*$)/, ""); // the file's name; its whole path shows on hover
  const from = element("span", "origin", element("bdi", "", short));
  from.title = origin;
  head.append(from);
  const stats = element("span", "stats");
  const share = kept ? Math.round((100 * row.trained) / kept) : 0;
  stats.append(element("b", "", count(row.length)), " tokens · ", element("b", "", count(row.trained)), ` trained (${share} %)`);
  if (row.length > kept) stats.append(" · ", element("b", "", count(row.length - kept)), " cut off");
  if (row.nll !== null) stats.append(" · mean NLL ", element("b", "", figure(row.nll)));
  if (row.length) head.append(stats);
  const notes = row.given.notes.map((note) => element("p", "known", note));
  return [head, ...row.problems.map((problem) => element("p", "problem", problem)), ...notes];
}

// Newlines and tabs keep their effect behind a mark; what has no shape, or would turn the text's direction, is spelt.
const MARKS = /[\u0000-\u001f\u007f-\u00a0\u00ad\u200b\u200e\u200f\u2028-\u202f\u2060-\u2069\ufeff]/g;
const MARK = { "\n": ["⏎", "\n"], "\t": ["⇥", "\t"] };

function markOf(character) {
  return MARK[character] ?? [`\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`, ""];
}

function drawToken(row, i) {
  const [, text, special] = row.piece(i), made = element("span", tokenClass(row, i));
  made.dataset.i = i;
  made.tabIndex = -1;
  if (special) made.textContent = text;
  else if (text === "") made.append(element("i", "", "◦"));
  else {
    let from = 0;
    for (const { 0: character, index } of text.matchAll(MARKS)) {
      const [mark, rest] = markOf(character);
      made.append(text.slice(from, index), element("i", "", mark), rest);
      from = index + 1;
    }
    made.append(text.slice(from));
  }
  return made;
}

function tokenClass(row, i) {
  const bucket = bucketOf(shown.quantity, row, i), special = row.piece(i)[2], on = row.isTrained(i) || row.isSampled(i);
  const hit = shown.matchesOf.get(row)?.some(([, first, last]) => first <= i && i <= last);
  return `t${bucket === null ? "" : ` b${bucket}`}${on ? " on" : ""}${row.isCut(i) ? " cut" : ""}${special ? " sp" : ""}${hit ? " hit" : ""}`;
}

function paint() { // the classes of what is drawn, anew
  for (const id of ["rows", "tree"]) byId(id).dataset.colours = shown.quantity.colours;
  for (const drawn of document.querySelectorAll(".tokens[data-row]")) {
    for (const made of drawn.querySelectorAll(".t")) made.className = tokenClass(rows[drawn.dataset.row], Number(made.dataset.i));
  }
}

function spanOf(row, i) { // the token's element, built if it is not there
  if (inTree()) return row.member ? revealToken(row, i) : null;
  const box = unitsOf[row.index]?.find((one) => i < units.get(one).to) ?? unitsOf[row.index]?.at(-1);
  if (!box) return null;
  build(box);
  return units.get(box).spans[i - units.get(box).from];
}
