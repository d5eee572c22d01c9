// Follow in this browser. Nothing is asked before the reader presses the button, and every refusal has its words.
"use strict";

const WAIT = 15000; // milliseconds; a push service that does not answer would keep the reader waiting for ever
const KEPT = "dispatcher"; // what the service worker finds when no page is open
const card = document.getElementById("screen");

class Refused extends Error {}

function word(name) {
  return document.getElementById("screen-words").content.querySelector(`[data-word="${name}"]`).textContent;
}

function say(name) {
  document.getElementById("screen-said").textContent = name ? word(name) : "";
}

// Why this browser cannot do it at all; empty if it can.
function hindrance() {
  if (!window.isSecureContext) return "insecure";
  if ("serviceWorker" in navigator && "PushManager" in window && "Notification" in window) return "";
  const apple = /iPhone|iPad|iPod/.test(navigator.userAgent);
  const tablet = /Macintosh/.test(navigator.userAgent) && navigator.maxTouchPoints > 1;
  return apple || tablet ? "ios" : "unsupported";
}

function within(work) {
  let timer;
  const late = new Promise((_, refuse) => {
    timer = setTimeout(() => refuse(new Refused("slow")), WAIT);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

async function post(path, body) {
  try {
    return await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Refused("offline");
  }
}

async function send(path, body) {
  const answer = await post(path, body);
  if (answer.status === 429) {
    const { puzzle } = await answer.json().catch(() => ({}));
    if (!puzzle || body.puzzle) throw new Refused("too-many");
    say("working");
    return send(path, { ...body, puzzle, answer: await solve(puzzle, () => {}) });
  }
  if (answer.status === 409) throw new Refused("closed");
  if (!answer.ok) throw new Refused("refused");
  return answer.json();
}

async function permit() {
  let answer = Notification.permission;
  if (answer === "default") {
    say("asking");
    answer = await Notification.requestPermission();
  }
  if (answer !== "granted") throw new Refused(answer === "denied" ? "denied" : "dismissed");
}

function bytes(key) {
  const text = atob(key.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(text, (each) => each.charCodeAt(0));
}

async function publicKey() {
  try {
    const answer = await fetch("/push/key");
    if (answer.ok) return bytes((await answer.json()).key);
  } catch {
    throw new Refused("offline");
  }
  throw new Refused("refused");
}

function isFor(subscription, key) {
  const found = subscription.options && subscription.options.applicationServerKey;
  return Boolean(found) && new Uint8Array(found).every((each, at) => each === key[at]);
}

async function subscribe(key) {
  const registration = await navigator.serviceWorker.register("/sw.js").then(() => navigator.serviceWorker.ready);
  const found = await registration.pushManager.getSubscription();
  if (found && isFor(found, key)) return found;
  if (found) await found.unsubscribe(); // made for a key that this newsroom no longer has
  return registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
}

async function subscribed() {
  say("joining");
  const key = await publicKey();
  try {
    return await within(subscribe(key));
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Refused(error.name === "NotAllowedError" ? "denied" : "push-refused");
  }
}

// Words and keys for the service worker, which has no page to read them from.
async function keepForWorker(subscription) {
  const words = {};
  for (const each of document.getElementById("screen-words").content.querySelectorAll("[data-worker]")) {
    words[each.dataset.worker] = each.textContent;
  }
  words.lang = document.documentElement.lang;
  try {
    const store = await caches.open(KEPT);
    await store.put("/push/words", Response.json(words));
    await store.put("/push/subscription", Response.json(subscription));
  } catch {
    // Storage is switched off: the service worker then speaks English.
  }
}

// Ask, subscribe, tell the newsroom. Returns the path of the reader's own page; throws Refused with the word to say.
async function follow(story, cadence) {
  const cannot = hindrance();
  if (cannot) throw new Refused(cannot);
  await permit();
  const subscription = (await subscribed()).toJSON();
  const timezone = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
  const { manage } = await send("/push/follow", { story, cadence, timezone, subscription, manage: card.dataset.manage });
  await keepForWorker(subscription);
  keepOwnPage(manage);
  return manage;
}

async function here() {
  const registration = await navigator.serviceWorker.getRegistration("/");
  const found = registration && (await registration.pushManager.getSubscription());
  return found ? found.toJSON() : null;
}

function showOn(isOn) {
  document.getElementById("screen-on").hidden = isOn;
  document.getElementById("screen-about").hidden = isOn;
  document.getElementById("screen-is-on").hidden = !isOn;
  const link = document.getElementById("screen-manage");
  if (link) link.href = ownPage() || "/lost";
}

// Run what a button does, once at a time, and say what came of it.
async function doing(button, work) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say(error.message);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

async function switchOn() {
  const chosen = document.querySelector("#follow input[name=cadence]:checked");
  await follow(card.dataset.story, chosen ? chosen.value : "every");
  showOn(true);
  say("on");
}

async function switchOff() {
  const subscription = await here();
  if (subscription) await send("/push/stop", { story: card.dataset.story, subscription });
  showOn(false);
  say("off");
}

async function showState() {
  if (hindrance() || Notification.permission !== "granted") return;
  const subscription = await here();
  if (!subscription) return;
  const state = await send("/push/state", { story: card.dataset.story, subscription });
  if (state.manage && !card.dataset.manage) keepOwnPage(state.manage);
  showOn(state.on);
  await keepForWorker(subscription);
}

if (card) {
  for (const element of document.querySelectorAll("[data-push]")) element.hidden = false;
  const on = document.getElementById("screen-on");
  const off = document.getElementById("screen-off");
  on.addEventListener("click", () => doing(on, switchOn));
  if (off) off.addEventListener("click", () => doing(off, switchOff));
  showState().catch(() => {}); // without an answer the button stays, and pressing it again changes nothing
}
