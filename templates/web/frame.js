// Inside a publisher's page: tells that page, and no other, how high this one is. Nothing is kept in the browser.
"use strict";

// The page around us says who it is behind the `#`; only those that the newsroom allows are told anything.
const host = decodeURIComponent(location.hash.slice(1));
const main = document.getElementById("main");

function tellHeight() {
  const height = Math.ceil(main.getBoundingClientRect().height) + 2;
  window.parent.postMessage({ dispatcher: location.pathname.split("/")[2], height }, host);
}

if (window.parent !== window && document.body.dataset.origins.split(" ").includes(host)) {
  // A redirect keeps what stands behind the `#` (RFC 9110 §10.2.2), so the next page knows it too.
  for (const form of document.forms) form.action += location.hash;
  for (const link of document.querySelectorAll('a[href^="/embed/"]')) link.href += location.hash;
  new ResizeObserver(tellHeight).observe(main);
}
