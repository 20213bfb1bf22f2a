"use strict";
// Before anything is drawn: the theme that was chosen here, and whose days are shown.
(() => {
  let kept = null;
  try { kept = localStorage.getItem("membank-theme"); } catch { /* kept nowhere */ }
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone) document.cookie = `membank_zone=${encodeURIComponent(zone)}; path=/; SameSite=Strict; max-age=31536000`;
})();
