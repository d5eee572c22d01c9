// New mails appear by themselves on the first page, without a flicker: the list is replaced only when it changed.
"use strict";

const EVERY = 2000;

async function refresh() {
  const list = document.getElementById("mails");
  if (document.hidden || list.contains(document.activeElement)) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("mails");
  tellTimes(fresh);
  if (fresh.innerHTML !== list.innerHTML) list.innerHTML = fresh.innerHTML;
}

async function watch() {
  try {
    await refresh();
  } catch {
    // The server is away; the next round asks again.
  }
  setTimeout(watch, EVERY);
}

if (document.getElementById("mails").dataset.live === "yes") setTimeout(watch, EVERY);
