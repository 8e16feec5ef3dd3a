// The page of a coordinator: it draws what /page/stream sends, and asks /page/find. It changes nothing.
// Text from outside (names of clients, reasons, messages) becomes text nodes alone, never HTML.
"use strict";

const EVENTS_MAX = 2000; // kept by this page
const EVENTS_LISTED = 200;
const CLIENTS_MAX = 5000;
const SILENT_MS = 15000; // the server sends at least every 5 s
const AGAIN_MS = 5000;
const CLIENT_EVERY_MS = 5000; // such a search reads the whole queue
const HIDDEN_MS = 60000; // a page that is not seen watches no longer
const RELOAD_MS = 60000;
const SVG = "http://www.w3.org/2000/svg";
const TROUBLE = new Set(["rejected", "undeliverable", "declined", "crash_loop", "exhausted", "expired", "refused"]);

const WORDS = {
  queued: "asked for a turn", granted: "granted", identified: "sent IDENTIFY", ready: "READY",
  rejected: "Invalid Session", declined: "declined its turn", undeliverable: "grant not delivered",
  cancelled: "withdrawn", expired: "expired", refused: "refused", crash_loop: "crash loop", limits: "day’s figures",
  exhausted: "day’s limit reached", leader: "new leader", paused: "paused", resumed: "resumed", kicked: "request ended by an operator",
  released: "turn given back by an operator", pardoned: "crash loop pardoned", handover: "lead handed over",
};

const WAITS_FOR = {
  window: "its window", session_limit: "the next day", crash_loop: "its crash loop’s delay",
  limits_unknown: "Discord’s limits", paused: "the end of the pause",
};

const WHY = {
  window: "Two IDENTIFYs of one bucket must be a window apart, and the requests before it go first.",
  session_limit: "The day’s session starts are spent, or the rest is kept for higher priorities. It goes on when the day ends.",
  crash_loop: "This shard was granted too many turns lately, as if it crashed again and again. It is held back for a while, and the others go first.",
  limits_unknown: "The coordinator has no figures from Discord yet, so nothing is granted.",
  paused: "An operator has paused the queue.",
};

const state = {
  picture: null, at: 0, events: [], clients: new Map(), grants: new Map(), search: null, asking: false, edition: null,
  source: null, lostAt: null, lastMessage: 0, hiddenTimer: 0,
};

// --- words

const byId = (id) => document.getElementById(id);
const two = (number) => String(number).padStart(2, "0");
const count = (number) => number.toLocaleString("en");
const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

function clock(ms, withSeconds = true) {
  const at = new Date(ms);
  const minutes = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  return withSeconds ? `${minutes}:${two(at.getUTCSeconds())}` : minutes;
}

function when(ms) {
  const days = Math.floor(ms / 86400000) - Math.floor(now() / 86400000);
  return days === 0 ? clock(ms) : `${clock(ms)} on ${new Date(ms).toISOString().slice(0, 10)}`;
}

