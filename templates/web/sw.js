// Shows pushes while no page is open. Whatever comes in, something is shown: browsers take the right away otherwise.
"use strict";

const KEPT = "dispatcher";
const ICON = "/static/current/icon-192.png";
const ENGLISH = {
  lang: "en",
  news: "There is news",
  left: "You no longer follow this story.",
  notLeft: "It could not be stopped just now. Open this to try again.",
};

self.addEventListener("install", (event) => event.waitUntil(self.skipWaiting()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("push", (event) => event.waitUntil(inTurn(read(event.data))));
self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(renew(event)));
self.addEventListener("notificationclick", (event) => {
  const { notification, action } = event;
  notification.close();
  event.waitUntil(action === "stop" ? stop(notification) : open(notification.data && notification.data.url));
});

function read(data) {
  try {
    const found = data.json();
    return found && typeof found.title === "string" ? found : {};
  } catch {
    return {}; // not ours, or not whole
  }
}

// An address of this site as a whole, or nothing: no push may lead anywhere else.
function ours(address) {
  if (typeof address !== "string" || !address) return "";
  try {
    const found = new URL(address, self.location.origin);
    return found.origin === self.location.origin ? found.href : "";
  } catch {
    return "";
  }
}

async function kept(name) {
  const store = await caches.open(KEPT);
  const found = await store.match(`/push/${name}`);
  return found ? found.json() : null;
}

async function words() {
  try {
    return { ...ENGLISH, ...(await kept("words")) };
  } catch {
    return ENGLISH; // storage is switched off
  }
}

// One push after the other: which one is newer is seen only once the one before it is shown.
let turn = Promise.resolve();

function inTurn(update) {
  turn = turn.catch(() => {}).then(() => show(update));
  return turn;
}

async function show(update) {
  if (!update.title) {
    const { news, lang } = await words();
    await self.registration.showNotification(news, { lang, icon: ICON, tag: "news", data: { url: "/" } });
    return;
  }
  const shown = update.tag ? (await self.registration.getNotifications({ tag: update.tag }))[0] : undefined;
  // Pushes may overtake each other: what is newer stays, and is shown again, silently.
  if (shown && shown.data && shown.data.update && isNewer(shown.data.update, update)) {
    await notify(shown.data.update, true);
  } else {
    await notify(update, false);
  }
}

// A withdrawal comes right behind what it takes back: it hides nothing later that holds. Of two, the later one counts.
function isNewer(one, other) {
  const place = (update) => (update.withdraws ? update.withdraws + 0.5 : update.seq);
  return one.withdraws && other.withdraws ? one.seq > other.seq : place(one) > place(other);
}

function notify(update, silent) {
  const actions = [];
  if (update.open) actions.push({ action: "open", title: String(update.open) });
  if (update.stop && ours(update.leave)) actions.push({ action: "stop", title: String(update.stop) });
  const at = new Date(update.at).getTime();
  return self.registration.showNotification(update.title, {
    body: String(update.body || ""),
    tag: String(update.tag || ""),
    // A new update takes the place of the last one; only what is breaking makes a sound again.
    renotify: !silent && Boolean(update.tag) && update.importance === "breaking",
    silent: silent || undefined,
    lang: String(update.lang || ""),
    dir: ["ltr", "rtl"].includes(update.dir) ? update.dir : "auto",
    timestamp: Number.isFinite(at) ? at : Date.now(),
    icon: ICON,
    actions,
    data: { url: ours(update.url) || "/", leave: ours(update.leave), update },
  });
}

async function open(address) {
  const target = new URL(ours(address) || "/", self.location.origin);
  const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const found = windows.find((each) => new URL(each.url).pathname === target.pathname);
  if (!found) return self.clients.openWindow(target.href);
  found.postMessage({ look: target.hash });
  return found.focus();
}

// One click as mail programs do it (RFC 8058 §3.2).
async function stop(notification) {
  const { url, leave, update } = notification.data;
  const said = await words();
  let done = false;
  try {
    const body = new URLSearchParams({ "List-Unsubscribe": "One-Click" });
    done = Boolean(leave) && (await fetch(leave, { method: "POST", body, redirect: "error" })).ok;
  } catch {
    done = false; // offline; the notification below leads to the page with the button
  }
  await self.registration.showNotification(done ? said.left : said.notLeft, {
    body: update.title,
    tag: notification.tag,
    lang: said.lang,
    icon: ICON,
    data: { url: done ? url : leave || url },
  });
}

function bytes(key) {
  const text = atob(key.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(text, (each) => each.charCodeAt(0));
}

async function subscribeAgain() {
  const { key } = await (await fetch("/push/key")).json();
  return self.registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(key) });
}

// The push service gave this browser a new address. Whoever knows the old one's secret may put the new one in its place.
async function renew(event) {
  const old = event.oldSubscription ? event.oldSubscription.toJSON() : await kept("subscription");
  const subscription = (event.newSubscription || (await subscribeAgain())).toJSON();
  if (old) {
    const headers = { "Content-Type": "application/json" };
    await fetch("/push/renew", { method: "POST", headers, body: JSON.stringify({ old, subscription }) });
  }
  const store = await caches.open(KEPT);
  await store.put("/push/subscription", Response.json(subscription));
}
