// What the theme, Sphinx and pandas leave out for screen readers.
document.addEventListener("DOMContentLoaded", () => {
  const sidebar = document.querySelector("#pst-primary-sidebar");
  sidebar?.setAttribute("role", "region");
  sidebar?.setAttribute("aria-label", "Sidebar");

  // The arrow that opens the pages below one has no name.
  for (const summary of document.querySelectorAll(".has-children > details > summary")) {
    const page = summary.closest(".has-children").querySelector("a");
    summary.setAttribute("aria-label", `Pages of ${page.textContent.trim()}`);
  }

  // An empty cell in a row of headers heads nothing.
  for (const head of document.querySelectorAll("article th")) {
    if (head.textContent.trim()) continue;
    const cell = document.createElement("td");
    for (const { name, value } of head.attributes) cell.setAttribute(name, value);
    head.replaceWith(cell);
  }

  // The arguments of a long signature are a list of definitions without terms.
  for (const part of document.querySelectorAll("dt.sig > dl > dd, dt.sig > dl")) {
    const plain = document.createElement("div");
    plain.className = part.matches("dd") ? "sig-argument" : "";
    plain.append(...part.childNodes);
    part.replaceWith(plain);
  }

  // Roles of the bibliography that are deprecated, or do not fit together.
  for (const part of document.querySelectorAll(".citation-list, .citation")) part.removeAttribute("role");
});