function duration(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${Math.floor(hours / 24)} d`;
}

function ordinal(number) {
  const last = number % 100;
  const ending = last > 10 && last < 14 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[number % 10] || "th";
  return `${count(number)}${ending}`;
}

const now = () => (state.picture ? state.picture.at_ms : Date.now());
const name = (text) => ({ name: text });

// --- the document: nodes change only where what they show has changed

function fill(node, parts) {
  const list = Array.isArray(parts) ? parts : [parts];
  const key = JSON.stringify(list);
  if (node.shownKey === key) return;
  node.shownKey = key;
  node.replaceChildren(...list.map((part) => {
    if (part === null || typeof part !== "object") return document.createTextNode(String(part));
    const inner = document.createElement("name" in part ? "bdi" : "strong");
    inner.textContent = "name" in part ? part.name : part.strong;
    return inner;
  }));
}

function children(node, tag, number) {
  while (node.children.length > number) node.lastElementChild.remove();
  while (node.children.length < number) node.append(document.createElement(tag));
  return [...node.children];
}

function rows(body, list) {
  const columns = [...body.parentElement.querySelectorAll("th")].map((heading) => heading.textContent);
  children(body, "tr", list.length).forEach((row, index) => {
    const { cells, kind = "" } = list[index];
    row.role = "row"; // a narrow screen shows it as a grid, and it stays a row for a screen reader
    if (row.className !== kind) row.className = kind;
    children(row, "td", cells.length).forEach((cell, column) => {
      const [parts, className = ""] = cells[column];
      cell.role = "cell";
      cell.dataset.column = columns[column];
      if (cell.className !== className) cell.className = className;
      fill(cell, parts);
    });
  });
}

function drawn(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// --- the head of the page

function showServed(picture) {
  const here = ["Served by ", name(picture.name)];
  if (picture.is_leading) fill(byId("served"), [...here, ", which leads."]);
  else if (picture.leader === picture.name) fill(byId("served"), [...here, ", which leads by the last ledger that it has seen."]);
  else fill(byId("served"), [...here, `, a ${picture.role}. It has the same queue as the leader, `, picture.leader ? name(picture.leader) : "of which there is none now", ", and grants nothing."]);
}

function notices(picture) {
  const found = [];
  const limit = picture.session_start_limit;
  if (!picture.leader) found.push(["bad", ["No coordinator leads. Nothing is granted until one does."]]);
  if (picture.not_ready) found.push(["bad", ["This coordinator is not ready: ", name(picture.not_ready), "."]]);
  if (picture.trouble) found.push(["bad", ["No figures from Discord: ", name(picture.trouble), "."]]);
  if (picture.paused) found.push(["", pauseText(picture.paused)]);
  if (picture.hold_all_ms) found.push(["", [`Every bucket is held for ${duration(picture.hold_all_ms)} more: the leader has just started, and cannot know what was granted before.`]]);
  if (limit.remaining !== null && limit.remaining <= picture.reserve) found.push(["bad", [`${plural(Math.max(0, limit.remaining), "session start is", "session starts are")} left today, all kept for priority 1 and above: the others wait for the next day.`]]);
  if (state.outdated) found.push(["", ["The coordinator has another version than this page. Reload the page."]]);
  return found;
}

function pauseText(pause) {
  const whom = pause.below_priority === null || pause.below_priority === undefined ? "No turn is granted" : `No turn is granted below priority ${pause.below_priority}`;
  const until = pause.left_ms === null || pause.left_ms === undefined ? "until an operator resumes" : `until ${when(now() + pause.left_ms)}, ${duration(pause.left_ms)} more`;
  return [`${whom}, ${until}. Paused by `, name(pause.by || "unknown"), ...(pause.why ? [": ", name(pause.why)] : []), "."];
}

function showNotices(list) {
  children(byId("notices"), "li", list.length).forEach((item, index) => {
    const [kind, parts] = list[index];
    if (item.className !== kind) item.className = kind;
    fill(item, parts);
  });
}

function showFacts(picture) {
  const limit = picture.session_start_limit;
  const projection = picture.projection;
  const change = [...picture.leaders].reverse().find((one) => one.leader === picture.leader && one.term === picture.term);
  fill(byId("fact-leader"), picture.leader ? name(picture.leader) : "none");
  fill(byId("fact-leader-more"), `term ${count(picture.term)}${change ? `, seen here since ${when(change.at_ms)}` : ""}`);
  fill(byId("fact-waiting"), plural(picture.waiting, "request", "requests"));
  fill(byId("fact-waiting-more"), waitingText(picture, projection));
  fill(byId("fact-day"), limit.remaining === null ? "unknown" : `${count(limit.remaining)} of ${limit.total === null ? "?" : count(limit.total)}`);
  fill(byId("fact-day-more"), dayText(picture, limit, projection));
  showMeter(limit, picture.reserve);
  fill(byId("fact-pause"), picture.paused ? "paused" : "none");
  fill(byId("fact-pause-more"), picture.paused ? ["by ", name(picture.paused.by || "unknown"), picture.paused.left_ms ? `, ${duration(picture.paused.left_ms)} more` : ", until resumed"] : "turns are granted as they come");
}

function waitingText(picture, projection) {
  if (!picture.waiting) return "none waits";
  const up = projection && projection.all_up_in_ms !== null ? `the last is up in ${duration(projection.all_up_in_ms)}, at ${when(now() + projection.all_up_in_ms)}` : "the last is up at an unknown time";
  return picture.held_back ? `${up}; ${count(picture.held_back)} held back` : up;
}

function dayText(picture, limit, projection) {
  const parts = [];
  if (projection && projection.session_starts_short) parts.push(`${count(projection.session_starts_short)} too few for those that wait`);
  if (picture.reserve) parts.push(`the last ${count(picture.reserve)} are kept for priority 1 and above`);
  parts.push(limit.reset_after_ms === null ? "the day’s end is not known yet" : `the day ends in ${duration(limit.reset_after_ms)}, at ${when(now() + limit.reset_after_ms)}`);
  return parts.join("; ");
}

function showMeter(limit, reserve) {
  const meter = byId("day-meter");
  const total = Math.max(1, limit.total || 1);
  const left = Math.min(total, Math.max(0, limit.remaining || 0));
  const kept = Math.min(left, reserve);
  const key = `${total} ${left} ${kept}`;
  if (meter.shownKey === key) return;
  meter.shownKey = key;
  meter.replaceChildren(
    drawn("rect", { class: "reserve", x: 0, y: 0, height: 4, width: (100 * kept) / total }),
    drawn("rect", { class: "left", x: (100 * kept) / total, y: 0, height: 4, width: (100 * (left - kept)) / total }),
  );
}

// --- the timeline

function noteGrant(id, known) {
  const grant = state.grants.get(id) || {};
  for (const [key, value] of Object.entries(known)) if (value !== null && value !== undefined) grant[key] = value;
  state.grants.set(id, grant);
}

function noteEvent(event) {
  const { name: what, at_ms: at, fields } = event;
  if (fields.request_id && fields.client) state.clients.set(fields.request_id, fields.client);
  if (!fields.grant_id || !(what in { granted: 0, identified: 0, ready: 0, rejected: 0, declined: 0, undeliverable: 0 })) return;
  noteGrant(fields.grant_id, { shard: fields.shard_id, bucket: fields.bucket, [what]: at });
}

function notePicture(picture) {
  for (const bucket of picture.buckets) {
    for (const request of bucket.first) if (request.client) state.clients.set(request.request_id, request.client);
    for (const grant of bucket.grants) {
      const known = state.grants.get(grant.grant_id) || {};
      const granted = grant.granted_ms_ago === null ? picture.at_ms : picture.at_ms - grant.granted_ms_ago;
      const identified = grant.identified_ms_ago === null ? null : picture.at_ms - grant.identified_ms_ago;
      noteGrant(grant.grant_id, {
        shard: grant.shard_id, bucket: grant.bucket, granted: known.granted || granted, identified: known.identified || identified,
        opens: picture.at_ms + grant.opens_in_ms, ...(grant.state === "ready" || grant.state === "rejected" ? { [grant.state]: known[grant.state] || picture.at_ms } : {}),
      });
    }
  }
  for (const [id, grant] of state.grants) if ((grant.granted || grant.identified || 0) < picture.at_ms - 180000) state.grants.delete(id);
  for (const id of state.clients.keys()) {
    if (state.clients.size <= CLIENTS_MAX) break;
    state.clients.delete(id);
  }
}

function opensAt(grant, picture) {
  const ends = [];
  if (grant.declined || grant.undeliverable) return grant.declined || grant.undeliverable;
  if (grant.opens) return grant.opens;
  if (grant.identified) ends.push(grant.identified + picture.window_ms + picture.margin_ms);
  const proved = grant.ready || grant.rejected;
  if (proved) ends.push(proved + picture.window_ms);
  return ends.length ? Math.min(...ends) : grant.granted + picture.use_within_ms;
}

function scale(width) {
  const narrow = width < 560;
  const left = narrow ? 30 : 76;
  const [past, future] = narrow ? [25000, 25000] : [60000, 40000];
  const at = now();
  return { narrow, left, width, from: at - past, to: at + future, at, x: (ms) => left + ((ms - at + past) / (past + future)) * (width - left) };
}

function laneHeight(lanes) {
  return lanes <= 8 ? 30 : lanes <= 16 ? 24 : 18;
}

function drawAxis(svg, view, height) {
  const step = 10000;
  for (let offset = Math.ceil((view.from - view.at) / step) * step; view.at + offset <= view.to; offset += step) {
    const x = view.x(view.at + offset);
    if (offset) svg.append(drawn("line", { class: "grid-line", x1: x, x2: x, y1: 20, y2: height }));
    if (offset && view.narrow && offset % 20000) continue;
    const label = offset ? `${offset > 0 ? "+" : "−"}${Math.abs(offset) / 1000} s` : clock(view.at);
    if (!offset || Math.abs(x - view.x(view.at)) > 50) svg.append(drawn("text", { class: "axis", x, y: 13, "text-anchor": x > view.width - 20 ? "end" : "middle" }, label));
  }
}

function box(svg, view, { kind, from, to, y, height, text, about, shift = 0 }) {
  const [x1, x2] = [Math.max(view.left, view.x(from)), Math.min(view.width, view.x(to))];
  if (x2 - x1 < 0.5) return;
  const rect = drawn("rect", { class: kind, x: x1.toFixed(1), y, width: (x2 - x1).toFixed(1), height, rx: 2 });
  rect.append(drawn("title", {}, about));
  svg.append(rect);
  if (text !== undefined && x2 - x1 > 7 * text.length + 4) svg.append(drawn("text", { x: ((x1 + x2) / 2 + shift).toFixed(1), y: y + height / 2 + 4, "text-anchor": "middle" }, text));
}

function mark(svg, view, at, path) {
  if (at && at >= view.from && at <= view.to) svg.append(path(view.x(at)));
}

function drawGrant(svg, view, grant, y, height) {
  const picture = state.picture;
  const ends = opensAt(grant, picture);
  const shut = grant.identified || grant.ready || grant.rejected;
  const granted = grant.granted || shut || ends;
  const about = `shard ${grant.shard}: granted ${clock(granted)}`;
  const middle = y + height / 2;
  box(svg, view, { kind: "granted-bar", from: granted, to: shut || ends, y, height, text: shut ? undefined : String(grant.shard), about });
  if (shut) box(svg, view, { kind: "window-bar", from: shut, to: ends, y, height, text: String(grant.shard), shift: 5, about: `${about}, IDENTIFY ${clock(shut)}, bucket shut until ${clock(ends)}` });
  mark(svg, view, granted, (x) => drawn("line", { class: "granted-mark", x1: x, x2: x, y1: y - 1, y2: y + height + 1 }));
  mark(svg, view, grant.ready, (x) => drawn("path", { class: "ready-mark", d: `M${x - 4} ${y + height - 5}l3 3l6-7` }));
  mark(svg, view, grant.rejected || grant.declined || grant.undeliverable, (x) => drawn("path", { class: "bad-mark", d: `M${x - 4} ${middle - 4}l8 8m0-8l-8 8` }));
}

function drawNext(svg, view, bucket, y, height) {
  const hold = state.picture.window_ms + state.picture.margin_ms;
  let last = -1;
  for (const request of bucket.first) {
    if (request.eta_ms === null || request.eta_ms <= last) continue;
    const from = now() + request.eta_ms;
    if (from > view.to) break;
    last = request.eta_ms;
    box(svg, view, { kind: "next-bar", from: from + 150, to: from + hold - 150, y: y + 2, height: height - 4, text: String(request.shard_id), about: `shard ${request.shard_id}: expected ${clock(from)}` });
  }
}

function stoppedUntil(picture) {
  const limit = picture.session_start_limit;
  const ends = [];
  if (picture.paused) ends.push(picture.paused.left_ms ? now() + picture.paused.left_ms : Infinity);
  if (picture.hold_all_ms) ends.push(now() + picture.hold_all_ms);
  if (limit.remaining !== null && limit.remaining <= picture.reserve && picture.waiting) ends.push(limit.reset_after_ms === null ? Infinity : now() + limit.reset_after_ms);
  return ends.length ? Math.max(...ends) : null;
}

function showTimeline() {
  const picture = state.picture;
  if (!picture) return;
  const holder = byId("timeline");
  const width = Math.max(280, Math.round(holder.clientWidth));
  const view = scale(width);
  const lane = laneHeight(picture.buckets.length);
  const height = 22 + lane * picture.buckets.length;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Timeline of ${plural(picture.buckets.length, "bucket", "buckets")}: the table of buckets has the same in words` });
  const lanes = new Map(picture.buckets.map((bucket, index) => [bucket.bucket, 22 + index * lane]));
  drawAxis(svg, view, height);
  const stopped = stoppedUntil(picture);
  if (stopped !== null) box(svg, view, { kind: "stopped-bar", from: view.at, to: Math.min(view.to, stopped), y: 20, height: height - 20, about: "nothing is granted" });
  for (const bucket of picture.buckets) {
    const y = lanes.get(bucket.bucket);
    svg.append(drawn("line", { class: "lane-line", x1: 0, x2: width, y1: y + lane - 0.5, y2: y + lane - 0.5 }));
    svg.append(drawn("text", { class: "lane", x: 0, y: y + lane / 2 + 4 }, view.narrow ? String(bucket.bucket) : `bucket ${bucket.bucket}`));
    drawNext(svg, view, bucket, y + 3, lane - 7);
  }
  for (const grant of [...state.grants.values()].sort((one, other) => (one.granted || 0) - (other.granted || 0))) {
    const y = lanes.get(grant.bucket);
    if (y !== undefined) drawGrant(svg, view, grant, y + 3, lane - 7);
  }
  svg.append(drawn("line", { class: "now-line", x1: view.x(view.at), x2: view.x(view.at), y1: 18, y2: height }));
  holder.replaceChildren(svg);
  const others = picture.other_buckets ? `The ${count(picture.buckets.length)} buckets with the most requests have a lane; ${plural(picture.other_buckets, "other bucket has", "other buckets have")} ${plural(picture.other_waiting, "request", "requests")}. ` : "";
  const known = picture.is_leading ? "" : "A standby has no events of the leader: what is left of “now” is what this page has seen since it was opened.";
  fill(byId("timeline-more"), others + known);
}

