// The explorer's front end: draws what the kernel says is shown, and sends back what a person does.
// Data enters the page as text only (append of strings, setAttribute), never as markup.
// @ts-check

/**
 * @typedef {{ text: string, kind: "good" | "warn" | "plain", explanation: string }} Badge
 * @typedef {{ value: number, low: number, high: number, chance: number, special: boolean }} Utility
 * @typedef {{ value: number, low: number | null, high: number | null }} Weak
 * @typedef {{ row: number, id: string, z: number, category: string | null, split: string | null,
 *             prompt: string, response: string, cut: boolean }} Example
 * @typedef {{ label: string, hint: string, categories: { name: string, share: number }[],
 *             weak: Weak | null, examples: Example[] }} Pole
 * @typedef {{ axis: number, variance: number | null, stability: number | null,
 *             utility: Utility | null, weakness: { positive: number, negative: number } | null,
 *             badges: Badge[], positive: Pole, negative: Pole }} Entry
 * @typedef {{ limit: number, total: number[],
 *             categories: { name: string, counts: number[] }[] }} Histogram
 * @typedef {Entry & { basis: string, layer: number | "concat" | null, n_axes: number,
 *             notes: string, skewness: number | null, mutual_information: number | null,
 *             mean_error: number | null, histogram: Histogram }} Card
 * @typedef {"positive" | "negative"} PoleName
 * @typedef {(message: Record<string, unknown>) => void} Send
 */

const SAVE_AFTER = 300; // ms without a key stroke
const SEARCH_AFTER = 180;
const SIGN_AFTER = 200; // what takes longer than this gets a sign
const ANSWER_WITHIN = 8000;
const LINES = 2; // of a response that is folded up, and about how many characters
const FITS = 150; // of prompt and response can be seen without unfolding
const LARGEST_DOSE = 6;
const FIRST_DOSE = 2;

/** @type {Record<PoleName, { sign: string, word: string }>} */
const POLES = {
  negative: { sign: "−", word: "negative" },
  positive: { sign: "+", word: "positive" },
};
const KEYS = "j, k next and previous axis · / search · Esc back to the list";
const GLYPH = { good: "✓ ", warn: "! ", plain: "" };

// ------------------------------------------------------------------------------------ elements

/**
 * @param {Element} node
 * @param {Record<string, any>} attributes `onclick` and the like are listeners
 * @param {(Node | string | null)[]} children strings become text
 */
function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** @param {string} name @param {Record<string, any>} [attributes] @param {(Node | string | null)[]} children @returns {any} */
const h = (name, attributes = {}, ...children) =>
  filled(document.createElement(name), attributes, children);

/** @param {string} name @param {Record<string, any>} [attributes] @param {(Node | string | null)[]} children */
const svg = (name, attributes = {}, ...children) =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

/** A select with a name for screen readers. @param {string} label @param {(value: string) => void} chosen */
function chooser(label, chosen) {
  const node = h("select", { "aria-label": label, title: label });
  node.addEventListener("change", () => chosen(node.value));
  return {
    node,
    /** @param {string[]} names @param {string} current */
    show(names, current) {
      node.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
      node.value = current;
    },
  };
}

// ------------------------------------------------------------------------------------- numbers

/** A number with a true minus sign. @param {number} value @param {number} digits */
const fixed = (value, digits) => value.toFixed(digits).replace("-", "−");
/** @param {number} value @param {number} digits */
const signed = (value, digits) => (value > 0 ? "+" : "") + fixed(value, digits);
/** @param {number | null} value */
const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);
const UTILITY_UNIT = "10⁻³ nats/token";
/** A utility, in that unit. @param {number} nats */
const mnat = (nats) => signed(1000 * nats, 1);

/** @param {Utility} utility */
const utilityText = (utility) =>
  `${mnat(utility.value)} [${mnat(utility.low)}, ${mnat(utility.high)}]`;

/**
 * Utility and its interval, in units of what the best of as many random directions reaches:
 * the band is the same for every axis, and a dot outside it is a find.
 * @param {Utility} utility
 */
