// Keeps a page live: when the server says that something happened to what the page shows, the page
// is fetched again and put in the place of its old self, piece by piece, so that what somebody has
// marked, typed or opened stays. Without this script everything works but that.
"use strict";

const body = document.body;
const base = body.dataset.base;

// put makes an element like another one, keeping what is alike.
function put(old, fresh) {
  if (old.dataset?.followed) return; // its lines come by another way
  for (const { name, value } of [...fresh.attributes]) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  putAll(old, fresh);
}

const keyOf = (node) => (node.nodeType === 1 && node.id) || "";
const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

// putAll makes the children of an element like those of another one. Children with an id are found
// again wherever they are now.
function putAll(old, fresh) {
  const known = new Map();
  for (const child of old.children) if (child.id) known.set(child.id, child);
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const same = known.get(keyOf(child));
    if (same && same !== at && alike(same, child)) {
      old.insertBefore(same, at);
      at = same;
    }
    if (at && alike(at, child)) {
      if (at.nodeType === 1) put(at, child);
      else if (at.nodeValue !== child.nodeValue) at.nodeValue = child.nodeValue;
      at = at.nextSibling;
    } else {
      old.insertBefore(document.importNode(child, true), at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

let fetching = false;
let again = false;
let rest = 0;

// refresh fetches the page. While one is on its way, one more is enough for all that ask.
async function refresh() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  again = false;
  const began = performance.now();
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.redirected) {
      location.reload();
      return;
    }
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const old of document.querySelectorAll("[data-live]")) {
        const found = fresh.getElementById(old.id);
        if (found && document.activeElement?.tagName !== "SELECT") put(old, found);
      }
      document.dispatchEvent(new Event("refreshed"));
    }
  } catch {
    // The server is away; the stream says so.
  }
  // A page that costs much is not fetched again at once: the server has other things to do.
  rest = Math.min(5000, 3 * (performance.now() - began));
  setTimeout(() => {
    fetching = false;
    if (again) refresh();
  }, rest);
}

// say tells whether the page is live.
function say(text, away) {
  const at = document.getElementById("live");
  if (!at) return;
  at.hidden = false;
  at.classList.toggle("away", away);
  if (at.textContent !== text) at.textContent = text;
}

// watch listens for changes. What is settled a moment later is seen by a second look; ages and
// whatever has no event are seen by a look now and then.
function watch() {
  const changes = new EventSource(base + "events?" + body.dataset.topics);
  let later;
  changes.onmessage = (e) => {
    say("live", false);
    if (e.data === "watching" && !watch.lost) return;
    watch.lost = false;
    refresh();
    clearTimeout(later);
    later = setTimeout(refresh, 700);
  };
  changes.onerror = () => {
    watch.lost = true;
    say("connecting", true);
    if (changes.readyState === EventSource.CLOSED) setTimeout(watch, 2000);
    else return;
    changes.close();
  };
}

if (body.dataset.topics) {
  watch();
  const every = Number(document.querySelector("[data-every]")?.dataset.every || 10);
  setInterval(() => document.hidden || refresh(), every * 1000);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
}

// The first checkbox of a table marks all others.
document.addEventListener("change", (e) => {
  if (!e.target.matches?.("[data-all]")) return;
  for (const box of e.target.closest("table").querySelectorAll("tbody input[type=checkbox]")) box.checked = e.target.checked;
});

// A button that cannot be taken back asks first.
document.addEventListener("submit", (e) => {
  const question = e.submitter?.dataset.ask;
  if (question && !confirm(question)) e.preventDefault();
});

// What terminals take for commands, as ansi.go has it: of them a log shows bold and 16 colours.
const escapes = /\x1b(?:\[([0-?]*)([ -/]*)([@-~]|$)|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])?/g;
const controls = /[\x00-\x08\x0a-\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]/g;

const classOf = (look) => [look.colour > 0 ? "ansi" + (look.colour - 1) : "", look.bold ? "bold" : ""].filter(Boolean).join(" ");
const lookOf = (classes) => ({ bold: /\bbold\b/.test(classes), colour: Number(/ansi(\d+)/.exec(classes)?.[1] ?? -1) + 1 });
const numberOf = (text) => (/^[0-9]*$/.test(text) ? Number(text) : -1);

// obey changes a look as a command with these parameters does.
function obey(look, parameters) {
  if (/[<=>?]/.test(parameters)) return; // it is for one kind of terminal
  const codes = parameters.split(";");
  for (let i = 0; i < codes.length; i++) {
    const code = numberOf(codes[i]);
    if (code === 0) Object.assign(look, { bold: false, colour: 0 });
    else if (code === 1) look.bold = true;
    else if (code === 22) look.bold = false;
    else if (code >= 30 && code <= 37) look.colour = code - 30 + 1;
    else if (code >= 90 && code <= 97) look.colour = code - 90 + 9;
    else if (code === 39) look.colour = 0;
    else if (code === 38 || code === 48 || code === 58) {
      const kind = codes[i + 1];
      const n = kind === "5" && i + 2 < codes.length ? numberOf(codes[i + 2]) : -1;
      if (code === 38 && n >= 0 && n < 16) look.colour = n + 1;
      i += { 5: 2, 2: 4 }[kind] ?? 0;
    }
  }
}

// paint puts a line into an element, in parts of one look. look is that of its beginning, and
// afterwards that of its end.
function paint(into, line, look) {
  const parts = [];
  const add = (text) => {
    text = text.replace(controls, "");
    const last = parts[parts.length - 1];
    if (last?.look === classOf(look)) last.text += text;
    else if (text) parts.push({ look: classOf(look), text });
  };
  let from = 0;
  for (const found of line.matchAll(escapes)) {
    add(line.slice(from, found.index));
    from = found.index + found[0].length;
    if (found[3] === "m" && found[2] === "") obey(look, found[1]);
  }
  add(line.slice(from));
  for (const part of parts) {
    const at = part.look ? document.createElement("span") : into;
    if (at !== into) at.className = part.look;
    at.append(part.text);
    if (at !== into) into.append(at);
  }
}

// follow adds what comes to a log. Its bytes may end within a character or a line.
function follow(list) {
  const stream = new EventSource(list.dataset.follow);
  const decoder = new TextDecoder();
  const look = lookOf(list.dataset.look || "");
  const most = 5000;
  let n = Number(list.dataset.lines);
  let rest = "";
  const add = (text) => {
    n++;
    const line = document.createElement("li");
    const link = document.createElement("a");
    const words = document.createElement("span");
    line.id = "L" + n;
    link.href = list.dataset.link + "?from=" + n + "#L" + n;
    link.textContent = n;
    paint(words, text.replace(/\r$/, ""), look);
    line.append(link, words);
    return line;
  };
  const tell = (text) => {
    const at = document.getElementById("logstate");
    if (at) at.textContent = n + " lines" + text;
    document.getElementById("nolines")?.remove();
  };
  stream.onmessage = (e) => {
    const bytes = Uint8Array.from(atob(JSON.parse(e.data).data), (c) => c.charCodeAt(0));
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop();
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.append(...lines.map(add));
    while (list.children.length > most) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
    tell(", following");
  };
  stream.addEventListener("end", () => {
    stream.close();
    if (rest) list.append(add(rest));
    tell("");
  });
  list.scrollTop = list.scrollHeight;
}

// The log of a run that begins later comes with a refresh.
function followAll() {
  for (const list of document.querySelectorAll("[data-follow]:not([data-followed])")) {
    list.dataset.followed = "yes";
    follow(list);
  }
}

followAll();
document.addEventListener("refreshed", followAll);
