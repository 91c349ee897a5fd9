// How the rows lie along the axis, and a range of it that is picked to be browsed.

/** @typedef {{ from: number, to: number }} Band edges between bars, counted from the left */

const GRIP = { mouse: 6, touch: 18 }; // px around a handle that hold it
const [NONE, OTHERS] = ["", "\0others"]; // no category can be called so

/**
 * @param {() => void} changed when another category is highlighted
 * @param {Send} send
 */
function histogramView(changed, send) {
  const HEIGHT = 100;
  const [plain, stack] = [plainBars(HEIGHT), stackedBars(HEIGHT)];
  const bars = svg("svg", { class: "mn-bars", preserveAspectRatio: "none", "aria-hidden": "true" }, plain.node, stack.node);
  const ticks = h("div", { class: "mn-ticks", "aria-hidden": "true" });
  const scale = h("div", { class: "mn-scale", "aria-hidden": "true" });
  const caption = h("span", { class: "mn-caption" });
  const picked = h("span", { class: "mn-range", role: "status" });
  const drop = h("button", { type: "button", class: "mn-quiet mn-brush-clear", "aria-label": "Clear the range", hidden: true }, "clear");
  const plot = h(
    "div",
    { class: "mn-plot", tabindex: "0", role: "group", "aria-roledescription": "histogram" },
    bars,
    ticks,
    h("div", { class: "mn-brush", "aria-hidden": "true" }, h("i", {}), h("i", {})),
  );
  let highlighted = NONE;
  const highlight = (/** @type {string} */ name) => {
    highlighted = name;
    changed();
  };
  const legend = categoryLegend((name) => highlight(highlighted === name ? NONE : name));
  const EVERY = "all categories";
  const pick = chooser("Highlight a category in the histogram", (name) => highlight(name === EVERY ? NONE : name));
  const rare = h("label", { hidden: true }, "highlight ", pick.node); // the legend has the others
  const node = h(
    "figure",
    { class: "mn-histogram" },
    h("figcaption", {}, h("span", { class: "mn-counts" }, caption, picked, drop), rare),
    plot,
    scale,
    legend.node,
  );

  /** @type {Histogram} */
  let shown = { limit: 1, total: [], categories: [] };
  let home = { basis: "", axis: -1 }; // whose histogram it is
  /** @type {Found | null} */
  let browsed = null;
  let offered = "";
  let counted = "";

  // ---- the range, in bars: it begins and ends between two of them, so that counts are exact
  /** @type {Band | null} */
  let band = null;
  let asked = false; // the kernel shows the rows of a range
  let pending = false; // the range was changed by key, and not yet asked for
  /** @type {null | { move: (place: number) => Band, before: Band | null, moved: boolean, still: boolean }} */
  let dragging = null;
  const size = () => shown.total.length;
  const zOf = (/** @type {number} */ edge) => Number((((2 * edge) / size() - 1) * shown.limit).toFixed(12)); // 1.75, as people write it
  /** @param {Band} range */
  const countOf = ({ from, to }) => shown.total.slice(from, to).reduce((sum, count) => sum + count, 0);
  /** @param {Band} range what ends with the axis is open there */
  const wordsOf = ({ from, to }) => {
    const [low, high] = [from, to].map((edge) => `${signed(zOf(edge), 2)} σ`);
    if (from <= 0 && to >= size()) return "all of it";
    return from <= 0 ? `below ${high}` : to >= size() ? `from ${low}` : `${low.slice(0, -2)} to ${high}`;
  };

  const drawBand = () => {
    plot.classList.toggle("mn-brushed", Boolean(band));
    drop.hidden = !band;
    caption.hidden = Boolean(band);
    caption.textContent = counted;
    picked.textContent = "";
    legend.count(band);
    if (!band) return;
    plot.style.setProperty("--mn-from", String(band.from / size()));
    plot.style.setProperty("--mn-to", String(band.to / size()));
    const all = countOf({ from: 0, to: size() });
    const hint = pending ? " · Enter shows them" : "";
    picked.textContent = `${wordsOf(band)}: ${whole(countOf(band))} of ${whole(all)} rows${hint}`;
  };
  const browse = () => {
    if (!band) return;
    [asked, pending] = [true, false];
    drawBand();
    const low = band.from <= 0 ? null : zOf(band.from);
    const high = band.to >= size() ? null : zOf(band.to);
    send({ type: "brush", low, high });
  };
  const clear = () => {
    if (asked) send({ type: "clear" });
    [band, asked, pending] = [null, false, false];
    drawBand();
  };
  drop.addEventListener("click", () => {
    clear();
    plot.focus(); // the button is gone
  });

  // ---- by pointer
  const within = (/** @type {number} */ place) => Math.max(0, Math.min(size(), place));
  /** Where a pointer is, in bars from the left. @param {PointerEvent} event */
  const placeOf = (event) => {
    const box = plot.getBoundingClientRect();
    return { place: within(((event.clientX - box.left) / box.width) * size()), bar: box.width / size() };
  };
  /** From one edge to where the pointer is. @param {number} fixed */
  const edgeDrag = (fixed) => (/** @type {number} */ place) => {
    const edge = Math.round(place) === fixed ? fixed + (place < fixed || fixed === size() ? -1 : 1) : Math.round(place);
    return { from: Math.min(fixed, edge), to: Math.max(fixed, edge) };
  };
  /** Every bar that the pointer came over. @param {number} start */
  const newDrag = (start) => (/** @type {number} */ place) => {
    const [one, other] = [start, place].map((at) => Math.min(size() - 1, Math.floor(at)));
    return { from: Math.min(one, other), to: Math.max(one, other) + 1 };
  };
  /** The whole range along with the pointer. @param {Band} range @param {number} start */
  const moveDrag = ({ from, to }, start) => (/** @type {number} */ place) => {
    const by = Math.max(-from, Math.min(size() - to, Math.round(place - start)));
    return { from: from + by, to: to + by };
  };
  plot.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    if (event.button !== 0 || !event.isPrimary || !size()) return;
    const { place, bar } = placeOf(event);
    const grip = (event.pointerType === "mouse" ? GRIP.mouse : GRIP.touch) / bar;
    const near = (/** @type {number} */ edge) => Math.abs(place - edge) <= grip;
    const { from, to } = band ?? { from: NaN, to: NaN };
    const inside = place > from && place < to;
    const move = near(to) ? edgeDrag(from) : near(from) ? edgeDrag(to) : band && inside ? moveDrag(band, place) : newDrag(place);
    dragging = { move, before: band, moved: false, still: near(to) || near(from) || inside };
    plot.setPointerCapture(event.pointerId);
    if (!dragging.still) band = move(place);
    drawBand();
  });
  plot.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    if (!size()) return;
    const { place } = placeOf(event);
    if (!dragging) return point(place);
    const next = dragging.move(place);
    if (band && next.from === band.from && next.to === band.to) return;
    dragging.moved = true;
    band = next;
    drawBand();
  });
  plot.addEventListener("pointerleave", () => point(null));
  plot.addEventListener("pointerup", () => {
    const last = dragging;
    dragging = null;
    if (last && (last.moved || !last.still)) browse();
  });
  const giveUp = () => {
    if (!dragging) return;
    [band, dragging] = [dragging.before, null];
    drawBand();
  };
  plot.addEventListener("pointercancel", giveUp);

  // ---- by key
  /** Begins at the end that the arrow points to, where people look first. @param {number} step */
  const firstBand = (step) => {
    const width = Math.max(1, Math.round(size() / 12));
    return step < 0 ? { from: 0, to: width } : { from: size() - width, to: size() };
  };
  plot.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !size()) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      if (!band) band = firstBand(step);
      else if (!event.shiftKey) band = moveDrag(band, 0)(step);
      else if (step < 0) band = { ...band, from: Math.max(0, band.from - 1) };
      else band = { ...band, to: Math.min(size(), band.to + 1) };
      pending = true;
      drawBand();
    } else if (event.key === "Enter" && band) browse();
    else if (event.key === "Escape" && dragging) giveUp();
    else if (event.key === "Escape" && band) clear();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  // ---- what the pointer is at
  /** @param {number | null} place */
  const point = (place) => {
    const at = place === null ? -1 : Math.min(size() - 1, Math.floor(place));
    const bar = { from: at, to: at + 1 };
    const text = at < 0 ? counted : `${wordsOf(bar)}: ${whole(countOf(bar))}`;
    if (caption.textContent === text) return;
    caption.textContent = text;
    legend.count(at < 0 ? band : bar);
  };

  /** The range whose rows are shown now; none where it is one of another axis, or something else. @param {Found} found */
  const showBrowsed = ({ what, range }) => {
    asked = what === "range";
    if (dragging || pending || !size()) return; // what is being picked stays
    if (!asked || (range && range.axis !== home.axis)) band = null;
    else if (range) {
      const edge = (/** @type {number} */ z) => Math.round(within(((z / shown.limit + 1) * size()) / 2));
      const from = Math.min(range.low === null ? 0 : edge(range.low), size() - 1);
      band = { from, to: Math.max(range.high === null ? size() : edge(range.high), from + 1) };
    }
  };

  return {
    node,
    highlighted: () => highlighted,
    /** @param {string} name the one that is highlighted already stops being so */
    highlight: (name) => highlight(highlighted === name ? NONE : name),
    /** @param {Card} card @param {{ example: Example, pole: PoleName }[]} examples whose places are marked */
    show(card, examples) {
      shown = card.histogram;
      const { limit, categories } = shown;
      const names = categories.map((category) => category.name);
      if (![NONE, OTHERS, ...names].includes(highlighted)) highlighted = NONE;
      const layers = layersOf(shown, highlighted);
      const chosen = layers.find((layer) => layer.key === highlighted);
      const peak = Math.max(1, ...shown.total);
      bars.setAttribute("viewBox", `0 0 ${Math.max(1, size())} ${HEIGHT}`);
      const apart = layers.length > 1;
      plain.show(apart ? [] : shown.total, peak);
      // What is highlighted stands on the ground, where its counts can be compared.
      stack.show(!apart ? [] : chosen ? [chosen, ...layers.filter((layer) => layer !== chosen)] : layers, peak);
      stack.node.classList.toggle("mn-one-of", Boolean(chosen));
      legend.show(apart ? layers : [], chosen);
      rare.hidden = categories.every((category) => category.colour);
      if (offered !== names.join("\n")) pick.show([EVERY, ...names], EVERY);
      offered = names.join("\n");
      pick.node.value = names.includes(highlighted) ? highlighted : EVERY;

      const rows = countOf({ from: 0, to: size() });
      counted = chosen ? `${whole(sumOf(chosen.counts))} of ${whole(rows)} rows: ${chosen.name}` : `${whole(rows)} rows`;
      plot.setAttribute(
        "aria-label",
        `${rows} rows along axis ${card.axis}, ${fixed(-limit, 1)} to ${limit} standard deviations. ` +
          "Arrow keys pick a range, shift and arrow widen it, Enter shows its rows, Escape clears it.",
      );

      const place = (/** @type {number} */ z) => `${50 + (50 * Math.max(-limit, Math.min(limit, z))) / limit}%`;
      ticks.replaceChildren(
        ...examples.map(({ example, pole }) =>
          h("span", { class: `mn-tick mn-tint-${pole}`, style: `left:${place(example.z)}`, "data-row": example.row }),
        ),
      );
      const marks = [-limit, -limit / 2, 0, limit / 2, limit];
      scale.replaceChildren(
        ...marks.map((z) => h("span", { style: `left:${place(z)}` }, z === 0 ? "0" : `${signed(z, Number.isInteger(z) ? 0 : Number.isInteger(2 * z) ? 1 : 2)} σ`)),
      );

      if (card.basis !== home.basis || card.axis !== home.axis) [band, pending, dragging] = [null, false, null];
      home = { basis: card.basis, axis: card.axis };
      if (browsed) showBrowsed(browsed);
      drawBand();
    },
    /** @param {Found} found */
    found(found) {
      browsed = found;
      showBrowsed(found);
      drawBand();
    },
    /** Point out an example's place. @param {number | null} row */
    point(row) {
      for (const tick of ticks.children)
        tick.classList.toggle("mn-pointed", Number(tick.dataset.row) === row);
    },
  };
}