function forest(utility) {
  const [WIDTH, HEIGHT, REACH] = [60, 12, 2.2]; // px, px, in units of chance
  const place = (/** @type {number} */ units) =>
    (WIDTH / 2) * (1 + (0.95 * Math.max(-REACH, Math.min(REACH, units))) / REACH);
  const [low, dot, high] = [utility.low, utility.value, utility.high].map((nats) => place(nats / utility.chance));
  const [from, zero, to, middle] = [place(-1), place(0), place(1), HEIGHT / 2];
  const title = `utility ${utilityText(utility)} ${UTILITY_UNIT} for 1 σ of push; chance reaches ±${(1000 * utility.chance).toFixed(1)}`;
  return svg(
    "svg",
    { class: "mn-forest", width: WIDTH, height: HEIGHT, role: "img", "aria-label": title },
    svg("title", {}, title),
    svg("rect", { class: "mn-chance", x: from, width: to - from, y: 0, height: HEIGHT }),
    svg("line", { class: "mn-zero", x1: zero, x2: zero, y1: 0, y2: HEIGHT }),
    svg("line", { class: "mn-interval", x1: low, x2: high, y1: middle, y2: middle }),
    svg("circle", { class: utility.special ? "mn-special" : "mn-ordinary", cx: dot, cy: middle, r: 2.8 }),
  );
}

/** @param {Badge[]} badges */
const badgeRow = (badges) =>
  h(
    "span",
    { class: "mn-badges" },
    ...badges.map((badge) =>
      h("span", { class: `mn-badge mn-badge-${badge.kind}`, title: badge.explanation }, GLYPH[badge.kind] + badge.text),
    ),
  );

// --------------------------------------------------------------------------------------- saving

/**
 * Fields that save themselves. A text counts as saved when the kernel has answered that it is.
 * @param {Send} send
 * @param {HTMLElement} sign where "saving…" and "saved" are said
 */
function saver(send, sign) {
  let seq = 0;
  let everSaved = false;
  let failed = false;
  /** @type {Map<number, number>} number of a message -> timer of its answer */
  const outstanding = new Map();
  /** @type {{ flush: () => void, waits: () => boolean }[]} */
  const fields = [];

  const tell = () => {
    const busy = outstanding.size > 0 || fields.some((field) => field.waits());
    sign.textContent = busy ? "saving…" : failed ? "not saved" : everSaved ? "saved" : "";
    sign.dataset.state = busy ? "busy" : failed ? "failed" : "saved";
  };

  /** @param {number} number @param {boolean} well */
  const settled = (number, well) => {
    if (!outstanding.has(number)) return; // another view's message
    clearTimeout(outstanding.get(number));
    outstanding.delete(number);
    failed = !well;
    everSaved ||= well;
    tell();
  };

  /** @param {HTMLInputElement | HTMLTextAreaElement} node @param {string} name */
  const field = (node, name) => {
    let home = { basis: "", axis: -1 }; // whose text is in the field
    let last = 0; // number of its newest message
    let timer = 0;
    const flush = () => {
      if (!timer) return;
      clearTimeout(timer);
      timer = 0;
      last = ++seq;
      const late = setTimeout(() => {
        sign.textContent = "not saved yet: the kernel does not answer";
      }, ANSWER_WITHIN);
      outstanding.set(last, late);
      send({ type: "label", ...home, field: name, value: node.value, seq: last });
      tell();
    };
    node.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(flush, SAVE_AFTER);
      tell();
    });
    node.addEventListener("blur", flush);
    fields.push({ flush, waits: () => timer !== 0 });
    return {
      /** Show what the kernel has, unless newer text is on its way to it. @param {string} value @param {string} basis @param {number} axis */
      show(value, basis, axis) {
        const moved = basis !== home.basis || axis !== home.axis;
        if (moved) flush();
        const mine = timer !== 0 || outstanding.has(last);
        if (moved || !mine) if (node.value !== value) node.value = value;
        home = { basis, axis };
        if (moved) last = 0;
      },
    };
  };
  const flushAll = () => fields.forEach((one) => one.flush());
  return { field, settled, flushAll };
}

// ---------------------------------------------------------------------------------------- list

/** @param {Entry} entry @param {PoleName} pole */
function nameLine(entry, pole) {
  const { label, hint } = entry[pole];
  const name = label
    ? h("span", { class: "mn-named", title: label }, label)
    : h("span", { class: "mn-unnamed", title: hint }, hint ? `unnamed · ${hint}` : "unnamed");
  const weakness = entry.weakness && entry.weakness[pole].toFixed(2);
  return h(
    "span",
    { class: "mn-name" },
    h("span", { class: `mn-sign mn-tint-${pole}`, "aria-label": `${POLES[pole].word} pole` }, POLES[pole].sign),
    name,
    weakness && h("span", { class: "mn-weak", title: "weakness: the model's error at this pole" }, weakness),
  );
}

