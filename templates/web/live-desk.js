// The live page by itself: what has changed is put in place, and nothing else moves, least of all what one is typing.
"use strict";

const live = document.getElementById("live");
const said = document.getElementById("live-said");
const trouble = document.getElementById("live-trouble");
const shown = new Map();
let lost = 0;
let pressed = null; // where a finger, the mouse or the space bar is down: a button that is another by then would not be pressed
let held = ""; // what has come meanwhile

function tellTrouble(text) {
  trouble.textContent = text;
  trouble.hidden = !text;
}

// Whoever stands on a button stays on it, although the button is another by now.
function put(old, fresh) {
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  old.replaceChildren(...fresh.childNodes);
  tellTimes(old);
  const again = focused && document.getElementById(focused);
  if (again) again.focus({ preventScroll: true });
}

function look(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  const sections = [...page.querySelectorAll("[data-live]")];
  if (sections.some(({ id }) => !document.getElementById(id))) {
    location.reload(); // a channel has come: the page has another shape
    return;
  }
  for (const fresh of sections) {
    const old = document.getElementById(fresh.id);
    const html = fresh.innerHTML;
    if (old.contains(pressed)) continue;
    if (shown.get(fresh.id) !== html) put(old, fresh);
    shown.set(fresh.id, html);
    if (fresh.dataset.state && old.dataset.state !== fresh.dataset.state) {
      old.dataset.state = fresh.dataset.state;
      said.textContent = old.querySelector(".live, .ended, .tag").textContent; // by now it stands there
    }
  }
  // In a question only the numbers change: somebody may be answering it.
  for (const fresh of page.querySelectorAll(".veil [data-n]")) {
    const old = document.querySelector(`#${fresh.closest(".veil").id} [data-n="${fresh.dataset.n}"]`);
    if (old && old.textContent !== fresh.textContent) old.replaceChildren(...fresh.childNodes);
  }
}

function watch() {
  const source = new EventSource(live.dataset.events);
  source.addEventListener("look", ({ data }) => {
    lost = 0;
    tellTrouble("");
    look(data);
    held = pressed ? data : "";
  });
  source.addEventListener("trouble", ({ data }) => tellTrouble(`What you see may be old: ${data}`));
  source.addEventListener("over", ({ data }) => {
    source.close();
    tellTrouble(data);
  });
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) {
      lost += 1;
      if (lost > 3) tellTrouble("What you see may be old: the server does not answer. The page tries again by itself.");
      return;
    }
    tellTrouble("This page is not live any more. Reload it, and sign in again if you are asked to.");
  });
  addEventListener("pagehide", () => source.close());
}

// Questions: the page behind rests, Escape goes back, and the first thing that can be pressed has the focus.
function asked() {
  return document.querySelector(".veil:target, .veil.is-open");
}

function showQuestion() {
  const veil = asked();
  for (const element of document.querySelectorAll("body > *, #main > *, #live > *, .veil")) {
    element.inert = Boolean(veil) && !element.contains(veil);
  }
  if (veil) (veil.querySelector("input:not([type=hidden]), textarea") || veil.querySelector("a.plain")).focus();
}

function leaveQuestion() {
  const veil = asked();
  if (!veil) return;
  veil.classList.remove("is-open");
  location.hash = "main";
  showQuestion();
  const opener = document.getElementById(`to-${veil.id}`);
  if (opener) opener.focus();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-ask]");
  const back = event.target.closest(".veil a.plain");
  if (!link && !back) return;
  event.preventDefault();
  if (back) leaveQuestion();
  else location.hash = new URL(link.href).hash;
});
addEventListener("pointerdown", (event) => { pressed = event.target; });
addEventListener("keydown", (event) => { if (event.key === " ") pressed = event.target; });
for (const over of ["pointerup", "pointercancel", "keyup", "blur"]) addEventListener(over, () => setTimeout(() => {
  pressed = null;
  if (held) look(held);
  held = "";
}));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") leaveQuestion();
});
addEventListener("hashchange", showQuestion);

for (const section of document.querySelectorAll("[data-live]")) shown.set(section.id, "");
showQuestion();
watch();
