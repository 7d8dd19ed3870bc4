// How do rollouts look? Steps, their groups, and in each its members as lines of a table that open.

const cards = new Map(); // element -> {group, members, built}
const lines = new Map(); // member -> its element, once it is built
const opened = new Set(); // members
const nearCards = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) buildCard(entry.target);
}, { rootMargin: "1500px 0px" });

function drawTree() { // the rows of what is drawn, in its order
  nearCards.disconnect();
  cards.clear();
  lines.clear();
  const parts = [], drawn = [];
  for (const [step, groups] of arranged()) {
    parts.push(stepHead(step, groups));
    for (const [group, members] of groups) {
      const card = element("article", "group");
      card.style.height = `${90 + 27 * members.length}px`;
      cards.set(card, { group, members, built: false });
      parts.push(card);
      drawn.push(...members.flatMap((member) => member.rows));
    }
  }
  if (!parts.length) parts.push(element("p", "empty", "No rollout is left by these filters."));
  byId("tree").replaceChildren(...parts);
  for (const card of cards.keys()) nearCards.observe(card);
  byId("left").textContent = `${count(shown.members.length)} of ${plural(rollouts.members.length, "rollout")}`;
  return drawn;
}

function stepHead(step, groups) {
  const { metrics, ended, left_out: leftOut, policies, not_shown: notShown } = step.given, head = element("header", "stephead");
  const title = step.purpose === "eval" ? `Evaluation after step ${count(step.given.step)}` : `Step ${count(step.given.step)}`;
  const facts = element("dl", "facts"), metric = (name) => number(metrics[name] ?? null);
  const say = (name, value, hint = "") => {
    const told = element("div", "", element("dt", "", name), element("dd", "", value));
    told.title = hint;
    facts.append(told);
  };
  const error = metric("reward/stderr") === null ? "" : ` ± ${brief(metric("reward/stderr"), 2)}`;
  say("reward", metric("reward/mean") === null ? "none" : brief(metric("reward/mean")) + error, "mean and standard error over the groups drawn");
  say("groups", count(metric("groups")) + extras({ constant: metric("groups_constant"), unscored: metric("groups_unscored") }));
  say("rollouts", count(metric("members")));
  say("ended", extras(ended).replace(/^ \(|\)$/g, "") || "–");
  if (metric("verdicts")) say("verdicts", count(metric("verdicts")) + extras({ invalid: metric("verdicts_invalid"), "timed out": metric("verdicts_timed_out") }));
  if (Object.keys(leftOut).length) say("left out", extras(leftOut).replace(/^ \(|\)$/g, ""), "members that trained nothing, by reason");
  const versions = [...new Set(policies.map((policy) => policy.policy_version))];
  say("policy", versions.map((version) => (version < 0 ? "unknown" : count(version))).join(", ") || "–", policies.map((policy) => `${policy.base_model} ${policy.digest}`).join("\n"));
  const more = element("details", "", element("summary", "", "all metrics"), pairs(metrics));
  head.append(element("h2", "", title), facts, more);
  if (notShown) head.append(element("p", "problem", `${plural(notShown, "further group")} of this step are not in this page`));
  return element("section", "step", head, columns(groups));
}

function extras(counts) { // those that are more than nothing, in brackets
  const told = Object.entries(counts).filter(([, many]) => many).map(([name, many]) => `${count(many)} ${name}`);
  return told.length ? ` (${told.join(", ")})` : "";
}

function columns(groups) {
  const head = element("div", "line heads");
  for (const column of COLUMNS) {
    const at = sorted.column === column, button = element("button", "", column.name + (at ? (sorted.down ? " ↓" : " ↑") : ""));
    button.type = "button";
    button.title = `Sort each group's members by ${column.name === "#" ? "number" : column.name} (${column.title})`;
    button.ariaPressed = String(at);
    button.addEventListener("click", () => {
      sorted.down = at && !sorted.down;
      sorted.column = column;
      show(shown.kept, shown.members);
    });
    head.append(button);
  }
  head.hidden = !groups.length;
  return head;
}