/** @param {Entry} entry @param {string} id */
const axisOption = (entry, id) =>
  h(
    "li",
    { role: "option", id, "data-axis": entry.axis, "aria-selected": "false" },
    h("span", { class: "mn-number" }, String(entry.axis)),
    nameLine(entry, "negative"),
    nameLine(entry, "positive"),
    h(
      "span",
      { class: "mn-measures" },
      h("span", { class: "mn-variance", title: "share of the variance" }, percent(entry.variance)),
      entry.utility && forest(entry.utility),
      badgeRow(entry.badges),
    ),
  );

/** @param {string} prefix of ids @param {(axis: number) => void} chosen */
function axisList(prefix, chosen) {
  const node = h("ol", { class: "mn-axis-list", role: "listbox", tabindex: "0", "aria-label": "Axes" });
  const none = h("p", { class: "mn-none", hidden: true }, "No axis matches.");
  /** @type {HTMLElement[]} */
  let options = [];
  let selected = -1;

  node.addEventListener("click", (/** @type {any} */ event) => {
    const option = event.target.closest("[data-axis]");
    if (option) chosen(Number(option.dataset.axis));
  });

  const mark = () => {
    node.removeAttribute("aria-activedescendant");
    for (const option of options) {
      const is = Number(option.dataset.axis) === selected;
      option.setAttribute("aria-selected", String(is));
      if (!is) continue;
      node.setAttribute("aria-activedescendant", option.id);
      // Not scrollIntoView: that would scroll the notebook as well.
      const [top, height] = [option.offsetTop - node.offsetTop, option.offsetHeight];
      if (top < node.scrollTop) node.scrollTop = top;
      else if (top + height > node.scrollTop + node.clientHeight)
        node.scrollTop = top + height - node.clientHeight;
    }
  };
  return {
    node,
    none,
    /** @param {Entry[]} entries */
    show(entries) {
      options = entries.map((entry) => axisOption(entry, `${prefix}-axis-${entry.axis}`));
      node.replaceChildren(...options);
      none.hidden = entries.length > 0;
      mark();
    },
    /** @param {number} axis */
    select(axis) {
      selected = axis;
      mark();
    },
    /** Go `step` axes on in the list, or to its first or last. @param {number} step */
    move(step) {
      const axes = options.map((option) => Number(option.dataset.axis));
      if (!axes.length) return;
      const at = axes.indexOf(selected);
      const to = at < 0 ? 0 : Math.max(0, Math.min(axes.length - 1, at + step));
      chosen(axes[to]);
    },
  };
}

// ----------------------------------------------------------------------------------- histogram

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

// --------------------------------------------------------------------------------------- poles

/**
 * @param {Example} example @param {PoleName} pole
 * @param {{ send: Send, point: (row: number | null) => void, use: (prompt: string) => void }} does
 */
function exampleItem(example, pole, does) {
  let open = false;
  let whole = !example.cut;
  const toggle = h("button", { type: "button", class: "mn-quiet mn-toggle" });
  const use = h("button", { type: "button", class: "mn-quiet mn-use" }, "use as prompt");
  const prompt = h("p", { class: "mn-text" }, example.prompt);
  const response = h("p", { class: "mn-text mn-response" }, example.response);
  const item = h(
    "li",
    { class: "mn-example", "data-row": example.row },
    h(
      "div",
      { class: "mn-example-head" },
      h("span", { class: `mn-z mn-tint-${pole}`, title: "coordinate, in standard deviations" }, signed(example.z, 2)),
      h("span", { class: "mn-category" }, example.category ?? "no category"),
      h("span", { class: "mn-id", title: example.split ? `${example.id}, ${example.split}` : example.id }, example.id),
      use,
      toggle,
    ),
    prompt,
    example.response ? response : null,
  );
  toggle.hidden = !(example.cut || example.response.split("\n").length > LINES || example.prompt.length + example.response.length > FITS);
  const show = () => {
    item.classList.toggle("mn-open", open);
    toggle.textContent = open ? "less" : "more";
    toggle.setAttribute("aria-expanded", String(open));
    toggle.setAttribute("aria-label", `${open ? "Show less" : "Show all"} of ${example.id}`);
  };
  toggle.addEventListener("click", () => {
    open = !open;
    if (open && !whole) does.send({ type: "example", row: example.row });
    show();
  });
  use.setAttribute("aria-label", `Use ${example.id} as the prompt to steer`);
  use.addEventListener("click", () => does.use(prompt.textContent ?? ""));
  item.addEventListener("mouseenter", () => does.point(example.row));
  item.addEventListener("focusin", () => does.point(example.row));
  item.addEventListener("mouseleave", () => does.point(null));
  show();
  return {
    item,
    /** The whole text has come. @param {{ prompt: string, response: string }} full */
    complete(full) {
      whole = true;
      prompt.textContent = full.prompt;
      response.textContent = full.response;
    },
  };
}