/** Not toLocaleString, whose first call takes longer than the rest of the card. @param {number} count */
const whole = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, ",");

/** @param {number[]} counts */
const sumOf = (counts) => counts.reduce((sum, count) => sum + count, 0);

/** @typedef {{ key: string, name: string, counts: number[], colour: string, symbol: string }} Layer */

/**
 * What bars are made of: categories with a colour of their own, the one that is highlighted, the rest.
 * @param {Histogram} histogram @param {string} highlighted @returns {Layer[]}
 */
function layersOf({ total, categories }, highlighted) {
  const own = categories.filter(({ name, colour }) => colour || name === highlighted);
  const rest = own.reduce((left, { counts }) => left.map((count, i) => count - counts[i]), total);
  const layers = own.map(({ name, counts, colour = "currentColor", symbol = "circle" }) => ({ key: name, name, counts, colour, symbol }));
  if (sumOf(rest))
    layers.push({ key: OTHERS, name: own.length < categories.length ? "others" : "no category", counts: rest, colour: "#8c8c8c", symbol: "circle" });
  return layers;
}

/**
 * Which colour is which category, how many rows of it lie in a range; a press highlights one.
 * @param {(key: string) => void} pressed
 */
function categoryLegend(pressed) {
  const node = h("ul", { class: "mn-categories", "aria-label": "Categories; press one to highlight it" });
  /** @type {{ button: HTMLButtonElement, count: HTMLElement, said: string }[]} */
  let entries = [];
  /** @type {Layer[]} */
  let layers = [];
  let made = "";
  const entryOf = (/** @type {Layer} */ { key, name, counts, colour, symbol }) => {
    const said = whole(sumOf(counts));
    const sign = SHAPES[/** @type {keyof SHAPES} */ (symbol)] ?? "●";
    const count = h("b", { style: `min-width:${said.length}ch` }); // so that nothing moves when it changes
    const button = h(
      "button",
      { type: "button", title: `${name}, ${said} rows; press to highlight it`, onclick: () => pressed(key) },
      h("span", { class: "mn-swatch", style: `color:${colour}`, "aria-hidden": "true" }, sign),
      h("span", { class: "mn-category-name" }, name),
      count,
    );
    return { button, count, said };
  };
  return {
    node,
    /** @param {Layer[]} now none hides it @param {Layer | undefined} chosen */
    show(now, chosen) {
      layers = now;
      node.hidden = !now.length;
      const wanted = JSON.stringify(now.map(({ name, counts, colour }) => [name, sumOf(counts), colour]));
      if (wanted !== made) {
        entries = now.map(entryOf);
        node.replaceChildren(...entries.map(({ button }) => h("li", {}, button)));
      }
      made = wanted;
      entries.forEach(({ button }, i) => button.setAttribute("aria-pressed", String(now[i] === chosen)));
    },
    /** @param {Band | null} range none for all rows */
    count(range) {
      entries.forEach(({ count, said }, i) => {
        const text = range ? whole(sumOf(layers[i].counts.slice(range.from, range.to))) : said;
        if (count.textContent !== text) count.textContent = text;
      });
    },
  };
}

