/* The ranking: a choice of scores orders the contenders. Each score opens its rows. */
(() => {
  "use strict";

  const CELL = ["tier", "task", "split", "probe", "labels"];
  const WORDS = {
    block: "spatial blocks", random: "random folds", knn: "kNN", all: "all", mlp: "MLP",
    r2: "R²", accuracy: "accuracy", "": "R² or accuracy",
  };
  const SVG = "http://www.w3.org/2000/svg";

  const words = (value) => WORDS[value] ?? value.replaceAll("_", " ");
  const score = (thousandths) => (thousandths / 1000).toFixed(3).replace("-", "−");

  function drawn(parent, name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent.append(made);
    return made;
  }

  function start(root, tables) {
    const { elements } = root.querySelector("form");
    const said = root.querySelector(".ranking-said");
    const caption = root.querySelector("caption"), body = root.querySelector("tbody");
    let table = tables[0];

    for (const { title } of tables) element(elements.table, "option", title, { value: title });
    elements.table.parentElement.hidden = tables.length === 1;

    /* Each control offers what there is for the controls before it, and keeps its value if it can. */
    function offer() {
      table = tables.find(({ title }) => title === elements.table.value);
      let left = table.cells.map((cell, at) => ({ cell, at }));
      CELL.forEach((name, column) => {
        const select = elements[name], before = select.value;
        const values = [...new Set(left.map(({ cell }) => cell[column]))];
        select.replaceChildren();
        for (const value of values) element(select, "option", words(value), { value });
        select.value = values.includes(before) ? before : values[0];
        left = left.filter(({ cell }) => cell[column] === select.value);
      });
      return left[0].at;
    }

    /* The contenders of a cell, the best first. */
    function ranked(at) {
      const [tier, task] = table.cells[at];
      const leaks = table.leaks.find(([of, name]) => of === tier && name === task)?.[2] ?? {};
      const [who, means, halves, kinds] = table.scores[at];
      const found = means.map((mean, i) => {
        const contender = who?.[i] ?? i;
        const [seeds, draws] = table.kinds[Array.isArray(kinds) ? kinds[i] : kinds];
        return { name: table.contenders[contender], mean, half: halves[i], seeds, draws, leaks: leaks[contender] ?? [] };
      });
      return found.sort((a, b) => b.mean - a.mean);
    }

    const interval = ({ mean, half }) =>
      half === null ? "–" : `${score(mean - half)} to ${score(mean + half)}`;

    const plural = (count, name) => `${count} ${name}${count === 1 ? "" : "s"}`;

    /* A dot and its interval on an axis that all rows share. */
    function picture(parent, each, low, high) {
      const svg = drawn(parent, "svg", { "aria-hidden": "true" });
      const x = (value) => `${(100 * (value - low)) / (high - low || 1)}%`;
      drawn(svg, "line", { x1: "0%", x2: "100%", y1: "50%", y2: "50%" });
      if (each.half !== null) {
        const ends = { x1: x(each.mean - each.half), x2: x(each.mean + each.half) };
        drawn(svg, "line", { ...ends, y1: "50%", y2: "50%", class: "ranking-interval" });
      }
      drawn(svg, "circle", { cx: x(each.mean), cy: "50%", r: 4 });
    }

    /* The tasks behind a mean: few places have many labels, so some tasks can be missing. */
    function several([tier, task, ...others]) {
      const tasks = table.tasks.find(([of, name]) => of === tier && name === task)?.[2];
      const scored = ([of, name, ...rest]) => of === tier && others.every((value, i) => value === rest[i] || i === 3);
      return tasks?.filter((task) => table.cells.some((cell) => cell[1] === task && scored(cell)));
    }

    /* The condition, for pandas, of the rows behind a score. */
    function condition(name, cell) {
      const text = (value) => JSON.stringify(value).replaceAll(",", ", ");
      const tasks = several(cell);
      const parts = CELL.map((column, i) =>
        column === "task" && tasks ? `task in ${text(tasks)}` : `${column} == ${text(cell[i])}`,
      );
      return [`encoder == ${text(name)}`, ...parts, 'metric in ["r2", "accuracy"]'].join(" and ");
    }

    function details(row, { name, seeds, draws }, cell) {
      const inside = element(row, "td", "", { colspan: 4, class: "ranking-rows" });
      element(inside, "p", `Mean over ${plural(seeds, "seed")} and ${plural(draws, "draw")} of points and folds. To read its rows:`);
      element(inside, "pre", `${table.code}.query(\n    '${condition(name, cell)}'\n)`);
      for (const file of table.tables) {
        const links = element(inside, "p", `${file}: `);
        element(links, "a", "Parquet", { href: `${root.dataset.files}${file}.parquet`, download: "" });
        links.append(", ");
        element(links, "a", "CSV", { href: `reproducibility.html#rows-${file}` });
      }
      element(inside, "p", "To make the rows again:");
      element(inside, "pre", table.commands.join("\n"));
    }

    function show() {
      const at = offer();
      const cell = table.cells[at], [, task, split, probe, labels, metric] = cell;
      const all = ranked(at), tasks = several(cell);
      const listed = elements.clean.checked ? all.filter(({ leaks }) => !leaks.length) : all;
      const ends = listed.flatMap(({ mean, half }) => [mean - half, mean + half]);
      const [low, high] = [Math.min(...ends), Math.max(...ends)];
      caption.textContent =
        `${words(task)}${tasks ? ` (${tasks.length})` : ""}, ${words(metric)}: ${words(split)}, ${words(probe)}, ` +
        `${labels === "all" ? "all labels" : `${labels} labels`}`;
      root.querySelector(".ranking-scale").textContent = `lines go from ${score(low)} to ${score(high)}`;
      body.replaceChildren();
      for (const each of listed) {
        const { name, mean, leaks } = each;
        const row = element(body, "tr");
        element(row, "td", String(1 + listed.filter((other) => other.mean > mean).length), { class: "ranking-number" });
        const head = element(row, "th", name, { scope: "row" });
        if (leaks.length) {
          const what = several(cell) ? "some of the tasks" : "the task";
          element(head, "small", `saw ${leaks.map(words).join(", ")}: a leak into ${what}`, { class: "ranking-leak" });
        }
        picture(head, each, low, high);
        const number = element(row, "td", "", { class: "ranking-number" });
        const button = element(number, "button", score(mean), {
          type: "button", "aria-expanded": "false",
          "aria-label": `${score(mean)}: show the rows of ${name}`,
        });
        element(row, "td", interval(each), { class: each.half === null ? "" : "ranking-number" });
        const rows = element(body, "tr", "", { hidden: "" });
        button.addEventListener("click", () => {
          if (!rows.childElementCount) details(rows, each, cell);
          rows.hidden = !rows.hidden;
          button.setAttribute("aria-expanded", String(!rows.hidden));
        });
      }
      const out = all.length - listed.length, [best] = listed;
      const none = listed.some(({ half }) => half === null);
      const parts = best
        ? [
            `${plural(listed.length, "contender")}.`,
            `First: ${best.name}, ${score(best.mean)}${best.half === null ? "" : `, interval ${interval(best)}`}.`,
            none ? "A score of a single replicate has no interval." : "",
          ]
        : ["Every contender saw a modality that leaks: choose another task."];
      if (out) parts.push(`Left out: ${out} with a leaking modality.`);
      said.textContent = parts.filter(Boolean).join(" ");
    }

    root.querySelector("form").addEventListener("change", show);
    root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    root.hidden = false;
    show();
  }

  // A live notebook may run this again beside a ranking that has already started.
  for (const root of document.querySelectorAll(".ranking[hidden]")) {
    start(root, JSON.parse(root.parentElement.querySelector(".ranking-data").textContent));
  }
})();
