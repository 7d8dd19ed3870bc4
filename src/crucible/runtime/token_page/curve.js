// How did the reward go, and how did the episodes end? A picture over all recorded steps, and the way to each.

const ENDS = ["done", "turns", "cut", "context", "malformed", "failed"];
function shape(name, attributes, ...children) {
  const made = document.createElementNS(byId("picture").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawCurve() {
  const told = rollouts?.curve ?? [];
  byId("curve").hidden = told.length < 2 || !inTree();
  if (byId("curve").hidden) return;
  const width = Math.max(320, byId("curve").clientWidth - 32), height = 120, left = 44, under = 14;
  const steps = told.map((point) => point.step), first = Math.min(...steps), last = Math.max(...steps);
  const known = told.flatMap((point) => [number(point.lowest), number(point.highest)]).filter(Number.isFinite);
  const low = Math.min(...known), span = Math.max(...known) - low || 1;
  const x = (step) => left + ((step - first) / (last - first || 1)) * (width - left - 10);
  const y = (value) => 8 + (1 - (value - low) / span) * (height - 16);
  const trained = told.filter((point) => point.purpose === "step" && Number.isFinite(number(point.mean)));
  const band = (upper, lower) => {
    const forth = trained.map((point) => `${x(point.step)},${y(upper(point))}`);
    const back = trained.slice().reverse().map((point) => `${x(point.step)},${y(lower(point))}`);
    return [...forth, ...back].join(" ");
  };
  const picture = shape("svg", { id: "picture", width, height: height + under + 22, role: "img" });
  picture.append(shape("title", {}, "Mean reward by step"));
  for (const value of known.length ? [low, low + span] : []) {
    const label = shape("text", { x: left - 8, y: y(value) + 4, class: "axis", "text-anchor": "end" }, brief(value));
    picture.append(shape("line", { x1: left, x2: width - 10, y1: y(value), y2: y(value), class: "grid" }), label);
  }
  picture.append(
    shape("polygon", { class: "range", points: band((point) => number(point.highest), (point) => number(point.lowest)) }),
    shape("polygon", { class: "error", points: band((point) => point.mean + (number(point.stderr) || 0), (point) => point.mean - (number(point.stderr) || 0)) }),
    shape("polyline", { class: "mean", points: trained.map((point) => `${x(point.step)},${y(point.mean)}`).join(" ") }),
  );
  for (const point of told) if (Number.isFinite(number(point.mean))) picture.append(dot(point, x(point.step), y(point.mean)));
  const bar = Math.max(1, Math.min(14, (width - left) / (last - first + 1) - 1));
  for (const point of told.filter((one) => one.purpose === "step")) picture.append(...ends(point, x(point.step), height + 4, bar, under));
  for (const step of new Set([first, last])) {
    picture.append(shape("text", { x: x(step), y: height + under + 18, class: "axis", "text-anchor": step === first ? "start" : "end" }, `step ${count(step)}`));
  }
  picture.addEventListener("mousemove", (event) => tell(nearest(event)));
  picture.addEventListener("mouseleave", () => tell(null));
  picture.addEventListener("click", (event) => choosePoint(nearest(event)));
  const nearest = (event) => {
    const box = picture.getBoundingClientRect(), [across, down] = [event.clientX - box.left, event.clientY - box.top];
    const distance = (point) => [Math.abs(x(point.step) - across), Math.abs(y(number(point.mean) ?? low) - down)];
    return told.map((point) => [point, ...distance(point)]).sort((a, b) => a[1] - b[1] || a[2] - b[2])[0][0];
  };
  const tell = (point) => { byId("caption").textContent = point ? sentence(point) : legend(); };
  byId("picture").replaceWith(picture);
  tell(null);
}

function dot(point, x, y) {
  const chosen = byId("step").value === nameOf(point);
  const attributes = { class: `dot${point.shown ? " held" : ""}${chosen ? " at" : ""}`, "data-step": nameOf(point) };
  return point.purpose === "eval"
    ? shape("rect", { ...attributes, x: x - 4, y: y - 4, width: 8, height: 8, transform: `rotate(45 ${x} ${y})` })
    : shape("circle", { ...attributes, cx: x, cy: y, r: chosen ? 5 : 3 });
}

function ends(point, x, top, width, height) { // the shares of how its episodes ended, one upon the other
  const total = Object.values(point.ended).reduce((sum, many) => sum + many, 0) || 1;
  let from = top;
  return ENDS.filter((how) => point.ended[how]).map((how) => {
    const share = (height * point.ended[how]) / total, made = shape("rect", { class: `end ${how}`, x: x - width / 2, y: from, width, height: share });
    from += share;
    return made;
  });
}

const nameOf = (point) => (point.purpose === "eval" ? `eval ${point.step}` : String(point.step));

function legend() {
  const some = rollouts.curve.some((point) => !point.shown);
  return `mean reward, ± its standard error, and its range; below, how episodes ended${some ? "; filled dots are in this page" : ""}`;
}

function sentence(point) {
  const how = Object.entries(point.ended).map(([name, many]) => `${count(many)} ${name}`).join(", ");
  const error = Number.isFinite(number(point.stderr)) ? ` ± ${brief(number(point.stderr), 2)}` : "";
  const where = point.purpose === "eval" ? `evaluation after step ${count(point.step)}` : `step ${count(point.step)}`;
  const mean = number(point.mean) === null ? "no reward" : `reward ${brief(number(point.mean))}${error}`;
  return `${where}: ${mean}; ${how}${point.shown ? "" : ` (not in this page: crucible inspect run ... --step ${point.step} --html)`}`;
}

function choosePoint(point) {
  if (!point.shown) return;
  byId("step").value = nameOf(point);
  filter();
  drawCurve();
}
