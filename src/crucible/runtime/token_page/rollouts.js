// Which rollouts does the page hold, which of them are left by the filters, and in what order?

const brief = (value, digits = 4) => // a reward, with as many decimals as it needs
  value === null || value === undefined ? "–"
    : Math.abs(value) < 1e-12 ? "0" // the rounding of equal numbers
    : Number.isFinite(value) ? String(Number(value.toPrecision(digits))).replace("-", "−") : figure(value);
const plural = (many, name) => `${count(many)} ${name}${many === 1 ? "" : "s"}`;

class Member {
  constructor(given, group) {
    this.given = given;
    this.group = group;
    this.step = group.step;
    this.rows = [...new Set(given.turns.map((turn) => turn.row))].filter((row) => row !== null).map((row) => rows[row]);
    for (const row of this.rows) row.member = this;
    this.reward = number(given.reward);
    this.advantage = number(given.advantage);
    this.logprob = number(given.mean_logprob);
    this.verdicts = [...given.turns.map((turn) => turn.verdict), given.group_verdict].filter((verdict) => verdict);
    this.gap = null;
    for (const row of this.rows) {
      for (let i = 0; i < row.length; i++) {
        const gap = row.isTrained(i) ? row.gap(i) : null;
        if (gap !== null && (this.gap === null || Number.isNaN(gap) || Math.abs(gap) > Math.abs(this.gap))) this.gap = gap;
      }
    }
  }

  get name() { return `group ${count(this.group.given.index)}, member ${this.given.member}`; }
  get verdict() { // the worst of them
    return ["timed_out", "invalid", "score"].find((state) => this.verdicts.some((verdict) => verdict.state === state)) ?? "none";
  }
  get trained() { return this.given.left_out === null ? "not recorded" : this.given.left_out || "trained"; }
  get answer() { // the text of its last turn
    const turn = this.given.turns.at(-1);
    return turn ? textOf(turn, "answered") : "";
  }
}

function textOf(turn, which) { // what a turn answered, or observed
  if (turn.row === null) return turn[which] ?? "";
  const row = rows[turn.row], [from, to] = which === "answered" ? [turn.acted, turn.end] : [turn.seen, turn.acted];
  let text = "";
  for (let i = from; i < to; i++) text += row.piece(i)[1];
  return text;
}

function readRollouts(given) {
  if (!given) return null;
  const steps = given.steps.map((one) => {
    const step = { given: one, purpose: one.purpose, name: one.purpose === "eval" ? `eval ${one.step}` : String(one.step) };
    step.groups = one.groups.map((told) => {
      const group = { given: told, step, mean: number(told.reward_mean), spread: number(told.reward_std) };
      group.members = told.members.map((member) => new Member(member, group));
      return group;
    });
    return step;
  });
  const groups = steps.flatMap((step) => step.groups), members = groups.flatMap((group) => group.members);
  const rewards = members.map((member) => member.reward).filter(Number.isFinite);
  const [lowest, highest] = [rewards.reduce((a, b) => Math.min(a, b), Infinity), rewards.reduce((a, b) => Math.max(a, b), -Infinity)];
  return { curve: given.curve, steps, groups, members, lowest, highest };
}

const rollouts = readRollouts(data.rollouts);
const inTree = () => document.body.dataset.view === "rollouts";

function rewardClass(reward) { // from r6, the page's lowest, to r0, its highest
  if (!Number.isFinite(reward)) return "rn";
  const { lowest, highest } = rollouts;
  return `r${highest > lowest ? 6 - Math.round((6 * (reward - lowest)) / (highest - lowest)) : 3}`;
}

// Filters: what each select can say, and whether a member fits.

const SIFTS = {
  tag: { of: (member) => member.group.given.tags },
  ended: { of: (member) => [member.given.ended] },
  verdict: { of: (member) => [member.verdict] },
  trained: { of: (member) => [member.trained] },
  policy: { of: (member) => member.given.turns.map((turn) => String(member.step.given.policies[turn.policy].policy_version)) },
};

function bounds() {
  return ["from", "to"].map((id) => (byId(id).value === "" ? null : Number(byId(id).value)));
}

function isSifted(member) { // whether it is left by the filters
  if (!rollouts) return true;
  const [from, to] = bounds();
  const chosen = Object.entries(SIFTS).filter(([id]) => byId(id).value);
  if (!member) return from === null && to === null && !chosen.length; // a row that is no rollout
  if ((from !== null && !(member.reward >= from)) || (to !== null && !(member.reward <= to))) return false;
  if ((from !== null || to !== null) && member.reward === null) return false;
  return chosen.every(([id, sift]) => sift.of(member).includes(byId(id).value));
}

// Order: of the groups by a select, of their members by the head of a column.

const leastFirst = (read) => (a, b) => order(read(a), read(b));
const mostFirst = (read) => (a, b) => order(read(b), read(a));
const order = (a, b) => (a === b ? 0 : rankOf(a) - rankOf(b) || (a < b ? -1 : 1));
const rankOf = (value) => (value === null || value === undefined ? 0 : Number.isNaN(value) ? 1 : 2); // none before all

const GROUP_ORDERS = {
  "as sampled": null,
  "lowest reward": leastFirst((group) => group.mean),
  "highest reward": mostFirst((group) => group.mean),
  "largest spread": mostFirst((group) => group.spread),
  "largest gap": mostFirst((group) => Math.max(-1, ...group.members.map((member) => Math.abs(member.gap ?? 0)))),
};

const COLUMNS = [
  { name: "#", title: "member", read: (member) => member.given.member },
  { name: "reward", title: "its total", read: (member) => member.reward },
  { name: "advantage", title: "before anything that differs from token to token", read: (member) => member.advantage },
  { name: "ended", title: "how the episode ended", read: (member) => member.given.ended },
  { name: "verdict", title: "the grader's", read: (member) => member.verdict },
  { name: "tokens", title: "sampled, over all turns", read: (member) => member.given.tokens },
  { name: "logprob", title: "the sampler's mean, in nats", read: (member) => member.logprob },
  { name: "gap", title: "the largest between trainer and sampler, in nats", read: (member) => (member.gap === null ? null : Math.abs(member.gap)) },
  { name: "answer", title: "of the last turn", read: (member) => member.answer },
];
const sorted = { column: COLUMNS[0], down: false };

function arranged() { // [step, [[group, members]]] of what is left, in order
  const left = new Set(shown.members), compare = GROUP_ORDERS[byId("order").value];
  return rollouts.steps.map((step) => {
    const groups = step.groups.map((group) => [group, group.members.filter((member) => left.has(member))]).filter(([, members]) => members.length);
    if (compare) groups.sort(([a], [b]) => compare(a, b) || a.given.index - b.given.index);
    const by = (sorted.down ? mostFirst : leastFirst)(sorted.column.read);
    for (const [, members] of groups) members.sort((a, b) => by(a, b) || a.given.member - b.given.member);
    return [step, groups];
  }).filter(([, groups]) => groups.length);
}
