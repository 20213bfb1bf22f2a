"use strict";
/* The part of htmx's attributes that this page uses, so that its templates are htmx's own:
 *
 *   hx-get, hx-post, hx-put, hx-patch, hx-delete   ask a path of this server
 *   hx-trigger   an event, with "changed", "delay:120ms", "from:SELECTOR", "once"; "load"; "revealed"; "every 2s"; several by commas
 *   hx-target    "this", "closest SELECTOR" or a selector; the element itself where it is missing
 *   hx-swap      innerHTML, outerHTML, beforeend, afterbegin, delete, none
 *   hx-include   what else is sent along: fields, or forms
 *   hx-vals      JSON that is sent along
 *   hx-swap-oob  in an answer: "true", or "beforeend:SELECTOR" and the like, where it goes wherever else it came from
 *
 * An answer may say HX-Replace-Url. Nothing of it is run: text becomes elements, never code.
 */
window.hx = (() => {
  const METHODS = ["get", "post", "put", "patch", "delete"];
  const ASKING = METHODS.map((method) => `[hx-${method}]`).join(",");
  const wired = new WeakSet();
  const running = new WeakMap();

  const attribute = (element, name) => element.getAttribute(`hx-${name}`);

  function methodOf(element) {
    return METHODS.find((method) => element.hasAttribute(`hx-${method}`));
  }

  function targetOf(element, named = attribute(element, "target")) {
    if (!named || named === "this") return element;
    if (named.startsWith("closest ")) return element.closest(named.slice(8));
    return document.querySelector(named);
  }

  // -- when

  function usualEvent(element) {
    if (element instanceof HTMLFormElement) return "submit";
    return element.matches("input:not([type=button]):not([type=submit]), select, textarea") ? "change" : "click";
  }

  function triggersOf(element) {
    const written = attribute(element, "trigger") || usualEvent(element);
    return written.split(",").map((one) => {
      const [event, ...words] = one.trim().split(/\s+/);
      const named = (name) => words.find((word) => word.startsWith(`${name}:`))?.slice(name.length + 1);
      return { event, changed: words.includes("changed"), once: words.includes("once"), delay: milliseconds(named("delay")), from: named("from"), every: milliseconds(words[0]) };
    });
  }

  function milliseconds(text) {
    if (!text) return 0;
    return text.endsWith("ms") ? parseFloat(text) : 1000 * parseFloat(text);
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      ask(entry.target);
    }
  }, { rootMargin: "600px" });

  function wire(element) {
    if (wired.has(element)) return;
    wired.add(element);
    for (const trigger of triggersOf(element)) {
      if (trigger.event === "load") ask(element);
      else if (trigger.event === "revealed") seen.observe(element);
      else if (trigger.event === "every") repeat(element, trigger.every);
      else listen(element, trigger);
    }
  }

  function repeat(element, every) {
    const timer = setInterval(() => {
      if (!element.isConnected) clearInterval(timer);
      else if (!document.hidden && !running.has(element)) ask(element);
    }, every);
  }

  function listen(element, trigger) {
    const source = trigger.from ? document.querySelector(trigger.from) : element;
    let before = element.value;
    let waiting = 0;
    source.addEventListener(trigger.event, (event) => {
      if (trigger.event === "submit" || (trigger.event === "click" && element.matches("a, button"))) event.preventDefault();
      if (trigger.changed && element.value === before) return;
      before = element.value;
      clearTimeout(waiting);
      const submitter = event.submitter;
      if (trigger.delay) waiting = setTimeout(() => ask(element, submitter), trigger.delay);
      else ask(element, submitter);
    }, { once: trigger.once });
  }

  function process(root) {
    if (root.matches?.(ASKING)) wire(root);
    root.querySelectorAll?.(ASKING).forEach(wire);
  }

  // -- what is asked

  function fieldsOf(element, submitter) {
    const fields = new URLSearchParams();
    const add = (from) => {
      const entries = from instanceof HTMLFormElement ? new FormData(from) : from.name ? [[from.name, from.value]] : [];
      for (const [name, value] of entries) if (typeof value === "string") fields.append(name, value);
    };
    if (element instanceof HTMLFormElement || (element.name && !attribute(element, "include"))) add(element);
    if (attribute(element, "include")) document.querySelectorAll(attribute(element, "include")).forEach(add);
    if (submitter?.name) fields.append(submitter.name, submitter.value);
    for (const [name, value] of Object.entries(JSON.parse(attribute(element, "vals") || "{}"))) fields.append(name, value);
    return fields;
  }

  async function ask(element, submitter) {
    const method = methodOf(element);
    const earlier = running.get(element);
    if (earlier && method !== "get") return;
    earlier?.abort();
    const control = new AbortController();
    running.set(element, control);
    element.setAttribute("aria-busy", "true");
    try {
      const answer = await send(element, method, submitter, control.signal);
      const html = answer.status === 204 ? "" : await answer.text();
      if (running.get(element) === control) take(element, answer, html);
    } catch (error) {
      if (error.name !== "AbortError") tell("hx:lost", element);
    } finally {
      if (running.get(element) === control) {
        running.delete(element);
        element.removeAttribute("aria-busy");
      }
    }
  }

  function send(element, method, submitter, signal) {
    const fields = fieldsOf(element, submitter);
    const path = attribute(element, method);
    const file = element.querySelector?.("input[type=file]")?.files[0];
    const options = { method: method.toUpperCase(), headers: { "HX-Request": "true" }, signal, credentials: "same-origin" };
    if (method === "get" || method === "delete" || file) {
      const url = new URL(path, location.href);
      for (const [name, value] of fields) url.searchParams.append(name, value);
      // a file goes as it is; its name is a field
      if (file) {
        url.searchParams.set("name", file.name);
        options.headers["Content-Type"] = "application/octet-stream";
        options.body = file;
      }
      return fetch(url, options);
    }
    options.body = fields;
    return fetch(path, options);
  }

  function tell(name, element, detail = {}) {
    element.dispatchEvent(new CustomEvent(name, { bubbles: true, detail }));
    if (!element.isConnected) document.dispatchEvent(new CustomEvent(name, { detail: { ...detail, element } }));
  }

  // -- what becomes of the answer

  function take(element, answer, html) {
    const isHtml = (answer.headers.get("content-type") || "").startsWith("text/html");
    if (answer.status === 401) {
      location.reload();
      return;
    }
    if (answer.status === 204) return;
    if (!isHtml) {
      tell("hx:lost", element, { said: saidBy(answer, html) });
      return;
    }
    const template = document.createElement("template");
    template.innerHTML = html;
    const focused = document.activeElement;
    const added = [...template.content.querySelectorAll("[hx-swap-oob]")].flatMap(placeElsewhere);
    if (answer.ok) {
      const target = targetOf(element);
      if (target) added.push(...swap(target, template.content, attribute(element, "swap") || "innerHTML"));
      const url = answer.headers.get("hx-replace-url");
      if (url) history.replaceState(null, "", url);
    }
    added.filter((node) => node.isConnected).forEach(process);
    refocus(focused, added);
    tell(answer.ok ? "hx:done" : "hx:refused", element, { added });
  }

  // an error that did not come from the page's own routes
  function saidBy(answer, text) {
    try {
      return JSON.parse(text).error;
    } catch {
      return `That went wrong (${answer.status}); the log of membank says why.`;
    }
  }

  function placeElsewhere(node) {
    const [style, ...rest] = node.getAttribute("hx-swap-oob").split(":");
    const target = document.querySelector(rest.join(":") || `#${CSS.escape(node.id)}`);
    node.removeAttribute("hx-swap-oob");
    node.remove();
    if (!target) return [];
    const whole = style === "true" || style === "outerHTML";
    const content = document.createDocumentFragment();
    content.append(...(whole ? [node] : node.childNodes));
    return swap(target, content, whole ? "outerHTML" : style);
  }

  function swap(target, content, style) {
    const nodes = [...content.children];
    if (style === "none") return [];
    if (style === "delete") target.remove();
    else if (style === "outerHTML") target.replaceWith(content);
    else if (style === "beforeend") target.append(content);
    else if (style === "afterbegin") target.prepend(content);
    else target.replaceChildren(content);
    return nodes;
  }

  function refocus(before, added) {
    const wanted = added.map((node) => (node.matches("[autofocus]") ? node : node.querySelector("[autofocus]"))).find(Boolean);
    if (wanted) {
      wanted.focus();
      wanted.setSelectionRange?.(wanted.value.length, wanted.value.length);
    }
    // what had the focus was replaced: it stays at this place
    else if (before && !before.isConnected) added.find((node) => node.matches("[tabindex]"))?.focus({ preventScroll: true });
  }

  document.addEventListener("DOMContentLoaded", () => process(document.body));
  return { process, ask };
})();
