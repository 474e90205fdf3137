// Puts what comes in at the top of the list. Without it the list is as it was when the page was made.
"use strict";
{
  const MOST_ROWS = 200;
  const rows = document.getElementById("rows");
  const gateways = document.getElementById("gateways");
  const state = document.getElementById("state");
  const tell = (words, kind) => { state.textContent = words; state.className = "badge " + kind; };
  const source = new EventSource(rows.dataset.stream);
  tell("connecting", "");
  source.addEventListener("open", () => tell("live", "good"));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) tell("not live any more: reload", "bad");
    else tell("connecting again", "warn");
  });
  source.addEventListener("denials", (event) => {
    // Rendered and escaped by the server, as the page itself is.
    const told = JSON.parse(event.data);
    gateways.innerHTML = told.gateways;
    const found = document.createElement("template");
    found.innerHTML = told.rows;
    if (found.content.children.length) document.getElementById("none")?.remove();
    rows.prepend(found.content);
    while (rows.rows.length > MOST_ROWS) rows.deleteRow(-1);
  });
}
