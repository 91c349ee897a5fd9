// What goes with the axis: axes of other bases, and latents of dictionaries.

/** @param {Send} send */
function neighboursView(send) {
  const run = doing("mn-neighbours-run", "Find", () => {
    busy = true;
    progress.show(true);
    showButtons();
    send({ type: "neighbours" });
  });
  const progress = progressLine(send, "the search");
  const axes = h("div", { class: "mn-neighbour-axes" });
  const latents = h("div", { class: "mn-neighbour-latents" });
  const line = copyLine();
  const result = h("div", { class: "mn-result", hidden: true, "aria-live": "polite" }, axes, latents, line.node);
  const view = panel("neighbours", "Neighbours", true, h("div", { class: "mn-row" }, run, h("span", { class: "mn-said" }, "the most similar axes of other bases, and latents behind this one")), progress.node, result);
  let busy = false;
  let here = { basis: "", axis: -1 };
  /** @type {Neighbours | null} */
  let found = null;

  const showButtons = () => {
    run.disabled = busy;
    run.textContent = busy ? "Looking…" : "Find";
    result.classList.toggle("mn-busy", busy);
  };
  const go = (/** @type {string} */ basis, /** @type {number} */ axis) => {
    send({ type: "basis", basis });
    send({ type: "axis", axis });
  };
  const show = () => {
    const now = found && found.basis === here.basis && found.axis === here.axis ? found : null;
    result.hidden = !now;
    if (!now) return;
    axes.replaceChildren(
      now.axes.length
        ? similarTable(
            "Axes of other bases",
            ["axis", "cosine", "correlation"],
            now.axes.map((one) => [
              h("button", { type: "button", class: "mn-link", title: one.name, "aria-label": `Go to axis ${one.axis} of ${one.basis}`, onclick: () => go(one.basis, one.axis) }, h("bdi", {}, one.basis), ` ${one.axis}`, h("small", {}, one.name)),
              likeness(one.cosine),
              likeness(one.correlation),
            ]),
          )
        : h("p", { class: "mn-said" }, "The study has no other basis."),
    );
    latents.replaceChildren(
      now.latents.length
        ? similarTable(
            "Latents behind it",
            ["latent", "cosine", "share", "active"],
            now.latents.map((one) => [h("span", { title: latentTitle(one) }, h("bdi", {}, one.basis), ` ${one.latent}`), likeness(one.cosine), percent(one.share), percent(one.density)]),
          )
        : h("p", { class: "mn-said" }, "No basis at this layer has a dictionary."),
    );
    line.show(now.python);
  };
  showButtons();
  return {
    node: view.node,
    /** @param {any} _setting */
    set(_setting) {},
    /** @param {Card} card */
    about(card) {
      here = { basis: card.basis, axis: card.axis };
      show();
    },
    /** @param {Neighbours} now */
    show(now) {
      busy = Boolean(now.busy);
      if (now.axes && !busy) found = now;
      progress.show(busy, now.progress);
      showButtons();
      show();
    },
    refused() {
      busy = false;
      progress.show(false);
      showButtons();
    },
  };
}

/** @param {Neighbours["latents"][number]} one */
const latentTitle = (one) =>
  `${percent(one.share)} of the coordinate's variance comes through it; active in ${percent(one.density)} of rows${one.correlation === null ? "" : `, correlation ${signed(one.correlation, 2)}`}`;

/** A value from -1 to 1 with a bar from the middle. @param {number | null} value */
function likeness(value) {
  if (value === null) return h("span", { class: "mn-unknown", title: "of another layer: directions cannot be compared" }, "–");
  const half = 50 * Math.min(1, Math.abs(value));
  return h(
    "span",
    { class: "mn-likeness" },
    h("span", { class: "mn-from-middle", "aria-hidden": "true" }, h("span", { class: value < 0 ? "mn-ground-negative" : "mn-ground-positive", style: `left:${value < 0 ? 50 - half : 50}%;width:${half}%` })),
    signed(value, 2),
  );
}

/** @param {string} caption @param {string[]} head @param {(Node | string)[][]} rows */
const similarTable = (caption, head, rows) =>
  h(
    "table",
    { class: "mn-table" },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, ...head.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...rows.map(([first, ...rest]) => h("tr", {}, h("th", { scope: "row" }, first), ...rest.map((cell) => h("td", {}, cell))))),
  );