/**
 * @param {PoleName} pole
 * @param {ReturnType<typeof saver>} saving
 * @param {{ send: Send, point: (row: number | null) => void, use: (prompt: string) => void,
 *           highlight: (category: string) => void, highlighted: () => string }} does
 */
function poleView(pole, saving, does) {
  const { sign, word } = POLES[pole];
  const input = h("input", {
    type: "text",
    class: `mn-label mn-label-${pole}`,
    placeholder: "name this pole",
    "aria-label": `Label of the ${word} pole`,
    spellcheck: "false",
    autocomplete: "off",
  });
  const label = saving.field(input, pole);
  const standing = h("p", { class: "mn-standing" });
  const list = h("ol", { class: "mn-examples", "aria-label": `Examples at the ${word} pole` });
  const node = h(
    "section",
    { class: `mn-pole mn-pole-${pole}`, "aria-label": `${word} pole` },
    h("div", { class: "mn-pole-head" }, h("span", { class: `mn-sign mn-tint-${pole}`, "aria-hidden": "true" }, sign), input),
    standing,
    list,
  );
  /** @type {Map<number, ReturnType<typeof exampleItem>>} */
  let items = new Map();
  let drawn = "";

  /** @param {Card} card */
  const standingParts = (card) => {
    const { categories, weak } = card[pole];
    const chips = categories.map(({ name, share }) =>
      h(
        "button",
        {
          type: "button",
          class: "mn-chip",
          "aria-pressed": String(does.highlighted() === name),
          title: `Highlight ${name} in the histogram`,
          onclick: () => does.highlight(name),
        },
        `${name} ${Math.round(100 * share)} %`,
      ),
    );
    if (!weak) return chips;
    const interval = weak.low === null || weak.high === null ? "" : ` [${weak.low.toFixed(2)}, ${weak.high.toFixed(2)}]`;
    const mean = card.mean_error === null ? "" : `, mean ${card.mean_error.toFixed(2)}`;
    const title = "the model's error on probe examples of this pole, pulled to the mean by how little is known";
    return [...chips, h("span", { class: "mn-weakness", title }, `weakness ${weak.value.toFixed(2)}${interval}${mean}`)];
  };

  return {
    node,
    /** @param {Card} card */
    show(card) {
      label.show(card[pole].label, card.basis, card.axis);
      standing.replaceChildren(...standingParts(card));
      const examples = card[pole].examples;
      const wanted = JSON.stringify([card.basis, card.axis, examples]);
      if (wanted === drawn) return; // expanded examples stay so while a label is typed
      drawn = wanted;
      items = new Map(examples.map((example) => [example.row, exampleItem(example, pole, does)]));
      list.replaceChildren(...[...items.values()].map(({ item }) => item));
      list.scrollTop = 0;
    },
    /** @param {{ row: number, prompt: string, response: string }} full */
    complete: (full) => items.get(full.row)?.complete(full),
  };
}

// ---------------------------------------------------------------------------------------- card

/**
 * @param {{ previous: () => void, next: () => void, send: Send, use: (prompt: string) => void }} does
 * @param {ReturnType<typeof saver>} saving
 */
