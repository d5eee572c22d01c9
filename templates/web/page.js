// Times in the reader's own timezone, and "4 minutes ago" that stays true. Without this script pages show UTC.
"use strict";

const FORMATS = {
  clock: { hour: "2-digit", minute: "2-digit" },
  "clock-seconds": { hour: "2-digit", minute: "2-digit", second: "2-digit" },
  "short-day": { day: "numeric", month: "short" },
  day: { day: "numeric", month: "long", year: "numeric" },
  full: { dateStyle: "long", timeStyle: "medium" },
};
// The pages are written in British English, whatever the browser speaks.
const LANGUAGE = "en-GB";
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];

function ago(seconds) {
  const unit = UNITS.find(([, size]) => seconds >= size);
  if (!unit) return "just now";
  const count = Math.floor(seconds / unit[1]);
  return `${count} ${unit[0]}${count === 1 ? "" : "s"} ago`;
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

tellTimes(document);
setInterval(() => tellTimes(document), 20000);
