// Times in the reader's own timezone, and "4 minutes ago" that stays true. Without this script pages show UTC.
"use strict";

const FORMATS = {
  clock: { hour: "2-digit", minute: "2-digit" },
  "clock-seconds": { hour: "2-digit", minute: "2-digit", second: "2-digit" },
  "short-day": { day: "numeric", month: "short" },
  day: { day: "numeric", month: "long", year: "numeric" },
  full: { dateStyle: "medium", timeStyle: "long" }, // with its zone
};
// A page keeps the language that it is written in, whatever the browser speaks.
const LANGUAGE = document.documentElement.lang === "en" ? "en-GB" : document.documentElement.lang;
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];
const RELATIVE = new Intl.RelativeTimeFormat(LANGUAGE);

function ago(seconds) {
  const unit = UNITS.find(([, size]) => seconds >= size);
  return unit ? RELATIVE.format(-Math.floor(seconds / unit[1]), unit[0]) : document.body.dataset.justNow;
}

function tellTimes(root) {
  for (const element of root.querySelectorAll("time[data-as]")) {
    const at = new Date(element.dateTime);
    if (element.dataset.as === "ago") {
      element.textContent = ago((Date.now() - at) / 1000);
      element.title = at.toLocaleString(LANGUAGE, FORMATS.full);
    } else {
      element.textContent = at.toLocaleString(LANGUAGE, { hourCycle: "h23", ...FORMATS[element.dataset.as] });
    }
  }
}

// A browser that follows without an address keeps the path of its own page: there is no mail to find it in.
const OWN_PAGE = "dispatcher.manage";

function ownPage() {
  try {
    const path = localStorage.getItem(OWN_PAGE) || "";
    return /^\/manage\/[\w-]{32}$/.test(path) ? path : "";
  } catch {
    return ""; // storage is switched off
  }
}

function keepOwnPage(path) {
  try {
    if (path) localStorage.setItem(OWN_PAGE, path);
    else localStorage.removeItem(OWN_PAGE);
  } catch {
    // Storage is switched off: the link in the notification's page remains.
  }
}

function showOwnPage() {
  const path = ownPage();
  const link = document.getElementById("my-alerts");
  const here = document.getElementById("here");
  if (path && document.getElementById("gone") && location.pathname.startsWith(path)) {
    keepOwnPage(""); // whoever it was for has been erased, or follows with an address now
    return;
  }
  if (path && link) link.href = path;
  if (path && here) {
    here.querySelector("a").href = path;
    here.hidden = false;
  }
}

for (const element of document.querySelectorAll("[data-script]")) element.hidden = false;
for (const field of document.querySelectorAll("input[name=timezone]")) {
  field.value = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
}
showOwnPage();
tellTimes(document);
setInterval(() => tellTimes(document), 20000);

// At the desk: a second press while the first is on its way is none, and whoever was refused stands where it says why.
if (document.body.classList.contains("desk")) {
  document.addEventListener("submit", (event) => {
    const { dataset } = event.target;
    if (event.defaultPrevented || event.target.getAttribute("method") !== "post") return;
    if (dataset.sent) event.preventDefault();
    dataset.sent = "yes";
    setTimeout(() => delete dataset.sent, 3000); // a form may answer with a file, and the page stays
  });
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
    for (const menu of document.querySelectorAll("[popover]")) if (menu.hidePopover) menu.hidePopover(); // whoever comes back
  });
  const problem = document.getElementById("problem");
  if (problem && document.activeElement === document.body && !document.querySelector("[autofocus]")) {
    problem.tabIndex = -1;
    problem.focus();
  }
}
