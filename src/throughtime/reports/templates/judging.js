"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const votes = restored();

  function restored() {
    try {
      const kept = JSON.parse(localStorage.getItem(data.key) || "[]");
      const fits = Array.isArray(kept) && kept.length <= data.items.length &&
        kept.every((vote, k) => ["a", "b", "tie"].includes(vote.vote) && vote.context === data.items[k].context);
      return fits ? kept : [];
    } catch { // no storage, or damaged
      return [];
    }
  }

  function keep() {
    try {
      localStorage.setItem(data.key, JSON.stringify(votes));
      at("kept").textContent = "Votes are kept in this browser until you save them.";
    } catch {
      at("kept").textContent = "This browser does not keep votes: save them before you close the page.";
    }
  }

  function counted() {
    const counts = {};
    for (const length of ["short", "long"]) counts[length] = { wins: 0, losses: 0, ties: 0 };
    for (const vote of votes) counts[vote.length][{ a: "wins", b: "losses", tie: "ties" }[vote.vote]] += 1;
    return counts;
  }

  function show() {
    const item = data.items[votes.length];
    at("progress").value = votes.length;
    at("place").textContent = `${votes.length} of ${data.items.length}`;
    at("back").disabled = votes.length === 0;
    at("save").disabled = votes.length === 0;
    at("question").hidden = !item;
    at("done").hidden = Boolean(item);
    if (!item) return finish();
    at("turns").replaceChildren(...item.turns.map((text, k) => {
      const turn = document.createElement("li");
      if (k % 2) turn.className = "right";
      turn.textContent = text;
      return turn;
    }));
    const second = item.first === "a" ? "b" : "a";
    at("first").textContent = item.answers[item.first] || "(no words)";
    at("second").textContent = item.answers[second] || "(no words)";
  }

  function finish() {
    at("names").textContent = `Win: ${data.a} is better. Loss: ${data.b} is better.`;
    const counts = counted();
    at("counts").replaceChildren(...Object.keys(counts).map((length) => {
      const row = document.createElement("tr");
      const name = document.createElement("th");
      name.scope = "row";
      name.textContent = length;
      row.append(name);
      for (const kind of ["wins", "losses", "ties"]) {
        const cell = document.createElement("td");
        cell.className = "number";
        cell.dataset.label = kind;
        cell.textContent = counts[length][kind];
        row.append(cell);
      }
      return row;
    }));
  }

  function choose(which) {
    const item = data.items[votes.length];
    if (!item) return;
    const second = item.first === "a" ? "b" : "a";
    const vote = { first: item.first, second, tie: "tie" }[which];
    votes.push({ context: item.context, length: item.length, first: item.first, vote });
    keep();
    show();
  }

  function save() {
    const { schema_version, a, b, task, seed } = data;
    const file = { schema_version, a, b, task, seed, counts: counted(), votes };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(file, null, 2) + "\n"], { type: "application/json" }));
    link.download = "judgement.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  for (const which of ["first", "tie", "second"]) at(`choose-${which}`).addEventListener("click", () => choose(which));
  at("back").addEventListener("click", () => { votes.pop(); keep(); show(); });
  at("save").addEventListener("click", save);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const which = { a: "first", b: "second", t: "tie" }[event.key.toLowerCase()];
    if (which) choose(which);
  });
  show();
})();
