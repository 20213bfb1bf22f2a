"use strict";
/* What the page does beside asking (hx.js): theme, keys, selection, notes that count down, the map. */
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const main = $("#main");

  function say(text) {
    const said = $("#said");
    said.textContent = "";
    setTimeout(() => { said.textContent = text; }, 50);
  }

  // -- theme

  const theme = $("#theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";
  const showTheme = () => theme.setAttribute("aria-pressed", String(isDark()));

  theme.addEventListener("click", () => {
    const chosen = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    try { localStorage.setItem("membank-theme", chosen); } catch { /* only for now, then */ }
    showTheme();
  });
  prefersDark.addEventListener("change", showTheme);
  showTheme();

  // -- notes in the corner

  const toasts = $("#toasts");

  function note(text, bad = false) {
    const toast = document.createElement("div");
    toast.className = bad ? "toast bad" : "toast";
    toast.dataset.seconds = "8";
    const words = document.createElement("p");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "close";
    close.setAttribute("aria-label", "Close this note");
    close.textContent = "×";
    toast.append(words, close);
    toasts.append(toast);
    begin(toast);
  }

  function beginAll() {
    all(".toast:not([data-begun])", toasts).forEach(begin);
  }

  function begin(toast) {
    toast.dataset.begun = "1";
    const ends = performance.now() + 1000 * Number(toast.dataset.seconds || 8);
    const left = $(".left", toast);
    say($("p", toast).textContent + (left ? ` Undo: press u, within ${toast.dataset.seconds} seconds.` : ""));
    const timer = setInterval(() => {
      const seconds = Math.ceil((ends - performance.now()) / 1000);
      if (left) left.textContent = `(${Math.max(0, seconds)} s)`;
      const busy = toast.matches(":hover, :focus-within") && !left;
      if (!toast.isConnected || (seconds <= 0 && !busy)) {
        clearInterval(timer);
        toast.remove();
      }
    }, 200);
  }

  toasts.addEventListener("click", (event) => {
    if (event.target.closest(".close")) event.target.closest(".toast").remove();
  });

  // -- selection

  const bar = $("#chosen");
  const picks = () => all(".pick", main);
  let lastPick = null;

  function showPicks() {
    if (!bar) return;
    const chosen = picks().filter((one) => one.checked);
    bar.hidden = chosen.length === 0;
    main.classList.toggle("choosing", chosen.length > 0);
    $("#chosen-count").textContent = `${chosen.length} selected`;
    const every = $("#pick-all");
    every.checked = chosen.length > 0 && chosen.length === picks().length;
    every.indeterminate = chosen.length > 0 && !every.checked;
  }

  function pickUpTo(box, wide) {
    const every = picks();
    const from = every.indexOf(lastPick);
    const to = every.indexOf(box);
    if (wide && from >= 0) every.slice(Math.min(from, to), Math.max(from, to) + 1).forEach((one) => { one.checked = box.checked; });
    lastPick = box;
    showPicks();
  }

  main.addEventListener("click", (event) => {
    if (event.target.matches(".pick")) pickUpTo(event.target, event.shiftKey);
    if (event.target.matches("#pick-none")) { picks().forEach((one) => { one.checked = false; }); showPicks(); }
  });
  $("#pick-all")?.addEventListener("change", (event) => {
    picks().forEach((one) => { one.checked = event.target.checked; });
    showPicks();
  });

  // -- details that open and close again

  document.addEventListener("click", (event) => {
    const opener = event.target.closest?.("[data-opens]");
    if (!opener) return;
    const place = document.getElementById(opener.dataset.opens);
    const opens = opener.getAttribute("aria-expanded") !== "true";
    opener.setAttribute("aria-expanded", String(opens));
    place.hidden = !opens;
    if (!opens) event.stopImmediatePropagation();
  }, true);

  // -- after an answer

  document.addEventListener("hx:done", (event) => {
    const element = event.detail.element || event.target;
    beginAll();
    if (element.matches?.("[data-reset]")) element.reset();
    if (element.dataset?.then) $(element.dataset.then)?.click();
    if (element.matches?.(".undo")) element.closest(".toast").remove();
    if (element.closest?.("#chosen")) picks().forEach((one) => { one.checked = false; });
    all("textarea", main).forEach(grow);
    const count = $("#count");
    if (count && element.closest?.("#search")) say(count.textContent.trim());
    showPicks();
  });
  document.addEventListener("hx:refused", beginAll);
  document.addEventListener("hx:lost", (event) => {
    if (!$(".toast.bad", toasts)) note(event.detail.said || "membank does not answer. Is it still running?", true);
  });

  function grow(area) {
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight + 2}px`;
  }
  document.addEventListener("input", (event) => { if (event.target.matches("textarea")) grow(event.target); });

  // -- the map

  const reader = document.createElement("span");
  let pointed = null;

  function point(circle) {
    if (circle === pointed) return;
    pointed?.classList.remove("on");
    pointed = circle;
    circle.classList.add("on");
    reader.setAttribute("hx-get", `${$("#points").dataset.card}${circle.dataset.id}/card`);
    reader.setAttribute("hx-target", "#card");
    window.hx.ask(reader);
  }

  function pickTopic(event) {
    const link = event.target.closest(".topics a[data-topic]");
    const points = $("#points");
    if (!points) return;
    points.classList.toggle("picked", link !== null);
    all("g[data-topic]", points).forEach((group) => group.classList.toggle("on", group.dataset.topic === link?.dataset.topic));
  }

  if (main.dataset.view === "map") {
    let waiting = 0;
    main.addEventListener("pointerover", (event) => {
      clearTimeout(waiting);
      if (event.target.matches("#points circle")) waiting = setTimeout(() => point(event.target), 60);
      pickTopic(event);
    });
    main.addEventListener("click", (event) => { if (event.target.matches("#points circle")) point(event.target); });
    main.addEventListener("focusin", pickTopic);
  }

  // -- keys

  const articles = () => all("article.memory", main);
  const current = () => document.activeElement?.closest?.("article.memory") || $("article.memory.here", main);

  function step(by) {
    const every = articles();
    if (!every.length) return;
    const at = every.indexOf(current());
    const next = every[Math.max(0, Math.min(every.length - 1, at < 0 ? 0 : at + by))];
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }

  main.addEventListener("focusin", (event) => {
    const article = event.target.closest("article.memory");
    if (!article) return;
    all("article.here", main).forEach((one) => one.classList.remove("here"));
    article.classList.add("here");
  });

  function press(key) {
    const article = current();
    const button = article && $(`[data-key="${key}"]`, article);
    if (!button) return;
    if (key === "Delete") focusBeside(article);
    button.click();
  }

  function focusBeside(article) {
    const every = articles();
    const at = every.indexOf(article);
    (every[at + 1] || every[at - 1])?.focus();
  }

  const isTyping = (target) => target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]");

  function typed(event) {
    if (event.key === "Escape") {
      const leave = event.target.closest("form.editing")?.querySelector(".leave");
      if (leave) leave.click();
      else if (event.target.id === "q") event.target.blur();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target.matches("form.editing textarea")) {
      event.preventDefault();
      event.target.form.requestSubmit();
    }
  }

  const KEYS = {
    "/": () => { const search = $("#q") || $("#question"); search?.focus(); search?.select(); },
    j: () => step(1),
    k: () => step(-1),
    e: () => press("e"),
    p: () => press("p"),
    Delete: () => press("Delete"),
    // where keyboards have no Delete
    Backspace: () => { if (document.activeElement.matches("article.memory")) press("Delete"); },
    Enter: () => press("Enter"),
    x: (event) => { const box = current() && $(".pick", current()); if (box) { box.checked = !box.checked; pickUpTo(box, event.shiftKey); } },
    X: (event) => KEYS.x(event),
    u: undo,
    "?": () => $("#help").showModal(),
  };

  function undo() {
    const offered = all(".toast .undo", toasts).pop();
    if (offered) offered.click();
    else note("There is nothing that could be undone here. The view Bank lists the last changes.");
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping(event.target)) { typed(event); return; }
    if (event.key === "Enter" && !event.target.matches("article.memory")) return;
    if ($("#help").open || !Object.hasOwn(KEYS, event.key)) return;
    event.preventDefault();
    KEYS[event.key](event);
  });
  $("#help-open")?.addEventListener("click", () => $("#help").showModal());
  // a click beside the box closes it
  $("#help").addEventListener("click", (event) => { if (event.target === event.currentTarget) event.target.close(); });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
})();
