// Paints the heat of tokens: a signed byte each says what the token adds, of the most on the card.
(() => {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  function paint(paragraph) {
    if (!paragraph.dataset.heat) return;
    const levels = new Int8Array(bytes(paragraph.dataset.heat).buffer);
    const most = Number(paragraph.dataset.most);
    const strong = strongest(levels);
    const text = paragraph.textContent;
    const painted = document.createDocumentFragment();
    let from = 0, to = 0, token = 0;
    for (const length of bytes(paragraph.dataset.lengths)) {
      to += length;
      if (length === 255) continue;
      const level = levels[token++];
      if (level === 0 || from === to) painted.append(text.slice(from, to));
      else painted.append(span(text.slice(from, to), level / 127, most, Math.abs(level) >= strong));
      from = to;
    }
    painted.append(text.slice(from));
    paragraph.replaceChildren(painted);
    delete paragraph.dataset.heat;
  }

  // A tenth of the tokens and two more at most, and none that has not half of the most.
  function strongest(levels) {
    const sizes = Array.from(levels, Math.abs).sort((a, b) => b - a);
    const few = Math.min(sizes.length - 1, Math.ceil(sizes.length / 10) + 1);
    return Math.max(sizes[few], sizes[0] / 2, 12);
  }

  function span(text, share, most, strong) {
    const element = document.createElement("span");
    element.className = (share > 0 ? "adds" : "takes") + (strong ? " strong" : "");
    element.style.setProperty("--share", (Math.abs(share) ** 0.7).toFixed(2));
    element.title = (share > 0 ? "+" : "−") + Math.abs(share * most).toFixed(3);
    element.textContent = text;
    return element;
  }

  const paragraphs = document.querySelectorAll("[data-heat]");
  const near = new IntersectionObserver(
    (seen) => seen.filter((one) => one.isIntersecting).forEach((one) => paint(one.target)),
    { rootMargin: "600px" },
  );
  paragraphs.forEach((paragraph) => near.observe(paragraph));
  addEventListener("beforeprint", () => paragraphs.forEach(paint));
})();
