// Which rows are shown, what was found in them, and which of their tokens are worst?

const shown = {
  quantity: QUANTITIES[1].there ? QUANTITIES[1] : QUANTITIES[0],
  rows: [], // after the filters
  matches: [], at: -1, // [row, first token, last token]; which of them was jumped to
  matchesOf: new Map(), // row -> its matches
  worst: [], worstAt: -1, // [row index, token, value]
  token: null, // [row, token] that has the focus
  only: null, // the bucket that alone is not faded
};
const query = () => byId("search").value.toLowerCase();

function filter() {
  const step = byId("step").value, problems = byId("problems").checked;
  let kept = rows.filter((row) => (!step || String(row.given.step) === step) && (!problems || row.problems.length));
  shown.matchesOf = new Map(query() ? kept.map((row) => [row, matchesIn(row)]).filter(([, found]) => found.length) : []);
  shown.matches = [...shown.matchesOf.values()].flat();
  shown.at = -1;
  if (query() && byId("matching").checked) kept = kept.filter((row) => shown.matchesOf.has(row));
  if (kept.length === shown.rows.length && kept.every((row, at) => row === shown.rows[at])) {
    paint(); // the rows stay; only their matches are others
  } else {
    show(kept);
    window.scrollTo(0, 0);
  }
  drawFound();
}

function show(kept) {
  shown.rows = kept;
  shown.token = null;
  drawDetails(null);
  layOut();
  rank();
}

function matchesIn(row) {
  const found = [], lower = row.text.toLowerCase();
  const fits = lower.length === row.text.length; // else a character's lower case is longer, and offsets would lie
  const text = fits ? lower : row.text, wanted = fits ? query() : byId("search").value;
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
    found.push([row, row.tokenAt(at), row.tokenAt(at + wanted.length - 1)]);
  }
  return found;
}

function rank() {
  const quantity = worstQuantity(), found = [];
  for (const row of quantity ? shown.rows : []) {
    for (let i = 0; i < row.length; i++) {
      const value = row.isTrained(i) ? quantity.value(row, i) : null;
      if (value !== null) found.push([row.index, i, value]);
    }
  }
  const size = ([, , value]) => (Number.isNaN(value) ? Infinity : quantity.worst.size(value));
  shown.worst = found.sort((a, b) => size(b) - size(a) || a[0] - b[0] || a[1] - b[1]);
  shown.worstAt = -1;
  drawWorst();
  drawScale();
}

function worstQuantity() {
  return shown.quantity.worst ? shown.quantity : QUANTITIES[1].there ? QUANTITIES[1] : null;
}
