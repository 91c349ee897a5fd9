// How the rows lie along the axis.

/** @param {() => void} changed when another category is highlighted */
function histogramView(changed) {
  const EVERY = "all categories";
  const HEIGHT = 100;
  const bars = svg("svg", { class: "mn-bars", preserveAspectRatio: "none", role: "img" });
  const ticks = h("div", { class: "mn-ticks", "aria-hidden": "true" });
  const scale = h("div", { class: "mn-scale", "aria-hidden": "true" });
  const caption = h("span", { class: "mn-caption" });
  let highlighted = EVERY;
  const pick = chooser("Highlight a category in the histogram", (name) => {
    highlighted = name;
    changed();
  });
  const node = h(
    "figure",
    { class: "mn-histogram" },
    h("figcaption", {}, caption, h("label", {}, "highlight ", pick.node)),
    h("div", { class: "mn-plot" }, bars, ticks),
    scale,
  );

  /** @param {number[]} counts @param {number} peak @param {Histogram} shown @param {boolean} over */
  const rects = (counts, peak, shown, over) =>
    counts.map((count, i) => {
      const middle = (2 * (i + 0.5)) / counts.length - 1; // -1 ... 1
      const height = (HEIGHT * count) / peak;
      const [from, to] = [i, i + 1].map((k) => ((2 * k) / counts.length - 1) * shown.limit);
      return svg(
        "rect",
        {
          class: `mn-bar mn-bar-${middle < 0 ? "negative" : "positive"}${over ? " mn-over" : ""}`,
          x: i + 0.06,
          width: 0.88,
          y: HEIGHT - height,
          height,
          opacity: over ? 1 : 0.3 + 0.6 * Math.abs(middle),
        },
        svg("title", {}, `${signed(from, 1)} to ${signed(to, 1)} σ: ${count} rows`),
      );
    });

  return {
    node,
    highlighted: () => highlighted,
    /** @param {string} name the one that is highlighted already stops being so */
    highlight(name) {
      highlighted = highlighted === name ? EVERY : name;
      changed();
    },
    /** @param {Card} card */
    show(card) {
      const { total, limit, categories } = card.histogram;
      const names = categories.map((category) => category.name);
      if (!names.includes(highlighted)) highlighted = EVERY;
      pick.show([EVERY, ...names], highlighted);
      const over = categories.find((category) => category.name === highlighted);
      const rows = total.reduce((sum, count) => sum + count, 0);
      const peak = Math.max(1, ...total);
      bars.setAttribute("viewBox", `0 0 ${total.length} ${HEIGHT}`);
      bars.setAttribute("aria-label", `${rows} rows along axis ${card.axis}, ${-limit} to ${limit} standard deviations`);
      bars.classList.toggle("mn-dimmed", Boolean(over));
      bars.replaceChildren(
        ...rects(total, peak, card.histogram, false),
        ...(over ? rects(over.counts, peak, card.histogram, true) : []),
      );
      caption.textContent = over
        ? `${over.counts.reduce((sum, count) => sum + count, 0)} of ${rows} rows`
        : `${rows} rows`;
      const place = (/** @type {number} */ z) => `${50 + (50 * Math.max(-limit, Math.min(limit, z))) / limit}%`;
      ticks.replaceChildren(
        ...["negative", "positive"].flatMap((pole) =>
          card[/** @type {PoleName} */ (pole)].examples.map((example) =>
            h("span", { class: `mn-tick mn-tint-${pole}`, style: `left:${place(example.z)}`, "data-row": example.row }),
          ),
        ),
      );
      const marks = [-limit, -limit / 2, 0, limit / 2, limit];
      scale.replaceChildren(
        ...marks.map((z) => h("span", { style: `left:${place(z)}` }, z === 0 ? "0" : `${signed(z, Number.isInteger(z) ? 0 : 1)} σ`)),
      );
    },
    /** Point out an example's place. @param {number | null} row */
    point(row) {
      for (const tick of ticks.children)
        tick.classList.toggle("mn-pointed", Number(tick.dataset.row) === row);
    },
  };
}
