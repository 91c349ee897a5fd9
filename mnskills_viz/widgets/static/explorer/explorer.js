// The whole: what the kernel says is shown is drawn, and what a person does is sent back.

const SEARCH_AFTER = 180;
const SIGN_AFTER = 200; // what takes longer than this gets a sign
const NO_CHANGE_AFTER = 1000; // what does not follow the kernel's word by then was shown already
/** @type {Record<string, string>} what may take long -> the trait that answers it */
const ANSWERS = { axis: "card", basis: "card", examples: "card", list: "setting", search: "found" };
const KEYS = "j, k next and previous axis · / search · Esc back to the list";

let views = 0;

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  const prefix = `mn-${++views}`;
  let wanted = model.get("card").axis; // the axis that was asked for last
  let sign = 0;
  let unchanged = 0;
  let awaited = ""; // the trait that answers what was asked last

  const waits = (/** @type {string} */ answer) => {
    awaited = answer;
    clearTimeout(sign);
    clearTimeout(unchanged);
    sign = setTimeout(() => root.classList.add("mn-waiting"), SIGN_AFTER);
  };
  const answered = () => {
    awaited = "";
    clearTimeout(sign);
    clearTimeout(unchanged);
    root.classList.remove("mn-waiting");
  };
  /** @type {Send} */
  const send = (message) => {
    const answer = ANSWERS[String(message.type)];
    const same = message.type === "axis" ? message.axis === wanted : message.type === "search" && !String(message.query).trim();
    if (answer && !same) waits(answer);
    model.send(message);
  };

  const saveStatus = h("span", { class: "mn-save-status", role: "status" });
  const saving = saver(send, saveStatus);
  const status = h("div", { class: "mn-status", role: "status", "aria-live": "polite" });
  const progress = progressBar("what the kernel does"); // not in what is read out: it changes all the time
  const python = copyLine();
  let heard = -1; // number of the last status

  const choose = (/** @type {number} */ axis) => {
    if (axis === wanted) return;
    saving.flushAll(); // before the card goes
    send({ type: "axis", axis });
    wanted = axis;
    list.select(axis);
  };
  const list = axisList(prefix, choose);
  const steer = steerView(send);
  const select = selectView(send);
  const skill = skillView(send);
  const quiz = quizView(send);
  const neighbours = neighboursView(send);
  const panels = [steer, select, skill, quiz, neighbours];
  const does = { send, use: steer.use, apart: skill.use, previous: () => list.move(-1), next: () => list.move(1) };
  const card = cardView(does, saving);
  const found = foundView(does);
  const map = mapView(send);
  const main = h("div", { class: "mn-main" }, card.node, found.node, map.node);

  let typing = 0;
  let searched = "";
  const ask = () => {
    clearTimeout(typing);
    send({ type: "list", sort: sort.node.value, only: only.node.value, query: search.value });
    if (search.value !== searched) send({ type: "search", query: search.value });
    searched = search.value;
  };
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
      main,
      h("aside", { class: "mn-panels", "aria-label": "What to do with the axis" }, ...panels.map((panel) => panel.node)),
    ),
    h("footer", { class: "mn-foot" }, status, progress.node, python.node),
    hides,
  );

  // JupyterLab's keys look at the focused element itself: without this, "x" would cut the cell.
  root.addEventListener("focusin", (/** @type {any} */ event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
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
    if (document.activeElement !== search && search.value !== setting.query) {
      search.value = setting.query;
      searched = setting.query;
    }
    // The class comes from our own kernel, and only letters can leave the style sheet's selector.
    hides.textContent = `.${String(setting.fallback).replace(/[^\w-]/g, "")} { display: none }`;
    card.setting(setting);
    found.setting(setting);
    list.judging(Boolean(setting.judging));
    for (const panel of panels) panel.set(setting);
  };
  const showCard = () => {
    const now = model.get("card");
    wanted = now.axis;
    list.select(now.axis);
    const held = card.node.contains(document.activeElement);
    card.show(now);
    if (held && !card.node.contains(document.activeElement)) list.node.focus({ preventScroll: true }); // what had it is gone
    for (const panel of panels) panel.about(now);
  };
  const showFound = () => {
    const now = model.get("found");
    // Below what it was picked on, which does not move then; a search's rows above the map.
    if (now.what === "range") card.node.querySelector(".mn-histogram")?.after(found.node);
    else if (now.what === "lasso") map.node.after(found.node);
    else if (now.what) main.insertBefore(found.node, map.node);
    found.show(now);
    card.found(now);
  };
  const showStatus = () => {
    const { level = "info", text = "", python: line = "", progress: done = null, n = 0 } = model.get("status");
    progress.node.hidden = !done;
    if (done) progress.show(done);
    if (n === heard) return; // the same goes on
    heard = n;
    status.className = `mn-status mn-status-${level}`;
    const said = level === "error" ? `⚠ ${text}` : text || KEYS;
    if (status.textContent !== said) status.textContent = said; // or it is read out again
    python.show(line);
    if (level !== "error" && awaited) {
      clearTimeout(unchanged);
      unchanged = setTimeout(answered, NO_CHANGE_AFTER);
    }
    if (level !== "error") return;
    answered();
    wanted = model.get("card").axis; // what was asked for did not come
    list.select(wanted);
    for (const panel of panels) panel.refused();
    showPanels();
  };
  /** @type {Record<string, () => void>} */
  const shows = {
    axes: () => list.show(model.get("axes")),
    setting: showSetting,
    card: showCard,
    found: showFound,
    atlas: () => map.show(model.get("atlas"), model.get("setting").n_axes),
    map: () => map.figure(model),
    steering: () => steer.show(model.get("steering")),
    doses: () => steer.showDoses(model.get("doses")),
    selection: () => select.show(model.get("selection")),
    skill: () => skill.show(model.get("skill")),
    quiz: () => quiz.show(model.get("quiz")),
    neighbours: () => neighbours.show(model.get("neighbours")),
    suggestions: () => card.suggest(model.get("suggestions")),
    status: showStatus,
  };
  const showPanels = () => {
    for (const name of ["steering", "doses", "selection", "skill", "quiz", "neighbours", "suggestions"]) shows[name]();
  };
  const receive = (/** @type {any} */ message) => {
    if (message.type === "saved" || message.type === "failed") saving.settled(message.seq, message.type === "saved");
    else if (message.type === "example") [card, found].forEach((part) => part.complete(message));
    else if (message.type === "heat") [card, found].forEach((part) => part.heat(message));
  };

  /** @type {[string, (value: any) => void][]} */
  const listeners = Object.entries(shows).map(([name, show]) => [
    `change:${name}`,
    () => {
      if (name === awaited) answered();
      show();
    },
  ]);
  listeners.push(["msg:custom", receive]);
  for (const [event, listener] of listeners) model.on(event, listener);
  el.append(root);
  for (const show of Object.values(shows)) show();
  // The map's script is large: what is seen first does not wait for it.
  requestAnimationFrame(() => setTimeout(() => send({ type: "ready" })));

  return () => {
    saving.flushAll();
    for (const [event, listener] of listeners) model.off(event, listener);
    map.remove();
  };
}

/** @type {Record<string, number>} */
const STEPS = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

export default { render };
