// Tables whose headings are buttons: a click sorts by the column, the next one the other way round,
// and a third one restores the order of the page.
const compared = (a, b) => {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = heading.querySelector("button");
    const first = button.dataset.first;
    const second = first === "ascending" ? "descending" : "ascending";
    button.addEventListener("click", () => {
      const order = { none: first, [first]: second, [second]: "none" }[heading.getAttribute("aria-sort")];
      for (const other of headings) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", order);
      const value = (row) => row.cells[column].dataset.value;
      const known = original.filter((row) => value(row) !== "");
      const sign = order === "ascending" ? 1 : -1;
      if (order !== "none") known.sort((a, b) => sign * compared(value(a), value(b)));
      const rows = order === "none" ? original : [...known, ...original.filter((row) => value(row) === "")];
      body.append(...rows);
    });
  });
}
