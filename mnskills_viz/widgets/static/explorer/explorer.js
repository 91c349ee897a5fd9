// The whole: what the kernel says is shown is drawn, and what a person does is sent back.

const SEARCH_AFTER = 180;
const SIGN_AFTER = 200; // what takes longer than this gets a sign
const KEYS = "j, k next and previous axis · / search · Esc back to the list";

let views = 0;

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  const prefix = `mn-${++views}`;
  /** @type {Send} */
  const send = (message) => model.send(message);
  let wanted = model.get("card").axis; // the axis that was asked for last
  let sign = 0;

  const saveStatus = h("span", { class: "mn-save-status", role: "status" });
  const saving = saver(send, saveStatus);
  const status = h("div", { class: "mn-status", role: "status", "aria-live": "polite" });

  const choose = (/** @type {number} */ axis) => {
    if (axis === wanted) return;
    saving.flushAll(); // before the card goes
    wanted = axis;
    list.select(axis);
    clearTimeout(sign);
    sign = setTimeout(() => root.classList.add("mn-waiting"), SIGN_AFTER);
    send({ type: "axis", axis });
  };
  const list = axisList(prefix, choose);
  const steer = steerView(send);
  const card = cardView({ previous: () => list.move(-1), next: () => list.move(1), send, use: steer.use }, saving);

  const ask = () => {
    clearTimeout(typing);
    send({ type: "list", sort: sort.node.value, only: only.node.value, query: search.value });
  };
  let typing = 0;
  const basis = chooser("Basis", (name) => {
    saving.flushAll();
    send({ type: "basis", basis: name });
  });
  const sort = chooser("Sort the axes by", ask);
  const only = chooser("Show which axes", ask);
  const search = h("input", { type: "search", class: "mn-search", placeholder: "search labels and examples  ( / )", "aria-label": "Search labels and examples" });
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(ask, SEARCH_AFTER);
  });

  const act = (/** @type {string} */ kind, /** @type {string} */ text, /** @type {string} */ label) =>
    h(
      "button",
      {
        type: "button",
        class: `mn-${kind} mn-icon`,
        "aria-label": label,
        title: label,
        onclick: () => {
          saving.flushAll();
          send({ type: kind });
        },
      },
      text,
    );

  const hides = h("style"); // while this view lives, its static twin is out of sight
  const root = h(
    "div",
    { class: "mn-explorer", tabindex: "-1", "data-lm-suppress-shortcuts": "true", role: "group", "aria-label": "Axis explorer" },
    h(
      "header",
      { class: "mn-bar" },
      h("label", { class: "mn-basis" }, h("span", {}, "basis"), basis.node),
      search,
      h("span", { class: "mn-gap" }),
      saveStatus,
      act("undo", "↶", "Undo the last label or note"),
      act("redo", "↷", "Redo"),
      act("refresh", "↻", "Read the study again"),
    ),
    h(
      "div",
      { class: "mn-body" },
      h(
        "nav",
        { class: "mn-side", "aria-label": "Axes" },
        h("div", { class: "mn-order" }, h("label", {}, "sort ", sort.node), h("label", {}, "show ", only.node)),
        h("div", { class: "mn-legend", "aria-hidden": "true" }, h("span", {}, "axis, variance, utility against chance"), h("span", {}, "weakness")),
        list.node,
        list.none,
      ),
      card.node,
      steer.node,
    ),
    status,
    hides,
  );

  root.addEventListener("keydown", (/** @type {any} */ event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const writes = event.target.matches('textarea, select, input:not([type="range"])');
    if (event.key === "Escape" && writes) list.node.focus();
    else if (writes) return;
    else if (event.key === "j") list.move(1);
    else if (event.key === "k") list.move(-1);
    else if (event.key === "/") search.focus();
    else if (event.target === list.node && event.key in STEPS) list.move(STEPS[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  const showSetting = () => {
    const setting = model.get("setting");
    basis.show(setting.bases, setting.basis);
    sort.show(setting.sorts, setting.sort);
    only.show(setting.filters, setting.only);
    // The class comes from our own kernel, and only letters can leave the style sheet's selector.
    hides.textContent = `.${String(setting.fallback).replace(/[^\w-]/g, "")} { display: none }`;
    steer.set(setting);
  };
  const showCard = () => {
    const now = model.get("card");
    clearTimeout(sign);
    root.classList.remove("mn-waiting");
    wanted = now.axis;
    list.select(now.axis);
    card.show(now);
    steer.about(now);
  };
  const showStatus = () => {
    const { level = "info", text = "" } = model.get("status");
    status.className = `mn-status mn-status-${level}`;
    status.textContent = level === "error" ? `⚠ ${text}` : text || KEYS;
    if (level !== "error") return;
    clearTimeout(sign);
    root.classList.remove("mn-waiting");
    wanted = model.get("card").axis; // what was asked for did not come
    list.select(wanted);
    steer.refused(model.get("steering"));
  };
  const showList = () => list.show(model.get("axes"));
  const showSteering = () => steer.show(model.get("steering"));
  const receive = (/** @type {any} */ message) => {
    if (message.type === "saved" || message.type === "failed") saving.settled(message.seq, message.type === "saved");
    else if (message.type === "example") card.complete(message);
  };

  /** @type {[string, (value: any) => void][]} */
  const listeners = [
    ["change:setting", showSetting],
    ["change:axes", showList],
    ["change:card", showCard],
    ["change:steering", showSteering],
    ["change:status", showStatus],
    ["msg:custom", receive],
  ];
  for (const [event, listener] of listeners) model.on(event, listener);
  el.append(root);
  for (const show of [showSetting, showList, showCard, showSteering, showStatus]) show();

  return () => {
    saving.flushAll();
    for (const [event, listener] of listeners) model.off(event, listener);
  };
}

/** @type {Record<string, number>} */
const STEPS = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

export default { render };
