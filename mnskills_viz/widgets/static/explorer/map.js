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
  const scatter = h("div", { class: "mn-scatter", role: "img", "aria-label": "Map of all rows" });
  const hint = h("p", { class: "mn-hint" }, "Draw a lasso to see the rows inside; a double click takes it away.");
  const axes = h("span", { class: "mn-map-axes" }, h("label", {}, "→ ", x.node), h("label", {}, "↑ ", y.node));
  const node = h(
    "section",
    { class: "mn-map", "aria-label": "Map" },
    h("header", { class: "mn-map-head" }, h("h4", {}, "Map"), view.node, axes, h("label", {}, "colour ", colour.node), said),
    scatter,
    legend,
    hint,
  );
  node.hidden = true;
  let drawn = "";

  return {
    node,
    /** @param {Atlas} atlas @param {number} n_axes */
    show(atlas, n_axes) {
      if (!atlas.views) return;
      node.hidden = false;
      const numbers = Array.from({ length: n_axes }, (_, axis) => String(axis));
      x.show(numbers, String(atlas.x));
      y.show(numbers, String(atlas.y));
      colour.show(atlas.colours, atlas.colour);
      view.show(atlas.views, atlas.view);
      axes.hidden = atlas.view !== "axes";
      said.textContent =
        atlas.drawn < atlas.n
          ? `${whole(atlas.drawn)} of ${whole(atlas.n)} rows drawn over the density of all; a lasso takes all`
          : `${whole(atlas.n)} rows`;
      legend.replaceChildren(
        ...atlas.legend.map(({ name, colour: ink, symbol }) =>
          h("li", {}, h("span", { style: `color:${ink}`, "aria-hidden": "true" }, SHAPES[/** @type {keyof SHAPES} */ (symbol)] ?? "●"), name),
        ),
      );
    },
    /** Put the figure in; it is one widget, restyled from then on. @param {any} model */
    async figure(model) {
      const reference = String(model.get("map") ?? "");
      if (!reference || reference === drawn) return;
      drawn = reference;
      const child = await model.widget_manager.get_model(reference.replace("IPY_MODEL_", ""));
      const shown = await model.widget_manager.create_view(child, {});
      scatter.replaceChildren(shown.el);
      window.dispatchEvent(new Event("resize")); // plotly takes the width that it now has
    },
  };
}
