// What to train on: a strategy, what it buys, and the export.

const FIRST_BUDGET = 200;
/** @type {Record<string, string>} */
const BUYS = {
  weakness: "where the model errs most",
  random: "a seeded draw, the one to beat",
  top: "the farthest out on every axis",
  d_optimal: "spread over all axes at once",
  k_center: "no row of the pool far from a pick",
  facility_location: "one typical row for every crowd",
  category: "equal shares of all categories",
  text_diversity: "texts as unlike as can be",
  influence: "gradients like the probe's",
};

/** @param {Send} send */
function selectView(send) {
  const strategy = chooser("Strategy", () => explain());
  strategy.node.classList.add("mn-strategy");
  const budget = h("input", { type: "number", class: "mn-budget mn-field", min: 1, step: 1, value: FIRST_BUDGET, "aria-label": "Budget" });
  const unit = chooser("Unit of the budget", () => {});
  const name = h("input", { type: "text", class: "mn-name-field mn-field", "aria-label": "Name of the selection", spellcheck: "false", autocomplete: "off" });
  const buys = h("p", { class: "mn-said" });
  const run = doing("mn-select-run", "Select", () => {
    if (!Number.isInteger(Number(budget.value)) || Number(budget.value) < 1) return budget.reportValidity?.();
    start("Selecting…");
    send({ type: "select", strategy: strategy.node.value, budget: Number(budget.value), unit: unit.node.value, name: name.value.trim() });
  });
  const progress = progressLine(send, "the selection");

  const size = h("p", { class: "mn-size" });
  const how = h("p", { class: "mn-said" });
  const notes = h("ul", { class: "mn-notes-list" });
  const figure = figurePlace();
  const overlap = h("ul", { class: "mn-overlap" });
  const first = h("ol", { class: "mn-first" });
  const overlapPart = h("div", { hidden: true }, h("h5", {}, "Rows in common with"), overlap);
  const firstPart = h("div", {}, h("h5", {}, "The first rows, and why"), first);
  const result = h("div", { class: "mn-result", hidden: true }, size, how, notes, figure.node, overlapPart, firstPart);

  const format = chooser("Format of the export", () => {});
  format.node.classList.add("mn-format");
  const exportRun = doing("mn-export-run mn-second", "Export", () => {
    start("Exporting…");
    send({ type: "export", selection: selected, format: format.node.value });
  });
  const verdict = h("div", { class: "mn-verdict", "aria-live": "polite" });
  const line = copyLine();
  line.node.classList.add("mn-lines");
  const { node } = panel(
    "select",
    "Select examples to train on",
    false,
    h("div", { class: "mn-fields" }, h("label", {}, "strategy", strategy.node), h("label", {}, "budget", budget), h("label", {}, "in", unit.node), h("label", { class: "mn-wide" }, "name", name), run),
    buys,
    progress.node,
    result,
    h("div", { class: "mn-row mn-export" }, h("label", {}, "for", format.node), exportRun),
    verdict,
    line.node,
  );

  let busy = false;
  let selected = "";
  /** @type {string[]} */
  let there = [];
  const explain = () => {
    const kind = strategy.node.value;
    const wanted = name.value.trim() || kind;
    name.placeholder = kind;
    const again = there.includes(wanted) ? ` Takes the place of “${wanted}”.` : "";
    buys.textContent = `${BUYS[kind] ? `Buys ${BUYS[kind]}.` : ""}${again}`;
  };
  name.addEventListener("input", explain);
  const showButtons = () => {
    run.disabled = busy;
    exportRun.disabled = busy || !selected;
    exportRun.title = selected ? "" : "select first";
    if (!busy) [run.textContent, exportRun.textContent] = ["Select", "Export"];
    result.classList.toggle("mn-busy", busy);
    result.setAttribute("aria-busy", String(busy));
  };
  const start = (/** @type {string} */ word) => {
    busy = true;
    (word.startsWith("S") ? run : exportRun).textContent = word;
    progress.show(true);
    showButtons();
  };
  showButtons();

  /** @param {Chosen} now */
  const showResult = (now) => {
    const tokens = `${whole(now.n_tokens)} response tokens`;
    size.replaceChildren(h("b", {}, `${whole(now.n_rows)} rows`), `, ${tokens}, kept as `, h("b", {}, h("bdi", {}, selected)));
    how.textContent = now.how;
    notes.hidden = !now.notes.length;
    notes.replaceChildren(...now.notes.map((note) => h("li", {}, note)));
    figure.show(now.figure);
    overlapPart.hidden = !now.overlap.length;
    overlap.replaceChildren(...now.overlap.map(overlapItem));
    firstPart.hidden = !now.first.length;
    first.replaceChildren(...now.first.map(firstItem));
  };
  return {
    node,
    /** @param {any} setting */
    set(setting) {
      const keep = (/** @type {HTMLSelectElement} */ at, /** @type {string[]} */ names) => (names.includes(at.value) ? at.value : (names[0] ?? ""));
      for (const [choice, names] of /** @type {[ReturnType<typeof chooser>, string[]][]} */ ([[strategy, setting.strategies], [unit, setting.units], [format, setting.formats]]))
        choice.show(names, keep(choice.node, names));
      there = setting.selections;
      explain();
    },
    about() {},
    /** @param {Chosen} now */
    show(now) {
      busy = Boolean(now.busy);
      progress.show(busy, now.progress);
      if (now.name) {
        selected = now.name;
        result.hidden = false;
        showResult(now);
        verdict.replaceChildren(...verdictParts(now));
        line.show(now.python.join("\n"));
      }
      showButtons();
    },
    refused() {
      busy = false;
      progress.show(false);
      showButtons();
    },
  };
}

