// The rows that brush, lasso or search found.

/** @param {{ send: Send, use: (prompt: string, row: number) => void, apart: (row: number) => void, point?: (row: number | null) => void }} does */
function foundView(does) {
  const heat = heatScale(); // the same messages make the same scale as the card's
  const heading = h("h4", {});
  const list = h("ol", { class: "mn-examples", "aria-label": "Rows found" });
  const place = h("span", { class: "mn-place", role: "status" });
  const python = copyLine();
  let page = 0;
  let drawn = "";
  let ofAxis = false; // the kernel says which axis the coordinates are of
  const turn = (/** @type {string} */ kind, /** @type {string} */ text, /** @type {string} */ label, /** @type {number} */ step) =>
    h("button", { type: "button", class: `mn-step mn-found-${kind}`, "aria-label": label, title: label, onclick: () => does.send({ type: "page", page: page + step }) }, text);
  const previous = turn("previous", "‹", "Previous page of rows", -1);
  const next = turn("next", "›", "Next page of rows", 1);
  const clear = h("button", { type: "button", class: "mn-quiet mn-found-clear", "aria-label": "Clear the rows found", onclick: () => does.send({ type: "clear" }) }, "clear");
  const node = h(
    "section",
    { class: "mn-found", "aria-label": "Rows found", hidden: true },
    h(
      "header",
      { class: "mn-found-head" },
      heading,
      h("div", { class: "mn-pages" }, place, previous, next),
      clear,
    ),
    list,
    python.node,
  );
  const group = exampleGroup(node);
  const acts = { ...does, heat };

  return {
    node,
    /** @param {Found} found */
    show(found) {
      node.hidden = !found.what;
      if (!found.what) return;
      page = found.page;
      heading.replaceChildren(`${whole(found.n)} ${found.n === 1 ? "row" : "rows"}`, h("small", {}, ` ${found.said}`));
      node.dataset.what = found.what;
      const { examples } = found;
      const from = page * found.per_page;
      place.textContent = examples.length ? `${whole(from + 1)} to ${whole(from + examples.length)} of ${whole(found.n)}` : "";
      for (const button of [previous, next]) button.hidden = found.pages < 2;
      previous.disabled = page <= 0;
      next.disabled = page >= found.pages - 1;
      python.show(found.python);
      ofAxis = found.basis !== undefined && found.axis !== undefined;
      if (ofAxis) heat.about(String(found.basis), Number(found.axis));
      const wanted = JSON.stringify([found.basis, found.axis, examples]);
      if (wanted === drawn) return;
      drawn = wanted;
      const items = examples.map((example) => exampleItem(example, acts));
      list.replaceChildren(...items.map(({ item }) => item));
      if (!items.length) list.append(h("li", { class: "mn-empty" }, "No row lies there."));
      group.set(items, [list]);
    },
    /** @param {{ row: number, prompt: string, response: string }} full */
    complete: (full) => group.complete(full),
    /** @param {HeatMessage} message */
    heat(message) {
      heat.add(message);
      if (!ofAxis) heat.about(message.basis, message.axis);
      if (heat.on) group.draw();
    },
    /** @param {{ heat?: boolean }} setting */
    setting(setting) {
      if (heat.on === Boolean(setting.heat)) return;
      heat.on = Boolean(setting.heat);
      group.draw();
    },
  };
}
