// Shows the next ten runs of the schedule that is being typed. The server evaluates; this only asks and shows.
"use strict";
(() => {
  const FIELDS = { kind: "kind", cron_string: "cron_string", timezone: "timezone", dialect: "dialect", expression: "cron_string" };

  const start = () => {
    const panel = document.getElementById("upcoming");
    if (!panel) return;
    const inputs = new Map();
    for (const [name, parameter] of Object.entries(FIELDS)) {
      const input = document.getElementById("id_" + name);
      if (input) inputs.set(parameter, input);
    }
    if (!inputs.has("cron_string")) return;
    let timer = 0;
    let latest = 0;
    const later = () => { clearTimeout(timer); timer = setTimeout(ask, 250); };
    const ask = async () => {
      if (!inputs.get("cron_string").value.trim()) return;
      const turn = ++latest;
      const query = new URLSearchParams({ kind: "crontab" });
      inputs.forEach((input, parameter) => query.set(parameter, input.value));
      try {
        const response = await fetch(panel.dataset.url + "?" + query, { headers: { Accept: "application/json" } });
        const answer = await response.json();
        if (turn === latest) show(panel, answer);
      } catch { /* The form still works, and says what is wrong when it is saved. */ }
    };
    inputs.forEach((input) => input.addEventListener("input", later));
    if (!panel.dataset.stored) ask();
  };

  const show = (panel, answer) => {
    const table = panel.querySelector("table");
    const note = panel.querySelector("p");
    const rows = (answer.results || []).map((run) => {
      const row = document.createElement("tr");
      for (const text of [run.local, run.utc]) row.appendChild(document.createElement("td")).textContent = text;
      return row;
    });
    table.tBodies[0].replaceChildren(...rows);
    table.hidden = rows.length === 0;
    note.hidden = rows.length > 0;
    note.classList.toggle("db-problem", Boolean(answer.error));
    note.textContent = answer.error || "No run lies ahead.";
  };

  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