// --- the tables

function nextShards(bucket) {
  const parts = bucket.first.slice(0, 4).flatMap((request, index) => [
    index ? ", " : "", `${request.shard_id}`, ...(request.client ? [" (", name(request.client), ")"] : []), request.is_unresponsive ? " – passed over" : "",
  ]);
  const more = bucket.waiting - Math.min(4, bucket.first.length);
  return more > 0 ? [...parts, ` and ${count(more)} more`] : parts.length ? parts : ["–"];
}

function showBuckets(picture) {
  const list = picture.buckets.map((bucket) => {
    const first = bucket.first[0];
    const next = !first ? (bucket.opens_in_ms ? `open in ${duration(bucket.opens_in_ms)}` : "open") : first.eta_ms === null ? "unknown" : `in ${duration(first.eta_ms)}`;
    const last = !bucket.waiting ? "–" : bucket.last_eta_ms === null ? "unknown" : `in ${duration(bucket.last_eta_ms)}`;
    const reason = first ? WAITS_FOR[first.reason] || first.reason : "–";
    return { cells: [[String(bucket.bucket)], [count(bucket.waiting), "number"], [next, "when"], [reason], [nextShards(bucket)], [last, "when"]] };
  });
  if (picture.other_buckets) list.push({ kind: "sum", cells: [[`${count(picture.other_buckets)} more`], [count(picture.other_waiting), "number"], ["–"], ["–"], ["–"], ["–"]] });
  rows(byId("buckets"), list);
}