function cardView(does, saving) {
  const title = h("h3", { class: "mn-title" });
  const facts = h("ul", { class: "mn-facts" });
  const badges = h("div", { class: "mn-card-badges" });
  const histogram = histogramView(() => card && show(card));
  const acts = {
    send: does.send,
    use: does.use,
    point: histogram.point,
    highlight: histogram.highlight,
    highlighted: histogram.highlighted,
  };
  const poles = [poleView("negative", saving, acts), poleView("positive", saving, acts)];
  const notesField = h("textarea", {
    class: "mn-notes",
    rows: 2,
    placeholder: "notes on this axis",
    "aria-label": "Notes on this axis",
  });
  const notes = saving.field(notesField, "notes");
  const button = (/** @type {string} */ kind, /** @type {string} */ text, /** @type {string} */ label, /** @type {() => void} */ act) =>
    h("button", { type: "button", class: `mn-${kind}-axis mn-step`, "aria-label": label, title: label, onclick: act }, text);
  const node = h(
    "section",
    { class: "mn-card", "aria-label": "Axis" },
    h(
      "header",
      { class: "mn-card-head" },
      h(
        "div",
        { class: "mn-heading" },
        button("prev", "‹", "Previous axis (k)", does.previous),
        title,
        button("next", "›", "Next axis (j)", does.next),
        badges,
      ),
      facts,
    ),
    histogram.node,
    h("div", { class: "mn-poles" }, ...poles.map((pole) => pole.node)),
    notesField,
  );
  /** @type {Card | null} */
  let card = null;

  /** @param {Card} now */
  const show = (now) => {
    card = now;
    title.replaceChildren(`Axis ${now.axis}`, h("small", {}, ` of ${now.n_axes}`));
    badges.replaceChildren(badgeRow(now.badges));
    facts.replaceChildren(...factParts(now));
    histogram.show(now);
    for (const pole of poles) pole.show(now);
    notes.show(now.notes, now.basis, now.axis);
  };
  return {
    node,
    show,
    /** @param {any} full */
    complete: (full) => poles.forEach((pole) => pole.complete(full)),
  };
}

/** @param {Card} card */
function factParts(card) {
  /** @type {[string, string | null, string][]} */
  const facts = [
    ["variance", percent(card.variance), "share of the activations' variance"],
    ["stability", card.stability === null ? null : card.stability.toFixed(2), "|cosine| with its match when the basis is refitted on halves of the data"],
    [`utility, ${UTILITY_UNIT}`, card.utility && utilityText(card.utility), "first-order effect of steering: thousandths of a nat per response token for one standard deviation of push, with its 95 % interval"],
    ["chance", card.utility && `±${(1000 * card.utility.chance).toFixed(1)}`, "what the best of as many random directions reaches"],
    ["category information", card.mutual_information === null ? null : `${card.mutual_information.toFixed(2)} nats`, "mutual information of coordinate and category"],
  ];
  return facts
    .filter(([, value]) => value !== null)
    .map(([name, value, title]) => h("li", { title }, h("span", {}, name), " ", h("b", {}, value)));
}

// --------------------------------------------------------------------------------------- steer

/**
 * A text, with what comes after the beginning that it shares with another one marked.
 * @param {string} text @param {string} other
 */
function marked(text, other) {
  let shared = 0;
  while (shared < text.length && text[shared] === other[shared]) shared++;
  if (shared === text.length && shared === other.length) return [text];
  while (shared > 0 && /\S/.test(text[shared - 1])) shared--; // whole words
  return [h("span", { class: "mn-shared" }, text.slice(0, shared)), h("mark", {}, text.slice(shared))];
}

