// What a form cannot do by itself: follow in this browser along with the mail, and work out the sum (`puzzle.js`).
"use strict";

async function workOut(form) {
  const note = form.querySelector("#puzzle");
  form.elements.answer.value = await solve(form.elements.puzzle.value, (done) => {
    // Nobody knows how long it takes: the share that is done comes near the whole and never gets there by itself.
    note.textContent = `${note.dataset.working} ${Math.round((1 - Math.exp(-2 * done)) * 100)} %`;
  });
}

async function followHereToo(form) {
  const also = form.querySelector("#also-here");
  if (!also || !also.checked || form.elements.device.value) return true;
  try {
    const chosen = form.querySelector("input[name=cadence]:checked");
    form.elements.device.value = await follow(card.dataset.story, chosen.value).then((path) => path.split("/").pop());
    return true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    // The reader sees why, and decides whether the mail alone will do.
    also.checked = false;
    say(error.message);
    document.getElementById("screen-said").scrollIntoView({ block: "center" });
    return false;
  }
}

async function prepare(event) {
  const form = event.target;
  const mustWork = form.elements.puzzle && !form.elements.answer.value;
  const also = form.querySelector("#also-here");
  if (form.getAttribute("aria-busy") === "true") {
    event.preventDefault();
    return;
  }
  if (!mustWork && !(also && also.checked && !form.elements.device.value)) return;
  event.preventDefault();
  form.setAttribute("aria-busy", "true");
  try {
    if (!(await followHereToo(form))) return;
    if (mustWork) await workOut(form);
    form.submit();
  } finally {
    form.removeAttribute("aria-busy");
  }
}

for (const form of document.querySelectorAll("form.follow")) form.addEventListener("submit", prepare);