function showSides(picture) {
  byId("busiest-part").hidden = picture.busiest === undefined;
  const busiest = picture.busiest || [];
  fill(byId("busiest-note"), busiest.length ? `Of the last ${duration(busiest[0].over_ms)}. A shard that waits renews at the pace that it is given; many new requests from one client are a loop.` : "No client has sent anything lately.");
  rows(byId("busiest"), busiest.map((one) => ({ cells: [[name(one.client)], [count(one.new_requests), "number"], [count(one.messages), "number"]] })));
  const loops = picture.crash_loops;
  byId("loops-table").hidden = !loops.length;
  fill(byId("loops-note"), loops.length ? (picture.held_back > loops.length ? `The ${loops.length} that are due first, of ${count(picture.held_back)}.` : "Granted too often lately; the others go first.") : "No shard is held back.");
  rows(byId("loops"), loops.map((one) => ({ cells: [[String(one.shard_id)], [one.client ? name(one.client) : "–"], [duration(one.opens_in_ms), "when"]] })));
  const leaders = [...picture.leaders].reverse();
  fill(byId("leaders-note"), leaders.length ? "As this process has seen them in the ledger, the newest first." : "None was seen yet.");
  rows(byId("leaders"), leaders.map((one) => ({ cells: [[when(one.at_ms), "when"], [one.leader ? name(one.leader) : "none: the lead was given up"], [count(one.term), "number"]] })));
}

