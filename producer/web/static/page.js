// Keeps the changing parts of a page fresh. Nothing depends on it: a page loaded anew shows the same.
"use strict";

(() => {
  const EVERY = 2000; // milliseconds between two looks
  const SLOWEST = 30000; // the same while the service does not answer
  let pause = EVERY;
  let timer = 0;
  let asking = new AbortController();
  let leaving = false; // a form is on its way: the next page is its answer, whatever becomes of this one

  const parts = () => document.querySelectorAll("[data-live]");

  // Makes `old` like `fresh` with as few changes as can be, so that focus, selection and open details stay.
  const mend = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
      old.replaceWith(document.importNode(fresh, true));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const now = [...old.childNodes];
    const then = [...fresh.childNodes];
    then.forEach((node, place) => {
      if (place < now.length) mend(now[place], node);
      else old.append(document.importNode(node, true));
    });
    now.slice(then.length).forEach((node) => node.remove());
  };

  const look = async () => {
    try {
      asking = new AbortController();
      const wanted = { headers: { Accept: "text/html" }, redirect: "manual", signal: asking.signal };
      const answer = await fetch(location.href, wanted);
      if (answer.type === "opaqueredirect" || answer.status === 404) {
        location.reload(); // signed out, or deleted: the page itself says so
        return;
      }
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of parts()) {
          const twin = fresh.getElementById(part.id);
          if (twin) mend(part, twin);
        }
      }
      pause = answer.ok ? EVERY : Math.min(2 * pause, SLOWEST);
    } catch {
      pause = Math.min(2 * pause, SLOWEST);
    }
    plan();
  };

  const plan = () => {
    clearTimeout(timer);
    const over = document.querySelector("[data-live-over]");
    if (!leaving && !document.hidden && !over && parts().length) timer = setTimeout(look, pause);
  };

  // After a form was refused the address is the form's, which cannot be looked at.
  const asked = performance.getEntriesByType("navigation")[0];
  if (location.pathname !== "/jobs" && (!asked || !document.querySelector("[role=alert]"))) {
    document.addEventListener("visibilitychange", plan);
    document.addEventListener("submit", () => {
      leaving = true;
      clearTimeout(timer);
      asking.abort();
    });
    // Also when somebody comes back to it.
    addEventListener("pageshow", () => {
      leaving = false;
      plan();
    });
  }
})();
