// Says that there are new updates, and shows them when the reader wants it: what one reads never moves by itself.
"use strict";

const ASK_EVERY = 20000;
const fresh = document.getElementById("fresh");
let known = null;

async function look() {
  const { story, after } = fresh.dataset;
  const headers = known ? { "If-None-Match": known } : {};
  const answer = await fetch(`/s/${story}/fresh?after=${after}`, { headers, cache: "no-store" });
  if (!answer.ok) return;
  known = answer.headers.get("ETag");
  offer(await answer.text());
}

function offer(label) {
  if (!label) {
    fresh.replaceChildren();
    return;
  }
  const button = fresh.querySelector("button") || document.createElement("button");
  button.type = "button";
  button.className = "button strong";
  button.textContent = label;
  button.onclick = showNews;
  if (!button.isConnected) fresh.append(button);
}

async function showNews() {
  const before = Number(fresh.dataset.after);
  try {
    const answer = await fetch(location.pathname, { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    tellTimes(page);
    for (const id of ["head", "latest", "earlier"]) {
      document.getElementById(id).replaceChildren(...page.getElementById(id).childNodes);
    }
    const now = page.getElementById("fresh");
    if (now) fresh.dataset.after = now.dataset.after;
  } catch {
    location.reload();
    return;
  }
  known = null;
  fresh.replaceChildren();
  let first = null;
  for (const item of document.querySelectorAll(".timeline > li")) {
    if (Number(item.id.slice(1)) > before) {
      item.classList.add("arrived");
      first = first || item;
    }
  }
  const heading = first && first.querySelector("h3");
  if (!heading) return;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
  first.scrollIntoView({ block: "start" });
}

async function keepLooking() {
  try {
    if (!document.hidden) await look();
  } catch {
    // The server is away, or the reader is offline; the next round asks again.
  }
  setTimeout(keepLooking, ASK_EVERY);
}

if (fresh) {
  setTimeout(keepLooking, ASK_EVERY);
  // Whoever comes back to this page wants to know at once.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) look().catch(() => {});
  });
}

// A notification was opened, and this page is already here.
if ("serviceWorker" in navigator) {
  navigator.serviceWorker.addEventListener("message", ({ data }) => {
    if (fresh && data && "look" in data) showNews();
  });
}
