// The update card: it saves by itself, tells who else is here, and keeps what could not be saved.
"use strict";

const form = document.getElementById("write");
const fields = ["headline", "summary", "body", "expires", "corrects", "successor", "reason", "at"];
const KEPT = `dispatcher.draft.${form.dataset.id}`;
const MOST = 256 * 1024;
const PAUSE = 600;
const LOOK_EVERY = 10000;
const MOST_LOOKS = 12;

let state = JSON.parse(form.dataset.state);
let saved = form.hasAttribute("data-typed") ? "" : typed(); // what the server has
let timer = 0;
let running = null; // the save that is on its way
let looks = 0; // at links that have not answered yet
let pressed = null; // where a finger or the mouse is down: what is under it must not change
let isDropped = false; // what was typed, because they said so
let stopped = ""; // why nothing is saved any more: `conflict`, `out` or `gone`
let isAsked = false; // whether what a change undoes may be undone
let isSure = false;

function typed() {
  return new URLSearchParams([...new FormData(form)].filter(([name]) => !["csrf", "version", "do", "sure", "reason", "at", "clock"].includes(name))).toString();
}

function said(text, tone) {
  const at = document.getElementById("saved");
  at.textContent = text;
  at.classList.toggle("wrong", tone === "stop");
}

function others() {
  const names = state.others;
  return names.length ? `. ${names.join(", ")} ${names.length === 1 ? "has" : "have"} this draft open too` : "";
}

// A note above the fields, of our own words and text: nothing of it is read as HTML.
function tell(tone, words, ...acts) {
  const note = document.getElementById("told");
  note.replaceChildren();
  note.hidden = !words;
  if (!words) return;
  note.className = `note ${tone} stack`;
  note.setAttribute("role", "alert");
  const line = document.createElement("p");
  line.textContent = words;
  const row = document.createElement("p");
  row.className = "line";
  for (const [label, act] of acts) {
    const button = document.createElement(typeof act === "string" ? "a" : "button");
    button.className = "button";
    button.textContent = label;
    if (typeof act === "string") button.href = act;
    else { button.type = "button"; button.addEventListener("click", act); }
    row.append(button);
  }
  note.append(line, ...(acts.length ? [row] : []));
}

/* saving */

function post(path, more) {
  const body = new URLSearchParams([...new FormData(form)].filter(([, value]) => typeof value === "string"));
  body.delete("do");
  for (const [name, value] of Object.entries(more || {})) body.set(name, value);
  return fetch(`${form.getAttribute("action")}/${path}`, { method: "POST", body, headers: { Accept: "application/json" }, redirect: "error" });
}

function later(pause = PAUSE) {
  clearTimeout(timer);
  timer = setTimeout(save, pause);
}

function save() {
  clearTimeout(timer);
  if (stopped || undoes()) return Promise.resolve();
  const mine = (running || Promise.resolve()).then(saveNow).catch(() => {
    keep();
    said("Not saved: there is no connection. Your text is kept in this browser, and tried again.", "stop");
    later(5000);
  }).then(() => {
    if (running === mine) running = null;
  });
  running = mine;
  return running;
}

async function saveNow() {
  const sent = typed();
  const size = new Blob([form.elements.body.value]).size;
  if (size > MOST) {
    keep();
    said("Not saved.", "stop");
    tell("stop", `The text has ${(size / 1048576).toFixed(1)} MB; 256 KB is the most. Nothing is lost: shorten it, or link to the long version.`);
    return;
  }
  const answer = await post("save");
  if (answer.status === 403) return signedOut();
  if (answer.status === 404) return gone();
  if (!answer.headers.get("Content-Type").startsWith("application/json")) throw new Error("no answer");
  const found = await answer.json();
  if (found.problem) return refused(found.problem, answer.status);
  saved = sent;
  sure(false);
  forget();
  tell("");
  took(found);
  show(found.parts);
  if (found.again && looks++ < MOST_LOOKS) later(1500);
  else if (!found.again) looks = 0;
}

function took(found) {
  state = found;
  form.elements.version.value = found.version;
  const clock = new Date(found.saved_at).toLocaleTimeString("en-GB");
  said(`Saved ${clock} by ${found.by}${others()}`);
  if (found.live) location.assign(found.live);
}

function refused(problem, status) {
  keep();
  said("Not saved.", "stop");
  if (status === 409 && problem.by) return conflict(problem);
  if (problem.state) { // it has been scheduled meanwhile
    state = problem.state;
    sure(false);
    return undoes();
  }
  if (status === 409) return form.requestSubmit(); // it went out meanwhile: the answer is a page with what was typed
  tell("stop", `${problem.message} ${problem.remedy}`);
}

