// <script src="https://alerts.example.org/embed.js" data-story="tarrow-flood" async></script>
// Puts the form to follow a story right behind itself, in a frame that is as high as what it shows.
(() => {
  "use strict";

  const script = document.currentScript;
  const story = script && script.dataset.story;
  if (!story || !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(story)) {
    console.error("Dispatcher: the script needs data-story with the name of a story, such as tarrow-flood.");
    return;
  }
  const home = new URL(script.src).origin;
  const frame = document.createElement("iframe");
  // The frame tells its height to this origin alone, and only if the newsroom allows it.
  frame.src = `${home}/embed/${story}#${encodeURIComponent(location.origin)}`;
  frame.title = script.dataset.title || "Follow this story";
  frame.loading = "lazy";
  frame.width = "100%";
  frame.height = "720";
  frame.style.border = "0";
  frame.style.maxWidth = "34rem";
  frame.style.display = "block";
  script.after(frame);

  window.addEventListener("message", ({ origin, source, data }) => {
    if (origin !== home || source !== frame.contentWindow || !data || data.dispatcher !== story) return;
    const height = Number(data.height);
    if (height > 0 && height < 5000) frame.height = String(Math.ceil(height));
  });
})();
