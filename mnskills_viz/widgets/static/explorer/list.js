// The list of axes.

/** @type {Record<string, [string, string]>} */
const STATE_MARKS = { draft: ["○", "a draft"], confirmed: ["✓", "confirmed"] };

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
    h("span", { class: `mn-sign mn-tint-${pole}`, role: "img", "aria-label": `${POLES[pole].word} pole` }, POLES[pole].sign),
    name,
    weakness && h("span", { class: "mn-weak", title: "weakness: the model's error at this pole" }, weakness),
  );
}

/** What a person thinks of the labels, as a sign. @param {string} state */
function stateMark(state) {
  if (!(state in STATE_MARKS)) return null;
  const [sign, words] = STATE_MARKS[state];
  const title = `the labels are ${words}`;
  return h("span", { class: `mn-state mn-state-${state}`, role: "img", "aria-label": title, title }, sign);
}

/** @param {Entry} entry @param {string} id */
const axisOption = (entry, id) =>
  h(
    "li",
    { role: "option", id, "data-axis": entry.axis, "aria-selected": "false" },
    h("span", { class: "mn-number" }, String(entry.axis), stateMark(entry.state)),
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
  const none = h("p", { class: "mn-none", hidden: true });
  /** @type {Map<number, { said: string, option: HTMLElement }>} by axis, in the order shown */
  let shown = new Map();
  let selected = -1;
  /** @type {HTMLElement | undefined} */
  let marked;

  node.addEventListener("click", (/** @type {any} */ event) => {
    const option = event.target.closest("[data-axis]");
    if (option) chosen(Number(option.dataset.axis));
  });

  /** Not scrollIntoView: that would scroll the notebook as well. */
  const scroll = () => {
    if (!marked) return;
    const [top, height] = [marked.offsetTop - node.offsetTop, marked.offsetHeight];
    if (top < node.scrollTop) node.scrollTop = top;
    else if (top + height > node.scrollTop + node.clientHeight)
      node.scrollTop = top + height - node.clientHeight;
  };
  const mark = () => {
    const option = shown.get(selected)?.option;
    if (option !== marked) marked?.setAttribute("aria-selected", "false");
    marked = option;
    marked?.setAttribute("aria-selected", "true");
    if (marked) node.setAttribute("aria-activedescendant", marked.id);
    else node.removeAttribute("aria-activedescendant");
  };
  return {
    node,
    none,
    /** Whether more is to be said of the axes soon; the signs of it are in the style sheet. @param {boolean} is */
    judging(is) {
      node.classList.toggle("mn-judging", is);
      none.textContent = is ? "No axis matches yet: judging axes…" : "No axis matches.";
    },
    /** A saved label changes one entry: the others stay as they are. @param {Entry[]} entries */
    show(entries) {
      const before = shown;
      const order = [...before.keys()];
      const moved = entries.length !== order.length || entries.some(({ axis }, i) => axis !== order[i]);
      shown = new Map(
        entries.map((entry) => {
          const said = JSON.stringify(entry);
          const known = before.get(entry.axis);
          if (known?.said === said) return [entry.axis, known];
          const option = axisOption(entry, `${prefix}-axis-${entry.axis}`);
          if (!moved) known?.option.replaceWith(option);
          return [entry.axis, { said, option }];
        }),
      );
      if (moved) node.replaceChildren(...[...shown.values()].map(({ option }) => option));
      none.hidden = entries.length > 0;
      mark();
      if (moved) requestAnimationFrame(scroll); // with the layout that comes anyway
    },
    /** @param {number} axis */
    select(axis) {
      if (axis === selected) return;
      selected = axis;
      mark();
      requestAnimationFrame(scroll);
    },
    /** Go `step` axes on in the list, or to its first or last. @param {number} step */
    move(step) {
      const axes = [...shown.keys()];
      if (!axes.length) return;
      const at = axes.indexOf(selected);
      const to = at < 0 ? 0 : Math.max(0, Math.min(axes.length - 1, at + step));
      chosen(axes[to]);
    },
  };
}
