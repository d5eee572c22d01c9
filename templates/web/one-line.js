// Fields of one line that grow with it: Return sends the form or does nothing, and a line break that is pasted is a space.
"use strict";

(() => {
  const oneLine = (text) => text.replace(/\s*[\r\n]+\s*/g, " ");

  for (const field of document.querySelectorAll("textarea.one-line")) {
    const fit = () => {
      if (CSS.supports("field-sizing", "content")) return;
      field.style.height = "auto"; // from a script the policy allows it
      field.style.height = `${field.scrollHeight + 2}px`;
    };
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      const { form } = field;
      const isSavedByItself = form.classList.contains("w-scripted");
      if (!isSavedByItself && !event.repeat) form.requestSubmit(form.querySelector("button:not([type=button])"));
    });
    field.addEventListener("input", () => {
      if (/[\r\n]/.test(field.value)) {
        const before = oneLine(field.value.slice(0, field.selectionEnd));
        field.value = oneLine(field.value);
        field.setSelectionRange(before.length, before.length);
      }
      fit();
    });
    addEventListener("resize", fit);
    fit();
  }
})();
