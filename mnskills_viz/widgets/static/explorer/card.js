// The axis.

/** @type {Record<Mode, string>} */
const MODES = { top: "top and bottom", quantiles: "quantiles", matched: "matched pairs" };
/** @type {Record<LabelState, string>} */
const STATES = { "": "none", draft: "draft", confirmed: "confirmed" };
/** @type {Record<string, string>} */
const SOURCES = { contrast: "from the words and categories that tell the poles apart", model: "from the loaded model" };
/** @type {PoleName[]} */
const BOTH = ["negative", "positive"];

/**
 * @param {{ previous: () => void, next: () => void, send: Send, use: (prompt: string, row: number) => void, apart: (row: number) => void }} does
 * @param {ReturnType<typeof saver>} saving
 */
function cardView(does, saving) {
  /** @type {Card | null} */
  let card = null;
  /** @type {Suggestions | null} */
  let suggested = null;
  let drawn = "";
  const title = h("h3", { class: "mn-title" });
  const facts = h("ul", { class: "mn-facts" });
  const badges = h("div", { class: "mn-card-badges" });
  const histogram = histogramView(() => card && show(card), does.send);
  const heat = heatScale();
  const legend = heatLegend();
  const poles = BOTH.map((pole) => poleView(pole, saving, histogram));
  const across = h("ol", { class: "mn-across", hidden: true });
  const acts = { send: does.send, use: does.use, apart: does.apart, point: histogram.point, heat };

  const modes = segments("Examples", MODES);
  modes.addEventListener("change", () => does.send({ type: "examples", mode: modes.value }));
  const heatToggle = h("button", { type: "button", class: "mn-toggle-button mn-heat", "aria-pressed": "false", title: "What each token adds to the coordinate" }, "token heat");
  heatToggle.addEventListener("click", () => {
    heatIs(!heat.on);
    does.send({ type: "heat", on: heat.on });
  });
  const states = segments("State of the labels", STATES);
  const state = saving.field(states, "state");
  const quiz = h("span", { class: "mn-quiz-score", title: "right answers of the blind quiz, held-out rows", hidden: true });
  const suggest = h("button", { type: "button", class: "mn-toggle-button mn-suggest", title: "Propose labels for both poles, scored on held-out rows" }, "suggest labels");
  suggest.addEventListener("click", () => {
    suggesting(true);
    does.send({ type: "suggest" });
  });

  const notesField = h("textarea", {
    class: "mn-notes",
    rows: 2,
    placeholder: "notes on this axis",
    "aria-label": "Notes on this axis",
  });
  const notes = saving.field(notesField, "notes");
  const python = copyLine();
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
      h("div", { class: "mn-said-of-labels" }, quiz, h("span", { class: "mn-tool-name", "aria-hidden": "true" }, "labels"), states.node),
      facts,
    ),
    histogram.node,
    h(
      "div",
      { class: "mn-tools" },
      modes.node,
      heatToggle,
      legend.node,
      suggest,
    ),
    h("div", { class: "mn-poles" }, ...poles.map((pole) => pole.node)),
    across,
    notesField,
    python.node,
  );
  const group = exampleGroup(node);

  const heatIs = (/** @type {boolean} */ on) => {
    heatToggle.setAttribute("aria-pressed", String(on));
    if (heat.on === on) return;
    heat.on = on;
    legend.show(heat);
    group.draw();
  };
  const suggesting = (/** @type {boolean} */ busy) => {
    suggest.disabled = busy;
    suggest.textContent = busy ? "suggesting…" : "suggest labels";
  };

  /** Opened examples stay open while a label is typed. @param {Card} now */
  const showExamples = (now) => {
    const examples = examplesOf(now);
    const wanted = JSON.stringify([now.basis, now.axis, now.mode, examples]);
    if (wanted === drawn) return;
    drawn = wanted;
    const how = { category: now.mode !== "matched", limit: now.mode === "quantiles" ? now.histogram.limit : undefined };
    const items = examples.map(({ example, pole }) => exampleItem(example, acts, { pole, ...how }));
    const nodes = items.map(({ item }) => item);
    const apart = now.mode === "quantiles" || now.mode === "matched";
    poles.forEach((view, i) => view.list(apart ? [] : nodes.filter((_, at) => examples[at].pole === BOTH[i])));
    across.hidden = !apart;
    across.className = `mn-across mn-examples mn-across-${now.mode}`;
    across.setAttribute("aria-label", now.mode === "matched" ? "Matched pairs" : "Examples from lowest to highest");
    across.replaceChildren(
      ...(now.mode === "matched" ? (now.pairs ?? []).map((pair, i) => pairItem(pair, nodes.slice(2 * i, 2 * i + 2))) : apart ? nodes : []),
    );
    if (apart && !nodes.length) across.append(h("li", { class: "mn-empty" }, "No examples of this kind on this axis."));
    group.set(items, [across, ...poles.map((view) => view.examples)]);
  };

  /** @param {Card} now */
  const show = (now) => {
    card = now;
    title.replaceChildren(`Axis ${now.axis}`, h("small", {}, ` of ${now.n_axes}`));
    badges.replaceChildren(badgeRow(now.badges));
    facts.replaceChildren(...factParts(now));
    histogram.show(now, examplesOf(now));
    heat.about(now.basis, now.axis);
    legend.show(heat);
    for (const pole of poles) pole.show(now);
    showExamples(now);
    modes.value = now.mode ?? "top";
    state.show(now.state ?? "", now.basis, now.axis);
    quiz.hidden = !now.quiz;
    quiz.textContent = `quiz ${now.quiz}`;
    notes.show(now.notes, now.basis, now.axis);
    python.show(now.python);
    showSuggestions();
  };
  /** Those of another axis wait until one is back there. */
  const showSuggestions = () => {
    const mine = suggested?.basis === card?.basis && suggested?.axis === card?.axis ? suggested : null;
    suggesting(Boolean(mine?.busy));
    for (const pole of poles) pole.suggest(mine);
  };
  return {
    node,
    show,
    /** @param {{ row: number, prompt: string, response: string }} full */
    complete: (full) => group.complete(full),
    /** @param {HeatMessage} message */
    heat(message) {
      heat.add(message);
      legend.show(heat);
      if (heat.on && card?.basis === message.basis && card.axis === message.axis) group.draw();
    },
    /** @param {Suggestions} all */
    suggest(all) {
      suggested = all;
      showSuggestions();
    },
    /** @param {{ heat?: boolean }} setting */
    setting: (setting) => heatIs(Boolean(setting.heat)),
    /** What is browsed now, so that the histogram shows its range. @param {Found} found */
    found: (found) => histogram.found(found),
  };
}

