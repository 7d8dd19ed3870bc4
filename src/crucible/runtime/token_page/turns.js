// What does an open rollout show? Each turn: what it saw and said, token by token, and what came of it.

const MOST_DRAWN = 3000; // tokens of one stretch; the view of tokens draws any number
const SHORT_LOG = 400; // characters of a log that is shown unasked: mostly the answer as it was read, and the reference

function memberDetails(member) {
  const { given } = member, box = element("div", "turns");
  if (given.failure) {
    const { kind, what, attempts } = given.failure;
    box.append(element("p", "problem", `failed${attempts > 1 ? ` after ${attempts} attempts` : ""}: ${kind}: ${what}`));
  }
  if (given.left_out) box.append(element("p", "problem", `trained nothing: ${given.left_out}`));
  for (const row of member.rows) box.append(...row.problems.map((problem) => element("p", "problem", problem)));
  const parts = given.turns.map((turn) => brief(number(turn.reward)));
  if (number(given.group_reward)) parts.push(`${brief(number(given.group_reward))} of the group`);
  const total = member.reward === null ? "no reward; without that it were " : `reward ${brief(member.reward)} = `;
  if (parts.length > 1) box.append(element("p", "sum", total + parts.join(" + ")));
  given.turns.forEach((turn, at) => box.append(drawTurn(member, turn, at)));
  if (given.group_verdict) box.append(drawVerdict(given.group_verdict, "of the group"));
  if (Object.keys(given.group_metrics).length) box.append(pairs(given.group_metrics));
  return box;
}

function drawTurn(member, turn, at) {
  const head = element("header", "rowhead"), box = element("section", "turn");
  const say = (label, value) => head.append(element("span", "", label ? `${label} ` : "", element("b", "", value)));
  if (member.given.turns.length > 1) say("turn", String(at + 1));
  if (turn.part) say("sequence", String(turn.part + 1));
  say("", plural(turn.tokens, "token"));
  say("stopped by", turn.stop_reason === "length" ? "max_tokens" : "its stop");
  say("reward", brief(number(turn.reward)));
  if (turn.mean_logprob !== null) say("mean logprob", figure(number(turn.mean_logprob), 3));
  if (turn.lowest_logprob !== null) say("lowest", figure(number(turn.lowest_logprob), 2));
  const policy = member.step.given.policies[turn.policy];
  say("policy", `${policy.policy_version < 0 ? "unknown" : count(policy.policy_version)} at temperature ${brief(number(policy.temperature))}`);
  say("seed", String(turn.seed));
  box.append(head, ...stretch(turn, "observed"), ...stretch(turn, "answered"));
  if (turn.verdict) box.append(drawVerdict(turn.verdict, ""));
  if (Object.keys(turn.metrics).length) box.append(pairs(turn.metrics));
  if (turn.said.length) box.append(element("details", "", element("summary", "", "messages, as they were read"), conversation(turn.said)));
  if (Object.keys(turn.logs).length) box.append(drawLog(turn.logs));
  return box;
}

function drawLog(logs) {
  const box = element("details", "", element("summary", "", "the environment's log"), pairs(logs));
  box.open = JSON.stringify(logs).length < SHORT_LOG;
  return box;
}

function stretch(turn, which) { // its tokens; what it saw first is folded away, as the group's prompt stands above
  const from = which === "answered" ? turn.acted : turn.seen, to = which === "answered" ? turn.end : turn.acted;
  if (from === to) return which === "answered" ? [element("p", "sum", "it said nothing")] : [];
  const made = turn.row === null ? element("div", "tokens", marked(turn[which] ?? "")) : drawStretch(rows[turn.row], from, to);
  made.classList.add(which);
  if (which === "answered" || turn.seen > 0) return [made];
  return [element("details", "", element("summary", "", `saw ${plural(to - from, "token")}`), made)];
}

function drawStretch(row, from, to) {
  const made = element("div", "tokens"), end = Math.min(to, from + MOST_DRAWN);
  made.dataset.row = row.index;
  for (let i = from; i < end; i++) made.append(drawToken(row, i));
  if (end < to) made.append(element("span", "sum", ` … ${plural(to - end, "more token")}: see the tokens (v)`));
  return made;
}

function drawVerdict({ state, score, detail, repeatable }, whose) {
  const name = state === "score" ? `score ${brief(number(score))}` : state.replace("_", " ");
  const box = element("p", state === "score" ? "verdict" : "problem", element("b", "", `verdict ${whose}${whose ? ": " : ""}${name}`));
  if (detail) box.append(` · ${detail}`);
  if (!repeatable) box.append(" · it hung on the clock: grading again may end otherwise");
  return box;
}

function pairs(values) {
  const list = element("dl", "pairs");
  for (const [name, value] of Object.entries(values)) {
    const told = typeof value === "number" ? brief(value) : typeof value === "string" ? value : JSON.stringify(value, null, 1);
    list.append(element("dt", "", name), element("dd", "", marked(told)));
  }
  return list;
}

function conversation(messages) {
  const box = element("div", "messages");
  for (const message of messages) {
    const content = typeof message.content === "string" ? message.content : (message.content ?? []).map((part) => part.text ?? "").join("");
    const said = element("div", "said");
    for (const key of ["thinking", "reasoning_content", "reasoning"]) {
      if (typeof message[key] === "string") said.append(element("div", "thinking", marked(message[key])));
    }
    said.append(marked(content));
    for (const call of message.tool_calls ?? []) said.append(element("div", "call", marked(JSON.stringify(call.function ?? call))));
    box.append(element("div", "message", element("span", "role", message.name ? `${message.role} ${message.name}` : message.role), said));
  }
  return box;
}

function marked(text) { // characters without a shape are spelt; newlines and tabs stay what they are
  const made = document.createDocumentFragment();
  let from = 0;
  for (const { 0: character, index } of text.matchAll(MARKS)) {
    if (MARK[character] !== undefined) continue;
    made.append(text.slice(from, index), element("i", "spelt", markOf(character)[0]));
    from = index + 1;
  }
  made.append(text.slice(from));
  return made;
}
