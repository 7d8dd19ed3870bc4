// What stands at the side: one token, the scale of the colours, the worst tokens.

function drawDetails(place) {
  if (!place) {
    const usual = "Point at a token, or walk through them with the arrow keys.";
    byId("token").replaceChildren(element("p", "", usual));
    return;
  }
  const [row, i] = place, [id, text, special] = row.piece(i), list = element("dl", "");
  const say = (label, value) => list.append(element("dt", "", label), element("dd", "", value));
  const logprob = row.logprobs?.[i], sampler = row.sampler?.[i];
  say("id", String(id));
  say("position", `${count(i + 1)} of ${count(row.length)}`);
  if (row.member) say("sampled", row.isSampled(i) ? "yes" : "no");
  say("loss weight", row.isCut(i) ? "cut off" : row.weights[i] === 0 ? "0, not trained" : String(row.weights[i]));
  if (row.logprobs) say("logprob", logprob === null ? "not computed" : figure(logprob, 4));
  if (Number.isFinite(logprob)) say("probability", `${(100 * Math.exp(logprob)).toPrecision(3)} %`);
  if (row.advantages) say("advantage", row.advantages[i] === null ? "none" : signed(row.advantages[i], 4));
  if (row.sampler) say("sampler logprob", sampler === null ? "none" : figure(sampler, 4));
  if (row.gap(i) !== null) say("trainer − sampler", signed(row.gap(i), 4));
  if (row.given.version !== null) say("policy version", count(row.given.version));
  if (row.given.step !== null) say("step", row.given.eval ? `evaluation after ${count(row.given.step)}` : count(row.given.step));
  if (row.given.row !== null) say("row", count(row.given.row + 1));
  if (row.member) say("rollout", row.place);
  const quoted = special ? text : text === "" ? "(continues the character before)" : JSON.stringify(text);
  byId("token").replaceChildren(element("span", "big", quoted), list);
}

function drawScale() {
  const { quantity } = shown, counts = quantity.labels.map(() => 0);
  let cut = 0, total = 0;
  for (const row of shown.rows) {
    for (let i = 0; i < row.length; i++) {
      if (row.isCut(i)) cut++;
      const bucket = bucketOf(quantity, row, i);
      if (bucket !== null) { counts[bucket]++; total++; }
    }
  }
  byId("scalename").textContent = quantity.title;
  const lines = quantity.labels.map((label, bucket) => scaleLine(label, `b${bucket}`, counts[bucket], total, bucket));
  if (quantity.name === "weight" && !counts[0]) lines.shift();
  if (cut) lines.push(scaleLine("cut off", "cut", cut, total + cut, null));
  byId("scale").dataset.colours = quantity.colours;
  byId("scale").replaceChildren(...lines);
}

function scaleLine(label, className, value, total, bucket) {
  const swatch = element("span", `swatch ${className}`), button = element("button", "", swatch, element("span", "", label));
  const bar = element("meter", "");
  bar.max = Math.max(total, 1);
  bar.value = value;
  bar.ariaLabel = `${label}: ${value} of ${total} tokens`;
  button.append(bar, element("span", "count", count(value)));
  button.type = "button";
  button.title = "Fade all other tokens";
  button.disabled = bucket === null;
  button.ariaPressed = String(bucket !== null && shown.only === bucket);
  button.addEventListener("click", () => { isolate(shown.only === bucket ? null : bucket); });
  return element("li", "", button);
}

function isolate(bucket) {
  shown.only = bucket;
  for (const { dataset } of [byId("rows"), byId("tree")]) if (bucket === null) delete dataset.only; else dataset.only = bucket;
  drawScale();
}

function drawWorst() {
  const quantity = worstQuantity();
  byId("worstbox").hidden = byId("jump").hidden = !shown.worst.length;
  byId("worstname").textContent = quantity?.worst.title ?? "";
  byId("worstlist").dataset.colours = quantity?.colours ?? "";
  byId("worstlist").replaceChildren(...shown.worst.slice(0, WORST_LISTED).map(([index, i, value], at) => {
    const row = rows[index], bucket = bucketOf(quantity, row, i);
    const before = element("span", "before", element("bdi", "", lead(row, i)));
    const where = element("span", "where", before, element("code", `b${bucket}`, flat(row, i)));
    const place = row.given.step === null ? row.place : `step ${count(row.given.step)}`;
    const button = element("button", "", element("span", "", figure(value)), where, element("small", "", place));
    button.type = "button";
    button.title = `position ${count(i + 1)} of ${row.place}, ${row.given.origin}`;
    button.addEventListener("click", () => jumpToWorst(at));
    return element("li", "", button);
  }));
  drawRank();
}

function flat(row, i) { // a token's text on one line
  return row.piece(i)[1].replace(MARKS, (character) => markOf(character)[0]) || "◦";
}

function lead(row, i) { // the text before a token, as much as a line takes
  let text = "";
  for (let at = i - 1; at >= 0 && text.length < 24; at--) text = flat(row, at) + text;
  return text.slice(-24);
}

function drawRank() {
  byId("rank").textContent = shown.worstAt < 0 ? "" : `${count(shown.worstAt + 1)} of ${count(shown.worst.length)}`;
  byId("back").disabled = shown.worstAt <= 0;
  byId("worst").disabled = shown.worstAt >= shown.worst.length - 1;
  [...byId("worstlist").querySelectorAll("button")].forEach((button, at) => { button.ariaCurrent = String(at === shown.worstAt); });
}

function drawFound() {
  const { matches, at } = shown, inRows = shown.matchesOf.size;
  byId("found").textContent = !query() ? ""
    : at >= 0 ? `${count(at + 1)} of ${count(matches.length)}`
      : matches.length ? `${count(matches.length)} in ${count(inRows)} row${inRows === 1 ? "" : "s"}` : "nothing found";
}
