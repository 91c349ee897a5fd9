// A skill as a path: which axes make it up.

/** @param {Send} send */
function skillView(send) {
  const kind = segments("What the skill is given as", { category: "a category", text: "in words", row: "one response" });
  kind.value = "category";
  const category = chooser("Category", () => {});
  const text = h("textarea", { class: "mn-skill-text", rows: 4, "aria-label": "The skill in words", placeholder: "paste a skill file, or say in words what one has to do" });
  const row = h("input", { type: "number", class: "mn-skill-row mn-field", min: 0, step: 1, value: 0, "aria-label": "Row of the corpus" });
  const rowField = h("label", {}, "row", row);
  const run = doing("mn-skill-run", "Take apart", () => {
    busy = true;
    progress.show(true);
    showButtons();
    const values = /** @type {Record<string, any>} */ ({ category: category.node.value, text: text.value, row: Number(row.value) });
    send({ type: "skill", kind: kind.value, value: values[kind.value] });
  });
  const progress = progressLine(send, "the reading");
  const said = h("p", { class: "mn-said", "aria-live": "polite" });
  const figure = figurePlace();
  const runningTitle = h("h5", {}, "Where the text lies after each token");
  const running = figurePlace();
  const axes = h("p", { class: "mn-go" });
  const line = copyLine();
  const result = h("div", { class: "mn-result", hidden: true }, said, figure.node, axes, h("div", {}, runningTitle, running.node), line.node);
  const none = h("p", { class: "mn-said" }, "The corpus has no categories.");
  const view = panel(
    "skill",
    "A skill as a path",
    true,
    h("div", { class: "mn-row" }, kind.node),
    h("div", { class: "mn-fields" }, h("div", { class: "mn-wide" }, category.node, none, text, rowField), run),
    progress.node,
    result,
  );

  let busy = false;
  let basis = "";
  const showKind = () => {
    const hasNone = !category.node.options.length;
    category.node.hidden = kind.value !== "category" || hasNone;
    none.hidden = kind.value !== "category" || !hasNone;
    text.hidden = kind.value !== "text";
    rowField.hidden = kind.value !== "row";
    showButtons();
  };
  const showButtons = () => {
    run.disabled = busy || (kind.value === "category" && !category.node.options.length);
    run.textContent = busy ? "Reading…" : "Take apart";
    result.classList.toggle("mn-busy", busy);
    result.setAttribute("aria-busy", String(busy));
  };
  kind.node.addEventListener("change", showKind);
  showKind();
  return {
    node: view.node,
    /** Take this row for the skill. @param {number} which */
    use(which) {
      kind.value = "row";
      row.value = String(which);
      showKind();
      view.open();
      run.focus();
    },
    /** @param {any} setting */
    set(setting) {
      const names = setting.categories;
      category.show(names, names.includes(category.node.value) ? category.node.value : (names[0] ?? ""));
      basis = setting.basis;
      showKind();
    },
    about() {},
    /** @param {Skill} now */
    show(now) {
      busy = Boolean(now.busy);
      progress.show(busy, now.progress);
      showButtons();
      if (busy || !now.figure) return;
      result.hidden = false;
      said.textContent = now.said;
      figure.show(now.figure);
      runningTitle.hidden = !now.running;
      running.show(now.running);
      const here = now.basis === basis;
      axes.replaceChildren(
        ...(here ? ["go to axis ", ...now.axes.map(({ axis, name }) => h("button", { type: "button", class: "mn-chip", title: name, "aria-label": `Go to axis ${axis}, ${name}`, onclick: () => send({ type: "axis", axis }) }, String(axis)))] : [`on ${now.basis}`]),
      );
      line.show(now.python);
    },
    refused() {
      busy = false;
      progress.show(false);
      showButtons();
    },
  };
}
