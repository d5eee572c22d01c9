// The palette of the desk: Ctrl or Cmd with K, some letters, Return. Without this script its button leads to a page.
"use strict";

(() => {
  const button = document.getElementById("jump");
  const HOW = matchMedia("(pointer: coarse)").matches ? "" : "↑ ↓ choose, ↵ open";
  const isMac = /Mac|iP(hone|ad|od)/.test(navigator.platform);
  document.getElementById("jump-keys").textContent = isMac ? "⌘K" : "Ctrl K";

  let dialog = null;
  let field = null;
  let list = null;
  let said = null;
  let places = [];
  let chosen = 0;
  let answered = null; // the letters that the places are for
  let isGoing = false; // Return was pressed before the answer to the last letter came
  let asking = null;
  let timer = 0;

  function make(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function build() {
    field = make("input", {
      id: "palette-q", role: "combobox", type: "text", "aria-label": "Story, draft or action", "aria-autocomplete": "list",
      "aria-controls": "palette-list", "aria-expanded": "false", autocomplete: "off", autocapitalize: "none",
      spellcheck: "false", maxlength: "100", placeholder: "Story, draft or action", enterkeyhint: "go", dir: "auto",
    });
    list = make("ul", { id: "palette-list", role: "listbox", "aria-label": "Places" });
    said = make("span", { role: "status" });
    const close = make("button", { type: "button", class: "button slim" }, "Close");
    close.addEventListener("click", () => dialog.close());
    dialog = make(
      "dialog", { class: "palette", "aria-label": "Jump to a story, a draft or an action" },
      field, list, make("p", {}, said, close),
    );
    field.addEventListener("input", () => {
      isGoing = false;
      clearTimeout(timer);
      timer = setTimeout(ask, 60);
    });
    dialog.addEventListener("keydown", onKey);
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // the ground around it
    });
    dialog.addEventListener("close", () => {
      if (asking) asking.abort();
      clearTimeout(timer);
    });
    document.body.append(dialog);
  }

  function open() {
    if (!dialog) build();
    if (dialog.open) return;
    field.value = "";
    answered = null;
    isGoing = false;
    show([]);
    dialog.showModal();
    field.focus();
    ask();
  }

  async function ask() {
    if (asking) asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    const letters = field.value;
    if (letters.includes("@")) { // an address belongs into no address of a page
      show([]);
      answered = letters;
      said.textContent = "Readers are looked up under Subscribers.";
      return;
    }
    try {
      const answer = await fetch(`/desk/jump?q=${encodeURIComponent(letters)}`, {
        headers: { Accept: "application/json" }, cache: "no-store", signal,
      });
      if (answer.redirected) {
        said.textContent = "You are signed out. Reload the page to sign in.";
        return;
      }
      if (!answer.ok) throw new Error(answer.statusText);
      show((await answer.json()).places);
      answered = letters;
      said.textContent = places.length ? HOW : "Nothing is called that.";
      if (isGoing) take();
    } catch (error) {
      if (error.name !== "AbortError") said.textContent = "The server does not answer. Try again.";
    }
  }

  function show(found) {
    places = found;
    list.replaceChildren(...found.map(option));
    field.setAttribute("aria-expanded", String(found.length > 0));
    choose(0);
  }

  function option(place, index) {
    const title = make("span", place.serif ? { class: "headline", dir: "auto" } : {}, place.title);
    const item = make("li", { id: `palette-${index}`, role: "option", "aria-selected": "false" }, title);
    if (place.about) item.append(make("span", { dir: "auto" }, place.about));
    item.addEventListener("click", () => go(place));
    item.addEventListener("pointermove", () => choose(index));
    return item;
  }

  function choose(index) {
    chosen = index;
    for (const [place, item] of [...list.children].entries()) item.setAttribute("aria-selected", String(place === index));
    const item = list.children[index];
    if (item) {
      field.setAttribute("aria-activedescendant", item.id);
      item.scrollIntoView({ block: "nearest" });
    } else {
      field.removeAttribute("aria-activedescendant");
    }
  }

  function onKey(event) {
    const count = places.length;
    if (event.key === "ArrowDown" && count) choose((chosen + 1) % count);
    else if (event.key === "ArrowUp" && count) choose((chosen + count - 1) % count);
    else if (event.key === "Enter" && event.target === field && !event.isComposing) take();
    else return;
    event.preventDefault();
  }

  function take() {
    isGoing = answered !== field.value;
    if (!isGoing && places.length) go(places[chosen]);
  }

  function go(place) {
    dialog.close();
    if (!place.post) {
      location.assign(place.url);
      return;
    }
    const csrf = document.querySelector(".desk-own [name=csrf]").value;
    const form = make("form", { method: "post", action: place.url, hidden: "" }, make("input", { name: "csrf", value: csrf }));
    document.body.append(form);
    form.submit();
  }

  button.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    open();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "k" || !(event.metaKey || event.ctrlKey) || event.altKey || event.shiftKey) return;
    event.preventDefault();
    if (dialog && dialog.open) dialog.close();
    else open();
  });
})();
