// The list of axes.

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
