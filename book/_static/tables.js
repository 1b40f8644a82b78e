// Beside each table of a page, a link that saves it as CSV: what is shown, with the text of a cell
// that spans several repeated in each, so that every row stands for itself.
// An interval in a cell stays on one line, unless the table would then be too wide.
const INTERVAL = /\[[-+−\d., ]+\]|[-+−\d.]+ to [-+−\d.]+/g;

document.addEventListener("DOMContentLoaded", () => {
  const page = location.pathname.split("/").pop().replace(/\.html$/, "");

  const rows = (table) => {
    const grid = Array.from(table.rows, () => []);
    Array.from(table.rows).forEach((row, r) => {
      let c = 0;
      for (const cell of row.cells) {
        while (grid[r][c] !== undefined) c += 1;
        for (let down = r; down < Math.min(r + cell.rowSpan, grid.length); down += 1) {
          for (let across = c; across < c + cell.colSpan; across += 1) {
            grid[down][across] = cell.textContent.replace(/\s+/g, " ").trim();
          }
        }
      }
    });
    return grid;
  };

  const csv = (table) =>
    rows(table)
      .map((row) =>
        Array.from(row, (text = "") =>
          /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
        ).join(",")
      )
      .join("\n");

  // The tables of interactive pages change with every choice, and those of code and of fields are none.
  const shown = Array.from(document.querySelectorAll("article.bd-article table")).filter(
    (table) => !table.closest(".explorer, .ranking, .highlight, dl.field-list, table table")
  );
  shown.forEach((table, i) => {
    for (const part of table.querySelectorAll("td, td *")) {
      if (part.children.length) continue;
      part.innerHTML = part.innerHTML.replace(INTERVAL, '<span class="interval">$&</span>');
    }
    const { scrollWidth, clientWidth } = table.parentElement;
    table.classList.toggle("tight", scrollWidth > clientWidth);
    const link = document.createElement("a");
    link.className = "table-csv";
    link.textContent = "CSV";
    link.title = "Save this table as CSV";
    link.setAttribute("aria-label", `Save table ${i + 1} of this page as CSV`);
    link.download = `${page}-${i + 1}.csv`;
    link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(`${csv(table)}\n`)}`;
    (table.closest(".pst-scrollable-table-container") ?? table).after(link);
  });
});