// --- the events

const SHOWN_ELSEWHERE = new Set(["shard_id", "request_id", "grant_id", "bucket", "client", "leader", "instance", "term"]);

function details(event) {
  const { fields, name: what } = event;
  const client = fields.client || state.clients.get(fields.request_id);
  const parts = [];
  if (what === "leader") parts.push(name(fields.leader), `, term ${count(fields.term)}`);
  else if (what === "limits" || what === "exhausted") return [`${fields.remaining === null ? "?" : count(fields.remaining)} of ${fields.total === null ? "?" : count(fields.total)} left, max_concurrency ${fields.max_concurrency}${fields.reset_in_ms === null ? "" : `, the day ends in ${duration(fields.reset_in_ms)}`}`];
  else if (fields.bucket !== undefined) parts.push(`bucket ${fields.bucket}`);
  for (const [key, value] of Object.entries(fields)) {
    if (SHOWN_ELSEWHERE.has(key) || value === null) continue;
    const shown = key.endsWith("_ms") ? `${key.slice(0, -3).replaceAll("_", " ")} ${duration(value)}` : [`${key.replaceAll("_", " ")} `, name(String(value))];
    parts.push(parts.length ? ", " : "", ...[shown].flat());
  }
  if (client) parts.push(parts.length ? ", " : "", name(client));
  return parts;
}

function isWanted(event, minute, kind, text) {
  if (minute && Math.floor(event.at_ms / 60000) * 60000 !== minute) return false;
  if (kind === "trouble" && !TROUBLE.has(event.name)) return false;
  if (kind === "notable" && (event.name === "queued" || event.name === "cancelled")) return false;
  if (!text) return true;
  const { shard_id: shard, client, request_id: request } = event.fields;
  return String(shard) === text || (client || state.clients.get(request) || "").toLowerCase().includes(text);
}

