// The map: the plotly figure that the kernel sends, what it shows, and what its colours mean.

const SHAPES = {
  circle: "●",
  diamond: "◆",
  square: "■",
  "triangle-up": "▲",
  "triangle-down": "▼",
  cross: "✚",
  x: "✖",
  star: "★",
  hexagon: "⬢",
};

/** @param {Send} send */
function mapView(send) {
  const ask = () =>
    send({ type: "map", x: Number(x.node.value), y: Number(y.node.value), colour: colour.node.value, view: view.node.value });
  const x = chooser("Axis to the right", ask);
  const y = chooser("Axis upwards", ask);
  const colour = chooser("Colour of the points", ask);
  const view = chooser("What the map shows", ask);
  const said = h("span", { class: "mn-caption" });
  const legend = h("ul", { class: "mn-map-legend", "aria-label": "Meaning of the colours" });
  const scatter = h("div", { class: "mn-scatter", role: "group", "aria-label": "Map of all rows" });
  const hint = h("p", { class: "mn-hint" }, "Draw a lasso to see the rows inside; a double click takes it away.");
  const within = withinForm(send);
  const axes = h("span", { class: "mn-map-axes" }, h("label", {}, "→ ", x.node), h("label", {}, "↑ ", y.node));
  const node = h(
    "section",
    { class: "mn-map", "aria-label": "Map" },
    h("header", { class: "mn-map-head" }, h("h4", {}, "Map"), view.node, axes, h("label", {}, "colour ", colour.node), said),
    scatter,
    legend,
    hint,
    within.node,
  );
  node.hidden = true;
  let drawn = ""; // the figure that is shown, or on its way
  let caption = "";
  let trouble = ""; // why there is no figure
  /** @type {any} */
  let figure = null;

  const tell = () => {
    said.textContent = trouble || caption;
  };
  const drop = () => {
    figure?.remove?.();
    figure = null;
  };

  return {
    node,
    /** @param {Atlas} atlas @param {number} n_axes */
    show(atlas, n_axes) {
      node.hidden = !atlas.views; // one axis has no map
      if (!atlas.views) return;
      const numbers = Array.from({ length: n_axes }, (_, axis) => String(axis));
      x.show(numbers, String(atlas.x));
      y.show(numbers, String(atlas.y));
      colour.show(atlas.colours, atlas.colour);
      view.show(atlas.views, atlas.view);
      const plane = atlas.view === "axes";
      axes.hidden = !plane;
      within.about(plane ? [`axis ${atlas.x}`, `axis ${atlas.y}`] : ["the place to the right", "the place upwards"]);
      caption =
        atlas.drawn < atlas.n
          ? `${whole(atlas.drawn)} of ${whole(atlas.n)} rows drawn over the density of all; a lasso takes all`
          : `${whole(atlas.n)} rows`;
      tell();
      legend.replaceChildren(
        ...atlas.legend.map(({ name, colour: ink, symbol }) =>
          h("li", {}, h("span", { style: `color:${ink}`, "aria-hidden": "true" }, SHAPES[/** @type {keyof SHAPES} */ (symbol)] ?? "●"), name),
        ),
      );
    },
    /** Put the figure in; it is one widget, restyled from then on. @param {any} model */
    async figure(model) {
      const reference = String(model.get("map") ?? "");
      if (reference === drawn) return;
      drawn = reference;
      drop();
      if (!reference) return;
      try {
        const child = await model.widget_manager.get_model(reference.replace("IPY_MODEL_", ""));
        const made = await model.widget_manager.create_view(child, {});
        if (drawn !== reference) return made.remove?.(); // another one is wanted by now, or none
        figure = made;
        trouble = "";
        scatter.replaceChildren(made.el);
        // Once it is drawn, plotly takes the width that it has here.
        new MutationObserver((_, drawing) => {
          if (!scatter.querySelector(".main-svg")) return;
          drawing.disconnect();
          window.dispatchEvent(new Event("resize"));
        }).observe(scatter, { childList: true, subtree: true });
      } catch (error) {
        if (drawn !== reference) return;
        drawn = ""; // so that the next try is one
        trouble = `⚠ the map could not be drawn: ${error instanceof Error ? error.message : error}`;
      }
      tell();
    },
    /** This view of the explorer goes, and the figure's with it. */
    remove() {
      drawn = "";
      drop();
    },
  };
}

/**
 * A box on the map in numbers: what the lasso does, without a pointer.
 * @param {Send} send
 */
function withinForm(send) {
  const ENDS = ["from", "to"];
  const inputs = [0, 1].map(() =>
    ENDS.map((end) => h("input", { type: "number", class: "mn-field", step: "any", required: true, placeholder: end })),
  );
  const form = h(
    "form",
    { class: "mn-within-form" },
    ...["→", "↑"].map((arrow, i) => h("span", {}, h("span", { "aria-hidden": "true" }, arrow), ...inputs[i])),
    h("button", { class: "mn-toggle-button mn-within-show" }, "show rows"),
  );
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    const ranges = inputs.map((pair) => pair.map(({ value }) => Number(value)).sort((a, b) => a - b));
    send({ type: "box", low: ranges.map(([low]) => low), high: ranges.map(([, high]) => high) });
  });
  return {
    node: h("details", { class: "mn-within" }, h("summary", {}, "rows within"), form),
    /** @param {string[]} names of what lies to the right, and upwards */
    about(names) {
      inputs.forEach((pair, i) => pair.forEach((input, end) => input.setAttribute("aria-label", `${names[i]}, ${ENDS[end]}`)));
    },
  };
}
