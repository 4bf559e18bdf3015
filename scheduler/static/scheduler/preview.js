// Shows the next ten runs of the schedule that is being typed, those around the next clock changes, and a warning where
// it would begin together with many others. The server evaluates; this only asks and shows.
"use strict";
(() => {
  const FIELDS = { kind: "kind", cron_string: "cron_string", timezone: "timezone", dialect: "dialect", expression: "cron_string", jitter_seconds: "jitter_seconds" };

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
    const later = () => { clearTimeout(timer); timer = setTimeout(ask, 250, true); };
    const ask = async (isTyped) => {
      if (!inputs.get("cron_string").value.trim()) return;
      const turn = ++latest;
      const query = new URLSearchParams({ kind: "crontab", schedule: panel.dataset.schedule });
      inputs.forEach((input, parameter) => query.set(parameter, input.value));
      try {
        const response = await fetch(panel.dataset.url + "?" + query, { headers: { Accept: "application/json" } });
        const answer = await response.json();
        if (turn !== latest) return;
        showHerd(panel.querySelector(".db-herd"), answer.herd);
        if (!isTyped) return;
        show(panel, answer);
        showClock(document.getElementById("clock-changes"), answer.clock);
      } catch { /* The form still works, and says what is wrong when it is saved. */ }
    };
    inputs.forEach((input) => input.addEventListener("input", later));
    ask(!panel.dataset.stored);
  };

  const made = (name, text, kind = "") => {
    const element = document.createElement(name);
    element.textContent = text;
    element.className = kind;
    return element;
  };

  const line = (cell, texts) => {
    const row = document.createElement("tr");
    row.append(...texts.map((text) => made(cell, text)));
    if (cell === "th") for (const head of row.cells) head.scope = "col";
    return row;
  };

  const showHerd = (note, warning) => {
    note.textContent = warning || "";
    note.hidden = !warning;
  };

  const showClock = (section, clock) => {
    if (!section) return;
    const changes = clock ? clock.changes : [];
    const parts = [];
    for (const change of changes) {
      const table = document.createElement("table");
      table.createCaption().textContent = change.title;
      table.createTHead().append(line("th", ["Downbeat", "Celery Beat", "Difference"]));
      table.createTBody().append(...change.rows.map((row) => line("td", [row.pg, row.beat, row.why])));
      parts.push(table);
      if (change.left_out) parts.push(made("p", change.left_out, "db-empty"));
    }
    if (clock) {
      parts.push(...clock.reasons.map((reason) => made("p", reason)));
      if (clock.note) parts.push(made("p", clock.note, "db-empty"));
    }
    section.hidden = changes.length === 0;
    section.querySelector("div").replaceChildren(...parts);
  };

  const show = (panel, answer) => {
    const table = panel.querySelector("table");
    const note = panel.querySelector(".db-told");
    const rows = (answer.results || []).map((run) => line("td", [run.local, run.utc]));
    table.tBodies[0].replaceChildren(...rows);
    table.hidden = rows.length === 0;
    note.hidden = rows.length > 0;
    note.classList.toggle("db-problem", Boolean(answer.error));
    note.textContent = answer.error || "No run lies ahead.";
  };

  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
