// Shows how far an import has come, without loading the whole page anew.

"use strict";

const PAUSE = 1000;

async function look() {
  let shown = document.getElementById("run");
  try {
    const answer = await fetch(`${location.pathname}?again=1`, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("run");
    if (!answer.ok || !fresh) {
      location.reload();
      return;
    }
    if (fresh.innerHTML !== shown.innerHTML) {
      shown.replaceWith(document.adoptNode(fresh));
      shown = fresh;
    }
  } catch {
    // The line is gone for a moment: the next try tells.
  }
  if ("again" in shown.dataset) {
    setTimeout(look, PAUSE);
  }
}

setTimeout(look, PAUSE);