function showEvents() {
  const picture = state.picture;
  if (!picture) return;
  const minute = Number(byId("minute").value);
  const kind = byId("kind").value;
  const text = byId("event-text").value.trim().toLowerCase();
  const wanted = [];
  for (let index = state.events.length - 1; index >= 0 && wanted.length < EVENTS_LISTED; index -= 1) {
    if (isWanted(state.events[index], minute, kind, text)) wanted.push(state.events[index]);
  }
  rows(byId("events"), wanted.map((event) => ({
    kind: TROUBLE.has(event.name) ? "trouble" : "",
    cells: [[minute || event.at_ms > now() - 43200000 ? clock(event.at_ms) : when(event.at_ms), "time"], [WORDS[event.name] || event.name, "what"], [event.fields.shard_id === undefined ? "–" : String(event.fields.shard_id)], [details(event)]],
  })));
  byId("events-none").hidden = wanted.length > 0;
  fill(byId("events-note"), eventsNote(picture, minute));
}

function eventsNote(picture, minute) {
  const counted = picture.minutes.find((one) => one.at_ms === minute);
  if (counted) return `In the minute of ${clock(minute, false)}: ${Object.entries(counted.counts).map(([what, number]) => `${count(number)} ${WORDS[what] || what}`).join(", ")}.`;
  if (picture.is_leading) return "The last events since this process leads, the newest first: 200 of each kind at most.";
  return ["The leader publishes the events: those of now are on the page of ", name(picture.leader || "the leader"), ". Here are those of the time when this process led."];
}

function showMinutes(picture) {
  const svg = byId("minutes");
  const chosen = byId("minute");
  const end = Math.floor(picture.at_ms / 60000);
  const key = JSON.stringify([picture.minutes, end, chosen.value]);
  if (svg.shownKey === key) return;
  svg.shownKey = key;
  byId("minutes-part").hidden = !picture.minutes.length;
  const most = Math.max(1, ...picture.minutes.map((one) => one.counts.granted || 0));
  svg.replaceChildren(...picture.minutes.flatMap((one) => {
    const x = 600 - (end - one.at_ms / 60000 + 1) * 10;
    const high = (48 * (one.counts.granted || 0)) / most;
    const bad = Object.entries(one.counts).some(([what, number]) => number && TROUBLE.has(what) && what !== "refused");
    const bar = drawn("rect", { class: String(one.at_ms) === chosen.value ? "chosen" : "", x: x + 1, width: 8, y: 56 - high, height: high });
    bar.append(drawn("title", {}, `${clock(one.at_ms, false)}: ${one.counts.granted || 0} granted`));
    bar.addEventListener("click", () => { chosen.value = String(one.at_ms); showMinutes(state.picture); showEvents(); });
    return bad ? [bar, drawn("rect", { class: "trouble", x: x + 1, width: 8, y: 53, height: 3 })] : [bar];
  }));
  showMinuteChoice(picture, end, chosen);
}

function showMinuteChoice(picture, end, chosen) {
  const past = picture.minutes.filter((one) => one.at_ms / 60000 < end).reverse();
  const list = [["", "all"], [String(end * 60000), `${clock(end * 60000, false)} · now`], ...past.map((one) => {
    const bad = Object.entries(one.counts).reduce((sum, [what, number]) => sum + (TROUBLE.has(what) ? number : 0), 0);
    return [String(one.at_ms), `${clock(one.at_ms, false)} · ${count(one.counts.granted || 0)} granted${bad ? ` · ${count(bad)} trouble` : ""}`];
  })];
  const key = JSON.stringify(list);
  if (chosen.shownKey === key) return;
  chosen.shownKey = key;
  const before = chosen.value;
  children(chosen, "option", list.length).forEach((option, index) => {
    [option.value, option.textContent] = list[index];
  });
  chosen.value = list.some(([value]) => value === before) ? before : "";
}

// --- the search

