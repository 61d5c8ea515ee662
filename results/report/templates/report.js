"use strict";
(() => {
  const PAGE = 25;
  const table = document.getElementById("table");
  const source = JSON.parse(document.getElementById("data").textContent);
  const columns = source.columns;
  const collator = new Intl.Collator("en", { numeric: true });

  for (const column of columns) {
    if (column.words) {
      column.text = (row) => column.words[column.values[row]];
      // Places in a sorted list order as the words do, if that list is in the reader's order.
      const order = column.words.map((_, at) => at)
        .sort((a, b) => collator.compare(column.words[a], column.words[b]));
      const places = [];
      order.forEach((word, place) => { places[word] = place; });
      column.key = (row) => (column.text(row) === "" ? null : places[column.values[row]]);
    } else {
      const format = new Intl.NumberFormat("en", {
        minimumFractionDigits: column.name === "ratio" ? 0 : column.decimals,
        maximumFractionDigits: column.decimals,
        useGrouping: column.name !== "seed",
      });
      column.text = (row) => {
        const value = column.values[row];
        return value === null ? "" : format.format(value).replace("-", "\u2212");
      };
      column.key = (row) => column.values[row];
    }
  }

  let shown = Array.from({ length: source.rows }, (_, row) => row);
  let sorted = null;
  let first = 0;
  const searched = [];

  function wanted(row, words, chosen) {
    if (chosen.some(([column, text]) => column.text(row) !== text)) return false;
    if (!words.length) return true;
    searched[row] ??= columns.map((column) => column.text(row)).join("\n").toLowerCase();
    return words.every((word) => searched[row].includes(word));
  }

  function select() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = choices.filter(([, box]) => box.value !== "")
      .map(([column, box]) => [column, column.offered[Number(box.value)]]);
    shown = [];
    for (let row = 0; row < source.rows; row += 1) {
      if (wanted(row, words, chosen)) shown.push(row);
    }
    order();
  }

  function order() {
    if (sorted) {
      const { column, sign } = sorted;
      const keys = new Map(shown.map((row) => [row, column.key(row)]));
      shown.sort((a, b) => {
        const one = keys.get(a), other = keys.get(b);
        // What is missing comes last either way.
        if (one === null || other === null) {
          return one === other ? a - b : one === null ? 1 : -1;
        }
        return sign * (one - other) || a - b;
      });
    }
    first = 0;
    draw();
  }

  function draw() {
    const rows = document.createDocumentFragment();
    for (const row of shown.slice(first, first + PAGE)) {
      const line = document.createElement("tr");
      for (const column of columns) {
        const cell = document.createElement("td");
        cell.textContent = column.text(row);
        if (!column.words) cell.className = "n";
        line.append(cell);
      }
      rows.append(line);
    }
    table.tBodies[0].replaceChildren(rows);
    const last = Math.min(first + PAGE, shown.length);
    const count = shown.length.toLocaleString("en");
    const all = source.rows.toLocaleString("en");
    document.getElementById("found").textContent =
      shown.length === source.rows ? `${all} cells` : `${count} of ${all} cells`;
    document.getElementById("page").textContent =
      `${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${count}`;
    document.getElementById("pager").hidden = shown.length <= PAGE;
    earlier.disabled = first === 0;
    later.disabled = last === shown.length;
  }

  const heads = document.createElement("tr");
  for (const column of columns) {
    const head = document.createElement("th");
    const button = document.createElement("button");
    head.scope = "col";
    if (!column.words) head.className = "n";
    button.type = "button";
    button.textContent = column.label;
    button.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sorted = { column, sign: ascending ? 1 : -1 };
      order();
    });
    head.append(button);
    heads.append(head);
  }
  table.tHead.append(heads);

  const form = document.getElementById("filters");
  const search = document.getElementById("search");
  const choices = [];
  for (const column of columns.filter((one) => one.choice)) {
    const texts = new Map();
    for (let row = 0; row < source.rows; row += 1) texts.set(column.text(row), column.key(row));
    column.offered = [...texts.keys()].sort((a, b) => texts.get(a) - texts.get(b));
    if (column.offered.length < 2) continue;
    const label = document.createElement("label");
    const box = document.createElement("select");
    label.append(column.label, box);
    box.append(new Option("all", ""));
    column.offered.forEach((text, at) => box.append(new Option(text || "(none)", String(at))));
    box.addEventListener("change", select);
    document.getElementById("choices").append(label);
    choices.push([column, box]);
  }
  search.addEventListener("input", select);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(select));
  form.hidden = source.rows < 2;

  const earlier = document.getElementById("earlier");
  const later = document.getElementById("later");
  earlier.addEventListener("click", () => { first -= PAGE; draw(); });
  later.addEventListener("click", () => { first += PAGE; draw(); });
  draw();

  const names = document.getElementById("names");
  names?.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    button.ariaPressed = String(button.ariaPressed !== "true");
    const chosen = new Map();
    for (const one of names.querySelectorAll("[aria-pressed='true']")) {
      chosen.set(one.value, one.style.getPropertyValue("--own"));
    }
    // Two metrics may share a colour, so names below the panels fade with their curves.
    for (const below of document.querySelectorAll("figure svg [id*='-names-below']")) {
      below.classList.toggle("dimmed", chosen.size > 0);
    }
    for (const mark of document.querySelectorAll("figure svg [id*='-metric']")) {
      const colour = chosen.get(/-metric(\d+)-/.exec(mark.id)?.[1]);
      mark.classList.toggle("forward", colour !== undefined);
      mark.classList.toggle("dimmed", chosen.size > 0 && colour === undefined);
      mark.style.setProperty("--own", colour ?? "");
      // What comes last is drawn on top.
      if (colour !== undefined) mark.parentNode.append(mark);
    }
  });

  // Paper has no way to open what is folded.
  const opened = [];
  addEventListener("beforeprint", () => {
    opened.push(...document.querySelectorAll("details:not([open])"));
    for (const part of opened) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of opened.splice(0)) part.open = false;
  });
})();