function conflict(problem) {
  stopped = "conflict";
  tell("stop", `${problem.by} has saved this draft at ${problem.at}, so yours was not saved. Your text is below.`,
    ["See both, and decide", () => form.requestSubmit(document.getElementById("show"))],
    ["Take theirs, and drop mine", () => { forget(); isDropped = true; location.reload(); }]);
}

function signedOut() {
  stopped = "out";
  keep();
  said("Not saved: you are signed out.", "stop");
  const back = encodeURIComponent(location.pathname);
  tell("stop", "You are signed out. What you wrote is kept in this browser; sign in here, and put it back.", ["Sign in, and go on", `/desk/sign-in?next=${back}`]);
}

function gone() {
  stopped = "gone";
  keep();
  said("Not saved: this draft is gone.", "stop");
  tell("stop", "Somebody has thrown this draft away. What you wrote is still below, to be copied into another.", ["To the drafts", "/desk/drafts"]);
}

// Whether what a change undoes may be undone: the server asks as well, of whoever does not say so.
function sure(yes) {
  isSure = yes;
  isAsked = yes;
  for (const said of form.querySelectorAll("input[name=sure]")) said.remove();
  if (!yes) return;
  const said = document.createElement("input");
  Object.assign(said, { type: "hidden", name: "sure", value: "yes" });
  form.append(said);
}

// A letter typed by accident must not undo what others rely on.
function undoes() {
  if (isSure || typed() === saved) return false;
  const undone = state.undoes || (state.state === "approved" ? "This draft is approved, and a change voids that." : "");
  if (undone && !isAsked) {
    isAsked = true;
    tell("wait", undone,
      ["Save the change", () => { sure(true); tell(""); save(); }],
      ["Drop the change", () => { forget(); isDropped = true; location.reload(); }]);
  }
  return Boolean(undone);
}

/* what could not be saved */

function keep() {
  try {
    const values = Object.fromEntries(["headline", "summary", "body"].map((name) => [name, form.elements[name].value]));
    localStorage.setItem(KEPT, JSON.stringify({ ...values, at: Date.now() }));
  } catch {
    // Storage is switched off or full: the page itself still holds the text.
  }
}

function forget() {
  try { localStorage.removeItem(KEPT); } catch { /* storage is switched off */ }
}

function offer() {
  let kept = null;
  try { kept = JSON.parse(localStorage.getItem(KEPT)); } catch { return; }
  if (!kept || ["headline", "summary", "body"].every((name) => kept[name] === form.elements[name].value)) return forget();
  const at = new Date(kept.at).toLocaleString("en-GB");
  tell("wait", `What you wrote until ${at} was not saved, and is kept in this browser.`,
    ["Put it back", () => {
      for (const name of ["headline", "summary", "body"]) form.elements[name].value = kept[name];
      count();
      tell("");
      save();
    }],
    ["Throw it away", () => { forget(); tell(""); }]);
}

/* what stands beside */

// What a button does, whatever number it says.
function deedOf(button) {
  return (button.value || "").split(":")[0];
}

// Parts come from our own templates, which escape whatever somebody typed.
function show(parts) {
  for (const [name, html] of Object.entries(parts || {})) {
    const part = document.getElementById(`part-${name}`);
    const isInUse = part.contains(pressed) || (name !== "foot" && part.contains(document.activeElement));
    if (isInUse || part.querySelector("details[open]")) continue; // it is brought up to date with the next save
    const made = document.createElement("template");
    made.innerHTML = html;
    if (made.innerHTML === part.innerHTML) continue;
    const stoodOn = part.contains(document.activeElement) ? deedOf(document.activeElement) : "";
    part.replaceChildren(made.content);
    const again = stoodOn && [...part.querySelectorAll("button[name=do]")].find((each) => deedOf(each) === stoodOn);
    if (again) again.focus({ preventScroll: true });
  }
  if (typeof tellTimes === "function") tellTimes(form);
  frame();
}

function frame() {
  const asked = new URLSearchParams({ version: state.version, view: form.elements.view.value, lang: form.elements.lang.value, as: form.elements.as.value });
  document.getElementById("mail").contentWindow.location.replace(`${form.getAttribute("action")}/preview?${asked}`);
}

function look(view) {
  form.elements.view.value = view;
  document.querySelector(".w-frame").dataset.view = view;
  for (const button of document.querySelectorAll(".w-tabs button")) {
    button.classList.toggle("w-on", button.dataset.view === view);
    button.setAttribute("aria-pressed", button.dataset.view === view);
  }
  frame();
}

function count() {
  for (const each of document.querySelectorAll("[data-counts]")) {
    const length = [...form.elements[each.dataset.counts].value].length;
    each.textContent = length;
    each.parentElement.classList.toggle("w-over", length > (each.dataset.counts === "headline" ? 90 : 180));
  }
}

/* marks */

