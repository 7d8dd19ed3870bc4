"use strict";
// What did the model see, token by token? Everything is drawn from the JSON in #data; text enters as text, never as
// HTML. Rows are cut into units of some hundred tokens, which exist as empty boxes until they come near the window.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const UNIT = 320; // tokens after which a unit ends at the next newline
const LONGEST_UNIT = 1280; // tokens after which it ends anyway
const WORST_LISTED = 12;

// Numbers become arrays once, when the page is opened.

function number(value) {
  return typeof value === "string" ? Number(value) : value; // "NaN", "-Infinity": JSON has none
}

function spread(runs) {
  const values = [];
  for (let i = 0; i < runs.length; i += 2) {
    for (let left = runs[i]; left > 0; left--) values.push(number(runs[i + 1]));
  }
  return values;
}

class Row {
  constructor(given, index) {
    this.index = index;
    this.given = given;
    this.length = given.tokens.length;
    this.problems = given.problems;
    this.weights = spread(given.weights);
    this.logprobs = given.logprobs?.map(number);
    this.advantages = given.advantages?.map(number);
    this.sampler = given.sampler?.map(number);
    this.trained = 0;
    let sum = 0, known = 0;
    for (let i = 0; i < this.length; i++) {
      if (!this.isTrained(i)) continue;
      this.trained++;
      const logprob = this.logprobs?.[i];
      if (Number.isFinite(logprob)) { sum -= logprob; known++; }
    }
    this.nll = known ? sum / known : null;
  }

  get place() { return this.member ? this.member.name : `row ${count(this.given.row + 1)}`; }
  get stepName() { return this.given.step === null ? "" : this.given.eval ? `eval ${this.given.step}` : String(this.given.step); }
  piece(i) { return data.pieces[this.given.tokens[i]]; } // [id, text, special]
  isCut(i) { return i >= this.given.kept; }
  isTrained(i) { return this.weights[i] !== 0 && !this.isCut(i); }
  isSampled(i) { return this.sampler?.[i] != null; }
  gap(i) { return this.logprobs?.[i] == null || this.sampler?.[i] == null ? null : this.logprobs[i] - this.sampler[i]; }

  get text() { // with the offset at which each token starts
    if (this.joined === undefined) {
      this.offsets = new Array(this.length);
      let joined = "";
      for (let i = 0; i < this.length; i++) { this.offsets[i] = joined.length; joined += this.piece(i)[1]; }
      this.joined = joined;
    }
    return this.joined;
  }

  tokenAt(offset) { // the last token that starts at or before the offset and has text
    let low = 0, high = this.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.offsets[middle] <= offset) low = middle; else high = middle - 1;
    }
    while (low > 0 && this.offsets[low - 1] === this.offsets[low]) low--;
    return low;
  }
}

const rows = data.rows.map((given, index) => new Row(given, index));

// What the colours can show.

const figure = (value, digits = 3) =>
  value === null || value === undefined ? "–"
    : (Number.isFinite(value) ? (value === 0 ? 0 : value).toFixed(digits) : String(value).replace("Infinity", "∞")).replace("-", "−");
const count = (value) => value.toLocaleString("en");
const signed = (value, digits) => (value > 0 ? "+" : "") + figure(value, digits);

function largest(read) {
  let most = 0;
  for (const row of rows) {
    for (let i = 0; i < row.length; i++) {
      const value = Math.abs(read(row, i) ?? 0);
      if (value > most && Number.isFinite(value)) most = value;
    }
  }
  return most || 1;
}

// A bucket's bounds for values that lie on both sides of nothing.
function diverging(bounds, digits) {
  const [near, middle, far] = bounds.map((bound) => bound.toFixed(digits));
  return {
    colours: "diverging",
    labels: [`below −${far}`, `−${far} to −${middle}`, `−${middle} to −${near}`, `within ±${near}`,
      `${near} to ${middle}`, `${middle} to ${far}`, `above ${far}`],
    bucket: (value) => {
      if (Number.isNaN(value)) return 6;
      const size = Math.abs(value), side = value < 0 ? -1 : 1;
      return 3 + side * (size > bounds[2] ? 3 : size > bounds[1] ? 2 : size > bounds[0] ? 1 : 0);
    },
  };
}

const LOGPROB_BOUNDS = [-0.1, -0.5, -1, -2, -4, -7];
function logprobBucket(value) {
  const at = LOGPROB_BOUNDS.findIndex((bound) => value > bound);
  return at < 0 ? 6 : at;
}

const advantageTop = rows.some((row) => row.advantages) ? largest((row, i) => row.advantages?.[i]) : 1;
const QUANTITIES = [
  {
    name: "weight", title: "Loss weight", colours: "weight",
    labels: ["trained, negative weight", "trained", "not trained"],
    there: true, onlyTrained: false,
    value: (row, i) => row.weights[i], bucket: (value) => (value < 0 ? 0 : value > 0 ? 1 : 2),
  },
  {
    name: "logprob", title: "Logprob (nats)", colours: "sequence",
    labels: ["above −0.1", "−0.1 to −0.5", "−0.5 to −1", "−1 to −2", "−2 to −4", "−4 to −7", "below −7"],
    there: rows.some((row) => row.logprobs), onlyTrained: true,
    value: (row, i) => row.logprobs?.[i] ?? null,
    bucket: logprobBucket,
    worst: { title: "Least likely trained tokens", size: (value) => -value },
  },
  {
    name: "advantage", title: "Advantage", ...diverging([0.02, 0.25, 0.6].map((part) => part * advantageTop), 2),
    there: rows.some((row) => row.advantages), onlyTrained: true,
    value: (row, i) => row.advantages?.[i] ?? null,
    worst: { title: "Lowest advantages", size: (value) => -value },
  },
  {
    name: "gap", title: "Trainer minus sampler (nats)", ...diverging([0.01, 0.1, 0.5], 2),
    there: rows.some((row) => row.sampler && row.logprobs), onlyTrained: true,
    value: (row, i) => row.gap(i),
    worst: { title: "Largest gaps", size: (value) => Math.abs(value) },
  },
  {
    name: "sampler", title: "Sampler's logprob (nats)", colours: "sequence",
    labels: ["above −0.1", "−0.1 to −0.5", "−0.5 to −1", "−1 to −2", "−2 to −4", "−4 to −7", "below −7"],
    there: rows.some((row) => row.sampler), onlyTrained: false, // what was sampled and not trained has one too
    value: (row, i) => row.sampler?.[i] ?? null, bucket: logprobBucket,
    worst: { title: "Least likely sampled tokens", size: (value) => -value },
  },
];

// The bucket of a token, or null where it has no colour.
function bucketOf(quantity, row, i) {
  if (row.isCut(i) || (quantity.onlyTrained && !row.isTrained(i))) return null;
  const value = quantity.value(row, i);
  return value === null ? null : quantity.bucket(value);
}