/** The examples that a card shows, from its low to its high end. @param {Card} card @returns {{ example: Example, pole: PoleName }[]} */
function examplesOf(card) {
  if (card.mode === "quantiles") return (card.quantiles ?? []).map((example) => ({ example, pole: poleOf(example.z) }));
  if (card.mode === "matched") return (card.pairs ?? []).flatMap((pair) => pair.map((example, i) => ({ example, pole: BOTH[i] })));
  return BOTH.flatMap((pole) => card[pole].examples.map((example) => ({ example, pole })));
}

/** @param {[Example, Example]} pair @param {Element[]} sides */
function pairItem([low, high], sides) {
  return h(
    "li",
    { class: "mn-pair" },
    h(
      "p",
      { class: "mn-pair-head" },
      h("span", { class: "mn-category" }, low.category ?? "no category"),
      h("span", { class: "mn-apart" }, `${fixed(high.z - low.z, 2)} σ apart`),
    ),
    h("ol", { class: "mn-sides" }, ...sides),
  );
}

/**
 * A pole: its label, what is suggested for it, what stands out at it, and its examples.
 * @param {PoleName} pole
 * @param {ReturnType<typeof saver>} saving
 * @param {ReturnType<typeof histogramView>} histogram
 */
function poleView(pole, saving, histogram) {
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
  const suggestions = h("div", { class: "mn-suggestions", role: "group", "aria-label": `Suggested labels of the ${word} pole`, hidden: true });
  const standing = h("p", { class: "mn-standing" });
  let stood = "";
  const list = h("ol", { class: "mn-examples", "aria-label": `Examples at the ${word} pole` });
  const node = h(
    "section",
    { class: `mn-pole mn-pole-${pole}`, "aria-label": `${word} pole` },
    h("div", { class: "mn-pole-head" }, h("span", { class: `mn-sign mn-tint-${pole}`, "aria-hidden": "true" }, sign), input),
    suggestions,
    standing,
    list,
  );

  /** @param {Card} card */
  const standingParts = (card) => {
    const { categories, weak } = card[pole];
    const chips = categories.map(({ name, share }) =>
      h(
        "button",
        {
          type: "button",
          class: "mn-chip",
          "data-category": name,
          title: `Highlight ${name} in the histogram`,
          onclick: () => histogram.highlight(name),
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

  /** A suggestion; it becomes the label only by being clicked. @param {Suggestion} one */
  const suggestionChip = ({ label, source, auc, low, high }) => {
    const score = auc === null ? "" : `AUC ${auc.toFixed(2)}`;
    const interval = low === null || high === null ? "" : ` [${low.toFixed(2)}, ${high.toFixed(2)}]`;
    const title = `${label}\n${score ? `${score}${interval}: how well it tells held-out rows of this pole from others\n` : ""}${SOURCES[source] ?? source}`;
    const take = () => {
      input.value = label;
      for (const type of ["input", "change"]) input.dispatchEvent(new Event(type, { bubbles: true }));
      input.focus();
    };
    return h(
      "button",
      { type: "button", class: "mn-suggestion", title, onclick: take },
      h("span", { class: "mn-suggested" }, label),
      score && h("small", {}, score),
    );
  };

  return {
    node,
    examples: list,
    /** @param {Card} card */
    show(card) {
      label.show(card[pole].label, card.basis, card.axis);
      const { categories, weak } = card[pole];
      const wanted = JSON.stringify([categories, weak, card.mean_error]);
      if (wanted !== stood) standing.replaceChildren(...standingParts(card)); // else what has the focus keeps it
      stood = wanted;
      for (const chip of standing.querySelectorAll("button"))
        chip.setAttribute("aria-pressed", String(histogram.highlighted() === chip.dataset.category));
    },
    /** @param {Element[]} items */
    list(items) {
      list.hidden = items.length === 0;
      list.replaceChildren(...items);
    },
    /** @param {Suggestions | null} all */
    suggest(all) {
      const mine = all ? all[pole] : [];
      suggestions.hidden = !all || (all.busy && !mine.length);
      suggestions.replaceChildren(
        ...(mine.length ? mine.map(suggestionChip) : [h("span", { class: "mn-empty" }, "nothing to suggest")]),
      );
    },
  };
}

let segmentGroups = 0;

/**
 * One of a few, as radio buttons side by side; it can be saved like a field.
 * @param {string} label @param {Record<string, string>} options value -> text
 */
function segments(label, options) {
  const name = `mn-segments-${++segmentGroups}`;
  const inputs = Object.keys(options).map((value, i) => h("input", { type: "radio", name, value, checked: i === 0 }));
  const node = h(
    "div",
    { class: "mn-segments", role: "radiogroup", "aria-label": label, title: label },
    ...inputs.map((input) => h("label", {}, input, h("span", {}, options[input.value]))),
  );
  return {
    node,
    addEventListener: node.addEventListener.bind(node),
    /** @returns {string} */
    get value() {
      return inputs.find((input) => input.checked)?.value ?? "";
    },
    set value(value) {
      for (const input of inputs) input.checked = input.value === value;
    },
  };
}

/** A line of Python to take along. */
function copyLine() {
  const SAID_FOR = 1500;
  const code = h("code", {});
  const copy = h("button", { type: "button", class: "mn-quiet mn-copy", "aria-label": "Copy the line of Python" }, "copy");
  const node = h("p", { class: "mn-python", hidden: true }, code, copy);
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      copy.textContent = "copied";
    } catch {
      getSelection()?.selectAllChildren(code); // not allowed here: ready for the copy key
      copy.textContent = "selected";
    }
    setTimeout(() => (copy.textContent = "copy"), SAID_FOR);
  });
  return {
    node,
    /** @param {string} line */
    show(line) {
      node.hidden = !line;
      code.textContent = code.title = line ?? "";
    },
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
