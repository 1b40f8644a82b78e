// Turns Sphinx's single page of the book into one that prints: title, contents, chapters.
// Each chapter has a page style of its own, whose running header is the chapter's title.
({ title, subtitle, version }) => {
  const article = document.querySelector("article.bd-article");
  const root = article.querySelector("section");
  root.querySelector("h1").textContent = "Introduction";
  article
    .querySelectorAll(".headerlink, .copybtn, details.hide.above-input, .toctree-wrapper > p")
    .forEach((element) => element.remove());

  // In the single page ids repeat, and citations name a file before the fragment, which a PDF
  // would open as another file.
  article.querySelectorAll(".citation[id]").forEach((entry) => (entry.id = `entry-${entry.id}`));
  const ids = new Set();
  article.querySelectorAll("section[id]").forEach((section, i) => {
    if (ids.has(section.id)) section.id += `-${i}`;
    ids.add(section.id);
  });
  article.querySelectorAll("a[href]").forEach((link) => {
    const href = link.getAttribute("href");
    if (/^(#|https?:|mailto:)/.test(href)) return;
    const [, id] = href.split(".html#");
    if (id) link.href = document.getElementById(`entry-${id}`) ? `#entry-${id}` : `#${id}`;
    else link.removeAttribute("href"); // the PDF does not contain files beside the page
  });

  const heading = (section) => section.querySelector("h1, h2, h3, h4").textContent;
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const link = (section) => make("a", { href: `#${section.id}` }, heading(section));
  const chapters = [root];
  article.querySelectorAll("[id^='document-']").forEach((mark) => {
    chapters.push(mark.nextElementSibling);
    mark.nextElementSibling.prepend(mark); // between two chapters it would take a page alone
  });
  const contents = make("ol");
  const styles = make("style");
  chapters.forEach((chapter, i) => {
    chapter.style.page = `chapter-${i}`;
    styles.append(
      `@page chapter-${i} { @top-right { content: ${JSON.stringify(heading(chapter))} } }`
    );
    const sections = [...chapter.querySelectorAll(":scope > section")].filter(
      (section) => !chapters.includes(section)
    );
    const nested = chapter !== root && chapter.parentElement.closest("section") !== root;
    contents.append(
      make(
        "li",
        { className: nested ? "nested" : "chapter" },
        link(chapter),
        make("span", { className: "page" }),
        make("p", {}, ...sections.flatMap((section, j) => [j ? " · " : "", link(section)]))
      )
    );
  });
  document.head.append(styles);
  document.documentElement.dataset.theme = document.documentElement.dataset.mode = "light";
  document.body.className = "printed";
  document.body.replaceChildren(
    make(
      "section",
      { className: "title-page" },
      make("h1", {}, title),
      make("p", {}, subtitle),
      make("p", {}, `the locties authors · version ${version}`),
      make("p", { className: "note" }, "The web pages also hold code that is left out here.")
    ),
    make("nav", { className: "book-contents" }, make("h1", {}, "Contents"), contents),
    article
  );
};
