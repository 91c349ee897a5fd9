// Examples, and the two poles that they lie at.

const LINES = 2; // of a response that is folded up, and about how many characters
const FITS = 150; // of prompt and response can be seen without unfolding

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