/** Bars of categories on one another, one path for each category. @param {number} height */
function stackedBars(height) {
  const GAP = 0.8; // between two of a bar, where there is room
  const node = svg("g", {});
  return {
    node,
    /** @param {Layer[]} layers from the ground up; none hides them @param {number} peak */
    show(layers, peak) {
      while (node.children.length < layers.length) node.append(svg("path", { class: "mn-layer" }));
      /** @type {number[]} */
      const ground = [];
      for (const [i, path] of [...node.children].entries()) {
        const layer = layers[i];
        path.toggleAttribute("hidden", !layer);
        if (!layer) continue;
        const drawn = layer.counts.map((count, bar) => {
          const [from, tall] = [ground[bar] ?? 0, (height * count) / peak];
          ground[bar] = from + tall;
          const left = tall - (from && tall > 3 * GAP ? GAP : 0);
          return tall ? `M${bar + 0.06} ${(height - from - tall).toFixed(2)}h.88v${left.toFixed(2)}h-.88z` : "";
        });
        path.setAttribute("d", drawn.join(""));
        path.setAttribute("fill", layer.colour);
      }
    },
  };
}

/** Bars of both poles, made once; then they only change their height. @param {number} height */
function plainBars(height) {
  const node = svg("g", {});
  /** @type {Element[]} */
  let rects = [];
  const build = (/** @type {number} */ size) => {
    rects = Array.from({ length: size }, (_, i) => {
      const middle = (2 * (i + 0.5)) / size - 1; // -1 ... 1
      const pole = middle < 0 ? "negative" : "positive";
      return svg("rect", { class: `mn-bar mn-bar-${pole}`, x: i + 0.06, width: 0.88, opacity: 0.3 + 0.6 * Math.abs(middle) });
    });
    node.replaceChildren(...rects);
  };
  return {
    node,
    /** @param {number[]} counts none hides them @param {number} peak */
    show(counts, peak) {
      node.toggleAttribute("hidden", counts.length === 0);
      if (counts.length && counts.length !== rects.length) build(counts.length);
      counts.forEach((count, i) => {
        rects[i].setAttribute("y", String(height * (1 - count / peak)));
        rects[i].setAttribute("height", String((height * count) / peak));
      });
    },
  };
}