/** @param {Send} send */
function steerView(send) {
  const heading = h("h4", {}, "Steer");
  const prompt = h("textarea", { class: "mn-prompt", rows: 3, "aria-label": "Prompt to steer", placeholder: "a prompt for the model" });
  const dose = h("input", { type: "range", class: "mn-dose", min: -LARGEST_DOSE, max: LARGEST_DOSE, step: 0.5, value: FIRST_DOSE, "aria-label": "Dose in standard deviations" });
  const number = h("output", { class: "mn-dose-number" });
  const run = h("button", { type: "button", class: "mn-steer-run" }, "Run");
  const why = h("p", { class: "mn-why", hidden: true });
  const base = h("div", { class: "mn-output-base mn-output", "data-empty": "what the model says" });
  const steered = h("div", { class: "mn-output-steered mn-output", "data-empty": "and what it says when pushed" });
  const steeredTitle = h("h5", {}, "Steered");
  const code = h("code", {});
  const copy = h("button", { type: "button", class: "mn-quiet", "aria-label": "Copy the line of Python" }, "copy");
  const line = h("p", { class: "mn-python", hidden: true }, code, copy);
  const outputs = h("div", { class: "mn-outputs", "aria-live": "polite" }, h("div", {}, h("h5", {}, "Unsteered"), base), h("div", {}, steeredTitle, steered));
  const ends = Object.fromEntries(
    Object.keys(POLES).map((pole) => [pole, h("span", { class: `mn-end mn-tint-${pole}` })]),
  );
  const node = h(
    "section",
    { class: "mn-steer", "aria-label": "Steer" },
    heading,
    prompt,
    h(
      "div",
      { class: "mn-controls" },
      h("div", { class: "mn-slider" }, dose, h("div", { class: "mn-ends", "aria-hidden": "true" }, ends.negative, ends.positive)),
      number,
      run,
    ),
    why,
    outputs,
    line,
  );
  let steerable = true;
  let busy = false;
  const showDose = () => {
    const value = Number(dose.value);
    number.textContent = `${signed(value, 1)} σ`;
    dose.setAttribute("aria-valuetext", `${signed(value, 1)} standard deviations`);
    number.className = `mn-dose-number ${value < 0 ? "mn-tint-negative" : value > 0 ? "mn-tint-positive" : ""}`;
  };
  const showRun = () => {
    run.disabled = busy || !steerable;
    run.textContent = busy ? "Running…" : "Run";
    outputs.classList.toggle("mn-busy", busy);
    outputs.setAttribute("aria-busy", String(busy));
  };
  dose.addEventListener("input", showDose);
  run.addEventListener("click", () => {
    busy = true;
    showRun();
    send({ type: "steer", prompt: prompt.value, dose: Number(dose.value) });
  });
  copy.addEventListener("click", () => navigator.clipboard?.writeText(code.textContent ?? ""));
  showDose();
  return {
    node,
    /** @param {string} text */
    use(text) {
      prompt.value = text;
      prompt.focus();
    },
    /** @param {any} setting */
    set(setting) {
      steerable = setting.steerable;
      if (!prompt.value) prompt.value = setting.prompt;
      why.hidden = steerable;
      why.textContent = "Axes of joined layers cannot be steered; choose a basis of one layer.";
      showRun();
    },
    /** @param {Card} card */
    about(card) {
      heading.textContent = `Steer along axis ${card.axis}`;
      for (const [pole, { sign }] of Object.entries(POLES)) {
        const label = card[/** @type {PoleName} */ (pole)].label || "unnamed";
        ends[pole].textContent = pole === "negative" ? `${sign} ${label}` : `${label} ${sign}`;
      }
    },
    /** @param {any} last */
    show(last) {
      busy = Boolean(last.busy);
      showRun();
      if (last.prompt === undefined) return;
      steeredTitle.textContent = `Steered, axis ${last.axis}, ${signed(last.dose, 1)} σ`;
      base.replaceChildren(...marked(last.unsteered, last.steered));
      steered.replaceChildren(...marked(last.steered, last.unsteered));
      line.hidden = busy;
      code.textContent = last.python;
    },
    /** The kernel refused: nothing runs. @param {any} last */
    refused(last) {
      busy = Boolean(last.busy);
      showRun();
    },
  };
}

// ---------------------------------------------------------------------------------------- whole