function buildCard(card) {
  const told = cards.get(card);
  if (!told || told.built) return;
  told.built = true;
  const { group, members } = told, { index, problem, tags, first, prompt } = group.given, head = element("header", "rowhead");
  head.append(element("span", "", "group ", element("b", "", count(index))), element("b", "problemname", problem), ...tags.map((tag) => element("span", "chip", tag)));
  const stats = element("span", "stats");
  if (group.mean !== null) stats.append("reward ", element("b", "", brief(group.mean)), ` ± ${brief(group.spread, 2)}`);
  if (members.length < group.members.length) stats.append(` · ${members.length} of ${group.members.length} shown`);
  head.append(strip(group), stats);
  const said = first.length ? conversation(first) : element("div", "said", marked(prompt));
  const asked = element("div", "prompt", said);
  card.replaceChildren(head, asked, ...members.map(buildLine));
  card.style.height = "";
}

function strip(group) { // its members at a glance
  const made = element("span", "strip");
  made.append(...group.members.map((member) => {
    const cell = element("button", rewardClass(member.reward));
    cell.type = "button";
    cell.tabIndex = -1;
    cell.title = `member ${member.given.member}: reward ${brief(member.reward)}, ${member.given.ended}`;
    cell.ariaLabel = cell.title;
    cell.addEventListener("click", () => { const line = lines.get(member); if (line) { open(member, true); line.scrollIntoView({ block: "center" }); } });
    return cell;
  }));
  return made;
}

function buildLine(member) {
  const { given } = member, line = element("button", "line");
  const cell = (text, className = "", title = "") => { const made = element("span", className, text); made.title = title; line.append(made); };
  cell(String(given.member));
  cell(brief(member.reward), `reward ${rewardClass(member.reward)}`, member.reward === null ? "no reward: it is masked from the baseline" : "");
  cell(member.advantage === null ? "–" : (member.advantage > 0 ? "+" : "") + brief(member.advantage), given.left_out ? "idle" : "", given.left_out ? `trained nothing: ${given.left_out}` : "");
  cell(given.ended, given.ended === "done" ? "" : `end ${given.ended}`);
  cell(verdictText(member), member.verdict === "invalid" || member.verdict === "timed_out" ? "warned" : "", member.verdicts.map((verdict) => verdict.detail).join("\n"));
  cell(count(given.tokens) + (given.turns.length > 1 ? ` in ${given.turns.length}` : ""), "", plural(given.turns.length, "turn"));
  cell(figure(member.logprob, 2));
  cell(member.gap === null ? "–" : gapText(member.gap), Math.abs(member.gap) > 0.1 ? "warned" : "");
  cell("", "answer");
  line.lastChild.append(element("bdi", "", flatten(given.failure ? given.failure.what : member.answer)));
  line.type = "button";
  line.addEventListener("click", () => open(member, !opened.has(member)));
  const box = element("div", "member", line);
  lines.set(member, box);
  if (opened.has(member)) open(member, true);
  return box;
}

function gapText(gap) { // most are rounding: of those, the size is what tells
  return gap !== 0 && Math.abs(gap) < 0.001 ? gap.toExponential(0).replaceAll("-", "−") : figure(gap);
}

function verdictText(member) {
  const scores = member.verdicts.filter((verdict) => verdict.state === "score").map((verdict) => brief(number(verdict.score)));
  return member.verdict === "none" ? "–" : member.verdict === "score" ? scores.join(", ") : member.verdict.replace("_", " ");
}

function flatten(text) {
  return text.slice(0, 240).replace(MARKS, (character) => markOf(character)[0]);
}

function open(member, wide) {
  const box = lines.get(member);
  if (wide) opened.add(member); else opened.delete(member);
  if (!box) return;
  box.firstChild.ariaExpanded = String(wide);
  if (wide && box.children.length === 1) box.append(memberDetails(member));
  if (!wide) box.lastChild !== box.firstChild && box.lastChild.remove();
}

function revealToken(row, i) { // its element, in its open rollout; null where the tree does not draw it
  const made = reveal(row.member)?.querySelector(`.tokens[data-row="${row.index}"] .t[data-i="${i}"]`);
  for (let box = made?.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  return made ?? null;
}

function reveal(member) { // its element, open
  if (!lines.has(member)) for (const [card, { members }] of cards) if (members.includes(member)) buildCard(card);
  if (!opened.has(member)) open(member, true);
  return lines.get(member);
}
