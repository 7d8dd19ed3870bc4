// Which rows are shown, what was found in them, and which of their tokens are worst?

const shown = {
  quantity: QUANTITIES.find((one) => one.there && one.name === (rollouts ? "sampler" : "logprob")) ?? QUANTITIES[0],
  rows: [], // after the filters, in the order in which they are drawn
  kept: null, members: [], // after the filters, in the order of the data
  matches: [], at: -1, // [row, first token, last token]; which of them was jumped to
  matchesOf: new Map(), // row -> its matches
  worst: [], worstAt: -1, // [row index, token, value]
  token: null, // [row, token] that has the focus
  only: null, // the bucket that alone is not faded
};
const query = () => byId("search").value.toLowerCase();

function filter() {
  const problems = byId("problems").checked;
  let kept = rows.filter((row) => inStep(row.stepName) && (!problems || row.problems.length) && isSifted(row.member));
  shown.matchesOf = new Map(query() ? kept.map((row) => [row, matchesIn(row)]).filter(([, found]) => found.length) : []);
  shown.at = -1;
  const matching = query() && byId("matching").checked;
  if (matching) kept = kept.filter((row) => shown.matchesOf.has(row));
  const left = problems || matching ? new Set(kept.map((row) => row.member)) : null;
  const members = rollouts ? rollouts.members.filter((one) => inStep(one.step.name) && isSifted(one) && (!left || left.has(one))) : [];
  if (shown.kept && isSame(kept, shown.kept) && isSame(members, shown.members)) {
    paint(); // the rows stay; only their matches are others
  } else {
    show(kept, members);
    window.scrollTo(0, 0);
  }
  shown.matches = shown.rows.flatMap((row) => shown.matchesOf.get(row) ?? []);
  drawFound();
}

const inStep = (name) => !byId("step").value || name === byId("step").value;
const isSame = (some, others) => some.length === others.length && some.every((one, at) => one === others[at]);

function show(kept, members) {
  Object.assign(shown, { kept, members, token: null });
  drawDetails(null);
  shown.rows = inTree() ? drawTree() : kept;
  if (!inTree()) layOut();
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
      const value = row.isTrained(i) || !quantity.onlyTrained ? quantity.value(row, i) : null;
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
  const usual = QUANTITIES.filter((one) => one.name === "logprob" || one.name === "sampler");
  return [shown.quantity, ...usual].find((one) => one.worst && one.there) ?? null;
}
