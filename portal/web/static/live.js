// Keeps what a page shows up to date, every two seconds while it is looked at. It
// replaces the content only when that has changed, and not under a person's hands.
"use strict";
(() => {
  const main = document.querySelector("main[data-live]");
  const freshness = document.getElementById("freshness");
  if (!main || !freshness) return;
  const period = 2000;
  let shown = main.innerHTML;
  let asOf = (e => e ? e.textContent : "before")(freshness.querySelector("time"));
  const inUse = () => main.contains(document.activeElement) && document.activeElement !== main && document.activeElement.matches("input, select, button");
  const focused = () => { const e = document.activeElement; return main.contains(e) && e.matches("a[href]") ? e.getAttribute("href") : null; };
  const refresh = async () => {
    if (document.hidden || inUse()) return;
    try {
      const reply = await fetch(location.href, {credentials: "same-origin", redirect: "error"});
      if (!reply.ok) throw new Error(String(reply.status));
      const page = new DOMParser().parseFromString(await reply.text(), "text/html");
      const next = page.querySelector("main[data-live]");
      if (next && next.innerHTML !== shown && !inUse()) {
        const href = focused();
        shown = next.innerHTML;
        main.innerHTML = shown;
        if (href) { const again = main.querySelector(`a[href="${CSS.escape(href)}"]`); if (again) again.focus(); }
      }
      const now = page.querySelector("#freshness time");
      if (now) { asOf = now.textContent; freshness.textContent = `Up to date as of ${asOf} UTC.`; }
    } catch {
      freshness.textContent = `The portal does not answer; this is as of ${asOf} UTC. Load the page again to log in when the session has ended.`;
    }
  };
  setInterval(refresh, period);
})();