/** @param {{ name: string, n: number, shared: number, jaccard: number, chance: number }} other */
const overlapItem = (other) =>
  h(
    "li",
    { title: `${other.shared} rows in both; in both, of those in either: ${percent(other.jaccard)}; two random draws of these sizes: ${percent(other.chance)}` },
    h("bdi", { class: "mn-other" }, other.name),
    h(
      "span",
      { class: "mn-gauge", "aria-hidden": "true" },
      h("span", { style: `width:${100 * other.jaccard}%` }),
      h("i", { style: `left:${100 * other.chance}%` }),
    ),
    h("span", {}, `${whole(other.shared)} rows, ${percent(other.jaccard)}`),
    h("span", { class: "mn-chance-said" }, `chance ${percent(other.chance)}`),
  );

/** @param {{ row: number, id: string, category: string | null, prompt: string, why: string }} example */
const firstItem = (example) =>
  h(
    "li",
    { class: "mn-picked", "data-row": example.row },
    h("div", { class: "mn-example-head" }, h("span", { class: "mn-category" }, example.category ?? "no category"), h("span", { class: "mn-id", title: example.id }, example.id)),
    h("p", { class: "mn-picked-text", dir: "auto" }, example.prompt),
    h("p", { class: "mn-picked-why" }, example.why),
  );

/** @param {Chosen} now */
function verdictParts(now) {
  if (now.problems === null || !now.exported) return [];
  const well = now.problems === 0;
  const n = `${whole(now.problems)} ${now.problems === 1 ? "finding" : "findings"}`;
  const path = copyLine();
  path.show(now.exported);
  path.node.classList.add("mn-path");
  return [
    h(
      "p",
      { class: well ? "mn-passes" : "mn-fails" },
      well ? `✓ preflight passed: a ${now.format} trainer takes every row whole` : `! preflight: ${n} for ${now.format}`,
    ),
    h("p", { class: "mn-said" }, `Checked by ${now.checked}.`),
    now.rules.length
      ? h("ul", { class: "mn-rules" }, ...now.rules.map((found) => h("li", {}, h("b", {}, found.row === null ? "folder" : `row ${found.row}`), ` ${found.rule}: ${found.message}`)))
      : null,
    path.node,
  ].filter((part) => part !== null);
}