function mark(kind) {
  const body = form.elements.body;
  const [from, to] = [body.selectionStart, body.selectionEnd];
  const words = body.value.slice(from, to);
  if (kind === "list") {
    const start = body.value.lastIndexOf("\n", from - 1) + 1;
    const lines = body.value.slice(start, to).split("\n");
    put(start, to, lines.map((line) => (line.startsWith("- ") ? line.slice(2) : `- ${line}`)).join("\n"));
  } else if (kind === "link") {
    const isAddress = /^https?:\/\/\S+$/.test(words);
    put(from, to, isAddress ? `[](${words})` : `[${words}](https://)`);
    if (isAddress) body.setSelectionRange(from + 1, from + 1);
    else body.setSelectionRange(from + words.length + 3, from + words.length + 11);
  } else {
    const sign = kind === "bold" ? "**" : "*";
    put(from, to, `${sign}${words}${sign}`);
    body.setSelectionRange(from + sign.length, to + sign.length);
  }
}

// As if it were typed, so that it can be undone.
function put(from, to, text) {
  const body = form.elements.body;
  body.focus();
  body.setSelectionRange(from, to);
  if (!document.execCommand("insertText", false, text)) {
    body.setRangeText(text, from, to, "end");
    body.dispatchEvent(new Event("input", { bubbles: true }));
  }
}

/* events */

form.addEventListener("input", (event) => {
  if (["lang", "as", "reason", "at", "clock"].includes(event.target.name)) return;
  count();
  if (stopped) keep();
  else { said("Not saved yet"); later(event.target.type === "radio" || event.target.tagName === "SELECT" ? 0 : PAUSE); }
});
form.addEventListener("change", (event) => {
  if (["lang", "as"].includes(event.target.name)) save();
});
form.addEventListener("keydown", (event) => {
  if (event.target.id !== "body" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
  const kind = { b: "bold", i: "italic" }[event.key.toLowerCase()];
  if (!kind) return;
  event.preventDefault();
  mark(kind);
});
form.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.mark) mark(button.dataset.mark);
  if (button.dataset.view) { event.preventDefault(); look(button.dataset.view); }
});
addEventListener("pointerdown", (event) => { pressed = event.target; });
for (const over of ["pointerup", "pointercancel"]) addEventListener(over, () => setTimeout(() => { pressed = null; }));
form.addEventListener("paste", (event) => {
  const html = event.target.id === "body" ? event.clipboardData.getData("text/html") : "";
  if (!html) return;
  event.preventDefault();
  const body = form.elements.body;
  put(body.selectionStart, body.selectionEnd, markdownOf(html) || event.clipboardData.getData("text/plain"));
});
// A press while a save is on its way waits for it, and a second press is none.
form.addEventListener("submit", async (event) => {
  if (form.getAttribute("aria-busy") === "true") return event.preventDefault();
  clearTimeout(timer);
  if (running) {
    event.preventDefault();
    const deed = event.submitter ? event.submitter.value : "save";
    await running;
    await new Promise((resolve) => setTimeout(resolve)); // a form takes no press while it is still told of another
    // The buttons are others by now; if this one is gone, what it said is not so any more. One that only says another
    // number still stands for what was pressed: the server says so if that makes a difference.
    const buttons = [...form.querySelectorAll("button[name=do]")];
    const isNumbered = ["send", "override"].includes(deed.split(":")[0]);
    const button = buttons.find((each) => each.value === deed || (isNumbered && deedOf(each) === deed.split(":")[0]));
    if (!button) return;
    button.value = deed;
    form.requestSubmit(button);
    return;
  }
  form.setAttribute("aria-busy", "true");
  if (stopped === "out") keep();
});
addEventListener("pageshow", (event) => {
  form.removeAttribute("aria-busy");
  if (event.persisted) location.reload(); // it may be out by now
});
// Whoever leaves with something unsaved finds it again here.
addEventListener("pagehide", () => {
  if (typed() !== saved && form.getAttribute("aria-busy") !== "true" && !isDropped) keep();
});

/* who else is here */

async function lookRound() {
  if (stopped || document.hidden) return;
  try {
    const answer = await post("present", { parts: "no" });
    if (answer.status === 403) return signedOut();
    const found = await answer.json();
    if (found.version === state.version && !found.live) {
      state = found;
      if (typed() === saved) took(found);
    } else if (typed() === saved) location.reload(); // somebody else has saved, and nothing here is lost
    else save();
  } catch {
    // No connection: the next save says so.
  }
}

form.classList.add("w-scripted");
document.getElementById("tools").hidden = false;
document.getElementById("show").hidden = true;
count();
if (!form.hasAttribute("data-typed")) offer();
else if (document.getElementById("problem")) stopped = form.querySelector("[value^='mine:']") ? "conflict" : "";
if (state.again && !form.hasAttribute("data-typed")) later();
setInterval(lookRound, LOOK_EVERY);
lookRound();