function requestText(request) {
  const when_ = request.eta_ms === null ? "Its turn comes at an unknown time." : request.eta_ms === 0 ? "Its turn is now." : `Its turn is expected in ${duration(request.eta_ms)}, at ${when(now() + request.eta_ms)}.`;
  const pause = request.reason === "paused" && state.picture.paused ? [" ", ...pauseText(state.picture.paused)] : [];
  if (request.grant_id) return { said: "", bad: false, lines: [[`Its request, with the grant above, was last renewed ${duration(request.renewed_ms_ago)} ago.`]] };
  const place = request.position === 1 ? "next" : ordinal(request.position);
  return {
    said: `Shard ${request.shard_id} is ${place} in bucket ${request.bucket} and waits for ${WAITS_FOR[request.reason] || request.reason}.`,
    bad: request.is_unresponsive || request.reason !== "window",
    lines: [
      [{ strong: `Shard ${request.shard_id} is ${place} in bucket ${request.bucket} and waits for ${WAITS_FOR[request.reason] || request.reason}. ` }, when_],
      [WHY[request.reason] || "", ...pause],
      ...(request.is_unresponsive ? [[{ strong: "Its shard did not receive its last message: " }, "it is passed over until it renews. Is its process alive?"]] : []),
      aheadText(request),
      [...(request.client ? ["Client ", name(request.client), ", "] : []), `priority ${request.priority}, has waited for ${duration(request.waited_ms)}, last renewed ${duration(request.renewed_ms_ago)} ago.`],
    ],
  };
}

function aheadText(request) {
  if (!request.ahead_count) return ["No request is before it."];
  const listed = request.ahead.flatMap((one, index) => [index ? ", " : "", `shard ${one.shard_id}`, ...(one.client ? [" (", name(one.client), ")"] : [])]);
  const more = request.ahead_count - request.ahead.length;
  return ["Before it: ", ...listed, more > 0 ? `, and ${count(more)} further ahead` : "", "."];
}

function grantText(grant) {
  const what = { unconfirmed: "has its turn, and has not confirmed its IDENTIFY yet", identified: "has sent IDENTIFY", ready: "has sent IDENTIFY, and is READY", rejected: "has sent IDENTIFY, and Discord answered Invalid Session" }[grant.state] || grant.state;
  const said = `Shard ${grant.shard_id} ${what}.`;
  const ago = grant.granted_ms_ago === null ? "" : `Granted ${duration(grant.granted_ms_ago)} ago. `;
  return { said, bad: grant.state === "rejected", lines: [[{ strong: `${said} ` }, `${ago}Bucket ${grant.bucket} is shut for ${duration(grant.opens_in_ms)} more.`], ...(grant.client ? [["Client ", name(grant.client), "."]] : [])] };
}

function whyAbsent(search, last) {
  if (search.shard_id === undefined) return `${last ? "" : "It has not asked, or it has had its turn. "}A client’s name must be given in full.`;
  if (!last) return "It has not asked, or it has had its turn.";
  return last.name === "cancelled" ? "It asked, and took its request back." : "It has had its turn, or its request has ended.";
}

function absentText(search) {
  const key = search.shard_id !== undefined ? String(search.shard_id) : search.client.toLowerCase();
  const last = [...state.events].reverse().find((event) => isWanted(event, 0, "all", key));
  const who = search.shard_id !== undefined ? `Shard ${search.shard_id}` : `Client ${search.client}`;
  const seen = last ? [`Last seen here: ${WORDS[last.name] || last.name} at ${when(last.at_ms)}`, ...(search.shard_id === undefined ? [`, shard ${last.fields.shard_id}`] : []), "."] : ["No event of it is known here."];
  return { said: `${who} waits for nothing and holds no turn.`, bad: false, lines: [[{ strong: `${who} waits for nothing and holds no turn. ` }, ...seen], [whyAbsent(search, last)]] };
}

function showFound(found) {
  const list = [...found.grants.map(grantText), ...found.requests.map(requestText)];
  if (!list.length) list.push(absentText(state.search.query));
  const more = found.requests_total - found.requests.length;
  if (more > 0) list.push({ said: "", bad: false, lines: [[`${plural(more, "further request is", "further requests are")} not listed.`]] });
  showArticles(list);
  fill(byId("found-said"), list[0].said);
}

function showArticles(list) {
  children(byId("found"), "article", list.length).forEach((article, index) => {
    const { bad, lines } = list[index];
    article.className = bad ? "bad" : "";
    children(article, "p", lines.length).forEach((line, number) => fill(line, lines[number]));
  });
}

async function look() {
  const search = state.search;
  if (!search || state.asking || Date.now() < search.again) return;
  state.asking = true;
  search.again = Date.now() + (search.query.client ? CLIENT_EVERY_MS : 0);
  try {
    const answer = await fetch(`page/find?${new URLSearchParams(search.query)}`, { cache: "no-store" });
    const found = answer.ok ? await answer.json() : null;
    if (search !== state.search) return;
    if (found) showFound(found);
    else if (answer.status !== 429) showArticles([{ bad: true, lines: [[(await answer.text()).trim()]] }]);
  } catch {
    // the connection is lost: the head of the page says so
  } finally {
    state.asking = false;
    if (search !== state.search) look();
  }
}