let views = 0;

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  const prefix = `mn-${++views}`;
  /** @type {Send} */
  const send = (message) => model.send(message);
  let wanted = model.get("card").axis; // the axis that was asked for last
  let sign = 0;

  const saveStatus = h("span", { class: "mn-save-status", role: "status" });
  const saving = saver(send, saveStatus);
  const status = h("div", { class: "mn-status", role: "status", "aria-live": "polite" });

  const choose = (/** @type {number} */ axis) => {
    if (axis === wanted) return;
    saving.flushAll(); // before the card goes
    wanted = axis;
    list.select(axis);
    clearTimeout(sign);
    sign = setTimeout(() => root.classList.add("mn-waiting"), SIGN_AFTER);
    send({ type: "axis", axis });
  };
  const list = axisList(prefix, choose);
  const steer = steerView(send);
  const card = cardView({ previous: () => list.move(-1), next: () => list.move(1), send, use: steer.use }, saving);

  const ask = () => {
    clearTimeout(typing);
    send({ type: "list", sort: sort.node.value, only: only.node.value, query: search.value });
  };
  let typing = 0;
  const basis = chooser("Basis", (name) => {
    saving.flushAll();
    send({ type: "basis", basis: name });
  });
  const sort = chooser("Sort the axes by", ask);
  const only = chooser("Show which axes", ask);
  const search = h("input", { type: "search", class: "mn-search", placeholder: "search labels and examples  ( / )", "aria-label": "Search labels and examples" });
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(ask, SEARCH_AFTER);
  });

  const act = (/** @type {string} */ kind, /** @type {string} */ text, /** @type {string} */ label) =>
    h(
      "button",
      {
        type: "button",
        class: `mn-${kind} mn-icon`,
        "aria-label": label,
        title: label,
        onclick: () => {
          saving.flushAll();
          send({ type: kind });
        },
      },
      text,
    );

  const hides = h("style"); // while this view lives, its static twin is out of sight
  const root = h(
    "div",
    { class: "mn-explorer", tabindex: "-1", "data-lm-suppress-shortcuts": "true", role: "group", "aria-label": "Axis explorer" },
    h(
      "header",
      { class: "mn-bar" },
      h("label", { class: "mn-basis" }, h("span", {}, "basis"), basis.node),
      search,
      h("span", { class: "mn-gap" }),
      saveStatus,
      act("undo", "↶", "Undo the last label or note"),
      act("redo", "↷", "Redo"),
      act("refresh", "↻", "Read the study again"),
    ),
    h(
      "div",
      { class: "mn-body" },
      h(
        "nav",
        { class: "mn-side", "aria-label": "Axes" },
        h("div", { class: "mn-order" }, h("label", {}, "sort ", sort.node), h("label", {}, "show ", only.node)),
        h("div", { class: "mn-legend", "aria-hidden": "true" }, h("span", {}, "axis, variance, utility against chance"), h("span", {}, "weakness")),
        list.node,
        list.none,
      ),
      card.node,
      steer.node,
    ),
    status,
    hides,
  );

  root.addEventListener("keydown", (/** @type {any} */ event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const writes = event.target.matches('textarea, select, input:not([type="range"])');
    if (event.key === "Escape" && writes) list.node.focus();
    else if (writes) return;
    else if (event.key === "j") list.move(1);
    else if (event.key === "k") list.move(-1);
    else if (event.key === "/") search.focus();
    else if (event.target === list.node && event.key in STEPS) list.move(STEPS[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  const showSetting = () => {
    const setting = model.get("setting");
    basis.show(setting.bases, setting.basis);
    sort.show(setting.sorts, setting.sort);
    only.show(setting.filters, setting.only);
    // The class comes from our own kernel, and only letters can leave the style sheet's selector.
    hides.textContent = `.${String(setting.fallback).replace(/[^\w-]/g, "")} { display: none }`;
    steer.set(setting);
  };
  const showCard = () => {
    const now = model.get("card");
    clearTimeout(sign);
    root.classList.remove("mn-waiting");
    wanted = now.axis;
    list.select(now.axis);
    card.show(now);
    steer.about(now);
  };
  const showStatus = () => {
    const { level = "info", text = "" } = model.get("status");
    status.className = `mn-status mn-status-${level}`;
    status.textContent = level === "error" ? `⚠ ${text}` : text || KEYS;
    if (level !== "error") return;
    clearTimeout(sign);
    root.classList.remove("mn-waiting");
    wanted = model.get("card").axis; // what was asked for did not come
    list.select(wanted);
    steer.refused(model.get("steering"));
  };
  const showList = () => list.show(model.get("axes"));
  const showSteering = () => steer.show(model.get("steering"));
  const receive = (/** @type {any} */ message) => {
    if (message.type === "saved" || message.type === "failed") saving.settled(message.seq, message.type === "saved");
    else if (message.type === "example") card.complete(message);
  };

  /** @type {[string, (value: any) => void][]} */
  const listeners = [
    ["change:setting", showSetting],
    ["change:axes", showList],
    ["change:card", showCard],
    ["change:steering", showSteering],
    ["change:status", showStatus],
    ["msg:custom", receive],
  ];
  for (const [event, listener] of listeners) model.on(event, listener);
  el.append(root);
  for (const show of [showSetting, showList, showCard, showSteering, showStatus]) show();

  return () => {
    saving.flushAll();
    for (const [event, listener] of listeners) model.off(event, listener);
  };
}

/** @type {Record<string, number>} */
const STEPS = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

export default { render };
