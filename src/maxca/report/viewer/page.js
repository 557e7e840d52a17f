"use strict";
// Comparison of two layers: a swipe, a flicker, and the choice of slice and of what is compared with the fixed image.
(() => {
  const data = JSON.parse(document.getElementById("slices")?.textContent ?? "[]");
  const stacks = [...document.querySelectorAll(".stack")];
  const swipe = document.getElementById("swipe");
  const flicker = document.getElementById("flicker");
  let timer = 0;
  let layer = "warped";

  function show(stack) {
    const plane = data[Number(stack.dataset.plane)];
    const slice = Number(stack.dataset.slice);
    const [fixed, other] = stack.querySelectorAll("img");
    fixed.src = plane.fixed[slice];
    other.src = plane[layer][slice];
    other.alt = `${layer === "warped" ? "warped moving" : "moving"} image, ${plane.name} slice ${slice + 1}`;
    fixed.alt = `fixed image, ${plane.name} slice ${slice + 1}`;
    stack.parentElement.querySelector("output").textContent = `${plane.positions[slice]} mm`;
  }

  function setSwipe() {
    for (const stack of stacks) stack.style.setProperty("--swipe", `${swipe.value}%`);
  }

  function setFlicker(on) {
    flicker.setAttribute("aria-pressed", String(on));
    clearInterval(timer);
    for (const stack of stacks) stack.classList.toggle("flicker", on);
    if (on) {
      timer = setInterval(() => {
        for (const stack of stacks) stack.classList.toggle("other");
      }, 500);
    }
  }

  if (stacks.length) {
    for (const stack of stacks) {
      const slider = stack.parentElement.querySelector("input[type=range]");
      slider.addEventListener("input", () => { stack.dataset.slice = slider.value; show(stack); });
      stack.addEventListener("pointermove", (event) => {
        if (event.pointerType !== "mouse" && event.buttons === 0) return;
        const box = stack.getBoundingClientRect();
        swipe.value = String(Math.round((100 * (event.clientX - box.left)) / box.width));
        setSwipe();
      });
      show(stack);
    }
    swipe.addEventListener("input", setSwipe);
    flicker.addEventListener("click", () => setFlicker(flicker.getAttribute("aria-pressed") !== "true"));
    for (const choice of document.querySelectorAll("input[name=layer]")) {
      choice.addEventListener("change", () => { layer = choice.value; stacks.forEach(show); });
    }
    document.addEventListener("keydown", (event) => {
      if (event.target instanceof HTMLElement && event.target.closest("input, button, a, textarea")) return;
      if (event.key === "f") setFlicker(flicker.getAttribute("aria-pressed") !== "true");
    });
    setSwipe();
  }

  // Tables whose heads are buttons sort by that column.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button")?.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
        const body = table.tBodies[0];
        [...body.rows]
          .sort((a, b) => (up ? 1 : -1) * compare(value(a), value(b)))
          .forEach((row) => body.append(row));
      });
    });
  }

  // The table of a cohort: filter by text and verdict, and the rows shown as CSV.
  const cohort = document.getElementById("cohort");
  if (cohort) {
    const text = document.getElementById("filter");
    const states = [...document.querySelectorAll("input[name=state]")];
    const rows = () => [...cohort.tBodies[0].rows];

    const update = () => {
      const wanted = text.value.trim().toLowerCase();
      const on = new Set(states.filter((one) => one.checked).map((one) => one.value));
      for (const row of rows()) {
        row.hidden = !on.has(row.cells[2].textContent.trim()) || !row.textContent.toLowerCase().includes(wanted);
      }
      const shown = rows().filter((row) => !row.hidden).length;
      document.getElementById("shown").textContent = `${shown} of ${rows().length}`;
    };

    // A spreadsheet evaluates text that begins like a formula.
    const quoted = (value) => {
      const safe = /^[=+\-@]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : value;
      return `"${safe.replaceAll('"', '""')}"`;
    };
    const value = (cell) => {
      const number = cell.classList.contains("number") ? cell.dataset.value : cell.textContent.trim();
      return quoted(number === "nan" ? "" : number);
    };
    const line = (cells) => cells.slice(1).map(value).join(",");

    text.addEventListener("input", update);
    for (const one of states) one.addEventListener("change", update);
    document.getElementById("csv").addEventListener("click", (event) => {
      const heads = [...cohort.tHead.rows[0].cells].slice(1).map((head) => quoted(head.textContent.trim()));
      const lines = [heads.join(","), ...rows().filter((row) => !row.hidden).map((row) => line([...row.cells]))];
      event.currentTarget.href = `data:text/csv;charset=utf-8,${encodeURIComponent(lines.join("\r\n"))}`;
    });
  }

  function compare(a, b) {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? String(a).localeCompare(String(b), undefined, { numeric: true }) : x - y;
  }
})();
