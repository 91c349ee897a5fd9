// The axis.

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
