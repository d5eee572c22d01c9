// Makes the slug of a new story while its headline is typed, until somebody writes a slug of their own.
"use strict";

const headline = document.getElementById("headline");
const slug = document.getElementById("slug");
let isOwn = slug.value !== "";
let timer = 0;
let asked = 0;

async function suggest() {
  const mine = ++asked;
  try {
    const answer = await fetch(`/desk/slug?headline=${encodeURIComponent(headline.value)}`, { cache: "no-store" });
    if (!answer.ok || answer.redirected) return;
    const found = await answer.json();
    if (mine === asked && !isOwn) slug.value = found.slug;
  } catch {
    // The server makes the slug when the form is sent.
  }
}

headline.addEventListener("input", () => {
  clearTimeout(timer);
  if (!isOwn) timer = setTimeout(suggest, 150);
});
slug.addEventListener("input", () => {
  isOwn = slug.value !== "";
});