function startSearch(text) {
  const wanted = text.trim();
  const shard = /^(?:shard\s*)?(\d{1,15})$/i.exec(wanted);
  const query = shard ? { shard_id: Number(shard[1]) } : { client: wanted };
  state.search = wanted ? { query, again: 0 } : null;
  history.replaceState(null, "", wanted ? `#find=${encodeURIComponent(wanted)}` : location.pathname + location.search);
  if (state.search) look();
  else {
    byId("found").replaceChildren();
    fill(byId("found-said"), "");
  }
}

// --- the connection

function show() {
  const picture = state.picture;
  byId("content").hidden = false;
  fill(byId("prefix"), picture.prefix);
  document.title = `${picture.prefix}: ${count(picture.waiting)} waiting`;
  showServed(picture);
  showNotices(notices(picture));
  showFacts(picture);
  showTimeline();
  showBuckets(picture);
  showSides(picture);
  showMinutes(picture);
  showEvents();
  fill(byId("footer"), `This page shows and changes nothing. All times are UTC, by the clock of the coordinator. nats-identify ${picture.version}.`);
  look();
}

function takeEvents({ is_first: isFirst, list }) {
  const keyOf = (event) => JSON.stringify([event.at_ms, event.name, event.fields]);
  const known = new Set(isFirst ? state.events.map(keyOf) : []);
  for (const event of list) {
    if (known.has(keyOf(event))) continue;
    state.events.push(event);
    noteEvent(event);
  }
  if (isFirst) state.events.sort((one, other) => one.at_ms - other.at_ms);
  if (state.events.length > EVENTS_MAX) state.events.splice(0, state.events.length - EVENTS_MAX);
}

function takePicture(picture) {
  if (state.edition !== null && picture.edition !== state.edition) reloadOnce();
  state.edition = state.edition === null ? picture.edition : state.edition;
  state.picture = picture;
  notePicture(picture);
  show();
}

function reloadOnce() {
  const last = Number(sessionStorage.getItem("reloaded") || 0);
  state.outdated = true;
  if (Date.now() - last < RELOAD_MS) return;
  sessionStorage.setItem("reloaded", String(Date.now()));
  location.reload();
}

function isAlive() {
  state.lastMessage = Date.now();
  state.lostAt = null;
  document.body.classList.remove("stale");
  byId("connection").className = "live";
  fill(byId("connection"), "live, each second");
}

function isLost(why) {
  if (state.lostAt === null) state.lostAt = new Date(state.lastMessage || Date.now());
  document.body.classList.add("stale");
  byId("connection").className = "lost";
  const since = clock(state.lostAt.getTime());
  fill(byId("connection"), `${why || "connection lost"} since ${since} UTC; ${state.picture ? "what is shown is of then; " : ""}trying again`);
}

function connect() {
  if (state.source) state.source.close();
  const source = state.source = new EventSource("page/stream");
  source.addEventListener("events", (message) => takeEvents(JSON.parse(message.data)));
  source.addEventListener("picture", (message) => {
    isAlive();
    takePicture(JSON.parse(message.data));
  });
  source.addEventListener("error", () => {
    const isRefused = source.readyState === EventSource.CLOSED; // no stream was sent: too many pages, or another server
    isLost(isRefused ? "not served, perhaps too many pages are open," : "connection lost");
    if (isRefused && source === state.source) setTimeout(() => { if (source === state.source) connect(); }, AGAIN_MS);
  });
}

function watchConnection() {
  if (!state.source || Date.now() - state.lastMessage < SILENT_MS || state.lostAt !== null) return;
  isLost("connection lost");
  connect();
}

function onVisibility() {
  clearTimeout(state.hiddenTimer);
  if (document.hidden) {
    state.hiddenTimer = setTimeout(() => {
      if (state.source) state.source.close();
      state.source = null;
    }, HIDDEN_MS);
  } else if (!state.source) connect();
}

function start() {
  byId("find-form").addEventListener("submit", (event) => {
    event.preventDefault();
    startSearch(byId("find-text").value);
  });
  byId("find-text").addEventListener("search", () => { if (!byId("find-text").value) startSearch(""); });
  for (const id of ["minute", "kind", "event-text"]) {
    byId(id).addEventListener("input", () => { if (state.picture) showMinutes(state.picture); showEvents(); });
  }
  new ResizeObserver(() => showTimeline()).observe(byId("timeline"));
  document.addEventListener("visibilitychange", onVisibility);
  const linked = new URLSearchParams(location.hash.slice(1)).get("find");
  if (linked) {
    byId("find-text").value = linked;
    startSearch(linked);
  }
  state.lastMessage = Date.now();
  connect();
  setInterval(watchConnection, 1000);
}

start();
