// Examples: their texts, folded or whole, plain or with what each token adds.

const LINES = 2; // of a text that is folded up, and about how many characters
const FITS = 150; // of prompt and response can be seen without unfolding
const FOLDED = 600; // characters in tokens that are drawn of a folded text: more than its lines hold
const LEVELS = 8; // of colour
const NOT_READ = "not read: cut by max_length";
const TELLING = 0.99; // the colours reach so far that of a hundred tokens one goes beyond

/** A coordinate or a part of one. @param {number} z */
const sigmas = (z) => `${signed(z, Math.abs(z) < 0.005 && z !== 0 ? 3 : 2)} σ`;
/** @param {number} z @returns {PoleName} */
const poleOf = (z) => (z < 0 ? "negative" : "positive");

/**
 * Tokens that can be seen: a character cut over several tokens stands on the first of them, and
 * what the others add, which have no text, is painted there too.
 * @param {TokenValues} part
 */
function visibleTokens({ tokens, values }) {
  /** @type {TokenValues} */
  const seen = { tokens: [], values: [] };
  let early = 0;
  tokens.forEach((text, i) => {
    const last = seen.values.length - 1;
    if (text) {
      seen.tokens.push(text);
      seen.values.push(values[i] + early);
      early = 0;
    } else if (last >= 0) seen.values[last] += values[i];
    else early += values[i];
  });
  return seen.tokens.length || !tokens.length ? seen : { tokens: [""], values: [early] };
}

/**
 * What of a text the model did not read. The template may leave out blanks at its beginning.
 * @param {string} text @param {TokenValues} part
 */
function unread(text, { tokens }) {
  const read = tokens.join("");
  const at = text.indexOf(read);
  const rest = at < 0 ? "" : text.slice(at + read.length);
  return rest.trim() ? rest : "";
}

/** What tokens add, for the rows of one axis: all of them are painted on one scale. */
function heatScale() {
  const KEPT = 8; // axes
  /** @type {Map<string, Record<string, RowHeat | string>>} a string says why a row has none */
  const axes = new Map();
  let key = "";
  let reach = 1;
  const measure = () => {
    const sizes = Object.values(axes.get(key) ?? {})
      .flatMap((heat) => (typeof heat === "string" ? [] : [...heat.prompt.values, ...heat.response.values]))
      .map(Math.abs)
      .filter((size) => size > 0)
      .sort((a, b) => a - b);
    reach = sizes[Math.ceil(TELLING * sizes.length) - 1] || 1;
  };
  return {
    on: false,
    reach: () => reach,
    /** The axis that is shown. @param {string} basis @param {number} axis */
    about(basis, axis) {
      if (key === `${basis}/${axis}`) return;
      key = `${basis}/${axis}`;
      measure();
    },
    /** @param {HeatMessage} message */
    add({ basis, axis, rows, left_out }) {
      const name = `${basis}/${axis}`;
      const known = axes.get(name);
      axes.delete(name); // the newest comes last
      const seen = Object.entries(rows).map(([row, heat]) => [
        row,
        { ...heat, prompt: visibleTokens(heat.prompt), response: visibleTokens(heat.response) },
      ]);
      axes.set(name, { ...known, ...Object.fromEntries(seen), ...left_out });
      for (const oldest of [...axes.keys()].slice(0, -KEPT)) axes.delete(oldest);
      if (name === key) measure();
    },
    /** @param {number} row @returns {RowHeat | string | undefined} a string says why there is none */
    of: (row) => axes.get(key)?.[row],
  };
}

/** What the colours mean; hidden while there are none. */
function heatLegend() {
  const [low, high] = [h("span", {}), h("span", {})];
  const node = h("span", { class: "mn-heat-scale", hidden: true }, low, h("i", { "aria-hidden": "true" }), high);
  return {
    node,
    /** @param {ReturnType<typeof heatScale>} heat */
    show(heat) {
      node.hidden = !heat.on;
      low.textContent = fixed(-heat.reach(), 2);
      high.textContent = `+${fixed(heat.reach(), 2)} σ a token`;
    },
  };
}

/** @param {TokenValues} part @param {string} after what follows unread @param {number} reach of the scale @param {number} most characters */
function tokenSpans({ tokens, values }, after, reach, most) {
  const fragment = document.createDocumentFragment();
  let length = 0;
  for (let i = 0; i < tokens.length && length < most; length += tokens[i++].length) {
    const token = document.createElement("span");
    const level = Math.min(LEVELS, Math.round((LEVELS * Math.abs(values[i])) / reach));
    token.className = level ? `mn-token mn-${values[i] < 0 ? "minus" : "plus"} mn-level-${level}` : "mn-token";
    token.title = sigmas(values[i]);
    token.textContent = tokens[i];
    fragment.append(token);
  }
  if (after && length < most) fragment.append(h("span", { class: "mn-token mn-unread", title: NOT_READ }, after.slice(0, most - length)));
  return fragment;
}

/** The tokens that add or take away most, in words. @param {RowHeat} heat */
function strongest({ prompt, response }) {
  const tokens = [...prompt.tokens, ...response.tokens];
  const values = [...prompt.values, ...response.values];
  const order = values.map((_, i) => i).filter((i) => tokens[i].trim());
  order.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
  const said = order.slice(0, 2).map((i) => `“${tokens[i].trim()}” ${signed(values[i], 2)}`);
  return said.length ? `strongest ${said.join(", ")}` : "";
}

/**
 * What single tokens add: said of the one that is pointed at, clicked, or reached by arrow keys
 * where a text has the focus.
 * @param {HTMLElement} item
 * @param {Record<string, HTMLElement>} texts by name
 * @param {HTMLElement} said where
 */
function tokenReader(item, texts, said) {
  let rest = ""; // what is said of no token
  /** @type {any} */
  let picked = null;
  const say = (/** @type {any} */ token) => {
    const words = token ? wordsOf(token) : rest;
    if (said.textContent !== words) said.textContent = words;
  };
  const wordsOf = (/** @type {HTMLElement} */ token) => {
    if (token.title === NOT_READ) return NOT_READ;
    const text = token.textContent?.trim();
    return `${text ? `“${text}”` : "blank"} ${token.title}`;
  };
  const pick = (/** @type {Element | null} */ token) => {
    picked?.classList.remove("mn-token-at");
    picked = token;
    picked?.classList.add("mn-token-at");
    say(picked);
  };
  /** The token that a key leads to; of a text that is folded up, one that is seen. @param {HTMLElement} text @param {string} key */
  const reached = (text, key) => {
    const from = picked?.parentElement === text ? picked : null;
    const [first, last] = [text.firstElementChild, text.lastElementChild];
    let to = { Home: first, End: last, ArrowRight: from ? from.nextElementSibling : first, ArrowLeft: from ? from.previousElementSibling : last }[key];
    const end = text.getBoundingClientRect().bottom;
    while (to && to.getBoundingClientRect().top >= end) to = to.previousElementSibling;
    return to;
  };
  const at = (/** @type {any} */ event) => event.target.closest(".mn-token");
  item.addEventListener("pointerover", (event) => say(at(event) ?? picked));
  item.addEventListener("pointerleave", () => say(picked));
  for (const text of Object.values(texts)) {
    text.addEventListener("click", (event) => pick(at(event)));
    text.addEventListener("focus", () => said.setAttribute("aria-live", "polite")); // not before: all examples would speak
    text.addEventListener("blur", () => {
      said.removeAttribute("aria-live");
      pick(null);
    });
    text.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
      const to = reached(text, event.key);
      if (to === undefined) return; // not a key of ours
      if (to) pick(to);
      if (item.classList.contains("mn-open")) to?.scrollIntoView({ block: "nearest" }); // else it is in sight
      event.preventDefault();
      event.stopPropagation();
    });
  }
  return {
    /** The texts are drawn anew. @param {boolean} heated @param {string} words said of no token */
    drawn(heated, words) {
      rest = words;
      pick(null);
      for (const [name, text] of Object.entries(texts)) {
        const reads = { tabindex: "0", role: "group", "aria-label": `${name}, arrow keys go through its tokens` };
        for (const [attribute, value] of Object.entries(reads)) heated ? text.setAttribute(attribute, value) : text.removeAttribute(attribute);
      }
    },
  };
}

/**
 * @typedef {object} ItemDoes
 * @property {Send} send
 * @property {(prompt: string, row: number) => void} use
 * @property {(row: number) => void} apart
 * @property {(row: number | null) => void} [point]
 * @property {ReturnType<typeof heatScale>} heat
 */

/**
 * @param {Example} example
 * @param {ItemDoes} does
 * @param {{ pole?: PoleName, category?: boolean, limit?: number }} [how] whose colour it has; whether
 * it names its category; where the scale ends on which its place is drawn, if it is
 */
function exampleItem(example, does, how = {}) {
  const { pole = poleOf(example.z), category = true, limit } = how;
  const texts = { prompt: example.prompt, response: example.response };
  let open = false;
  let whole = !example.cut;
  let waitsForUse = false;
  const toggle = h("button", { type: "button", class: "mn-quiet mn-toggle" });
  const use = h("button", { type: "button", class: "mn-quiet mn-use", "aria-label": `Use ${example.id} as the prompt to steer` }, "use as prompt");
  const apart = h("button", { type: "button", class: "mn-quiet mn-use mn-take-apart", "aria-label": `Take ${example.id} apart as a skill` }, "take apart");
  const prompt = h("p", { class: "mn-text", dir: "auto" });
  const response = h("p", { class: "mn-text mn-response", dir: "auto" });
  const sums = h("span", { class: "mn-sums" });
  const token = h("span", { class: "mn-strongest" });
  const adds = h("p", { class: "mn-adds", hidden: true }, sums, token);
  const item = h(
    "li",
    { class: "mn-example", "data-row": example.row },
    h(
      "div",
      { class: "mn-example-head" },
      h("span", { class: `mn-z mn-tint-${pole}`, title: "coordinate, in standard deviations" }, signed(example.z, 2)),
      limit ? placeOnScale(example.z, limit) : null,
      category ? h("span", { class: "mn-category" }, example.category ?? "no category") : null,
      h("span", { class: "mn-id", title: example.split ? `${example.id}, ${example.split}` : example.id }, example.id),
      use,
      apart,
      toggle,
    ),
    prompt,
    example.response ? response : null,
    adds,
  );

  const reader = tokenReader(item, { Prompt: prompt, Response: response }, token);
  let drawn = "";
  let isCut = false; // there is more than its tokens say
  const draw = () => {
    const known = does.heat.on ? does.heat.of(example.row) : undefined;
    const parts = typeof known === "string" ? undefined : known;
    isCut = Boolean(parts?.cut);
    const after = parts?.cut ? [unread(texts.prompt, parts.prompt), unread(texts.response, parts.response)] : ["", ""];
    const now = JSON.stringify([does.heat.on, does.heat.reach(), open, parts ? after : texts, known]);
    if (now === drawn) return; // so that what is marked to be copied stays marked
    drawn = now;
    item.classList.toggle("mn-heated", Boolean(parts));
    adds.hidden = !does.heat.on;
    sums.removeAttribute("title");
    if (parts) {
      const most = open ? Infinity : FOLDED;
      prompt.replaceChildren(tokenSpans(parts.prompt, after[0], does.heat.reach(), most));
      response.replaceChildren(tokenSpans(parts.response, after[1], does.heat.reach(), most));
      const answer = example.response ? `, answer ${signed(parts.response.values.reduce((sum, z) => sum + z, 0), 2)}` : "";
      const asked = signed(parts.prompt.values.reduce((sum, z) => sum + z, 0), 2);
      sums.textContent = `prompt ${asked}${answer}, template ${signed(parts.rest, 2)}: together ${signed(parts.sum, 2)}\u00a0σ`;
    } else {
      prompt.textContent = texts.prompt;
      response.textContent = texts.response;
      sums.textContent = does.heat.on ? "reading tokens…" : "";
      if (typeof known === "string") {
        sums.textContent = `no heat: ${known.split(/ \(|;/)[0]}`;
        sums.title = known; // with what could be done
      }
    }
    reader.drawn(Boolean(parts), parts ? strongest(parts) : "");
  };
  const show = () => {
    item.classList.toggle("mn-open", open);
    toggle.textContent = open ? "less" : "more";
    toggle.setAttribute("aria-expanded", String(open));
    toggle.setAttribute("aria-label", `Show ${open ? "less" : "all"} of ${example.id}`);
  };
  const heated = () => item.classList.contains("mn-heated");
  toggle.addEventListener("click", () => {
    open = !open;
    if (open && !whole) does.send({ type: "example", row: example.row });
    show();
    if (heated()) draw();
  });
  use.addEventListener("click", () => {
    waitsForUse = !whole; // a prompt that was cut would be another prompt
    if (whole) does.use(texts.prompt, example.row);
    else does.send({ type: "example", row: example.row });
  });
  apart.addEventListener("click", () => does.apart(example.row));
  item.addEventListener("mouseenter", () => does.point?.(example.row));
  item.addEventListener("focusin", () => does.point?.(example.row));
  item.addEventListener("mouseleave", () => does.point?.(null));

  toggle.hidden = !(example.cut || example.response.split("\n").length > LINES || example.prompt.length + example.response.length > FITS);
  draw();
  show();
  return {
    item,
    row: example.row,
    draw,
    /** Whether there is more than is seen, as it is laid out; null where it is not. */
    folded() {
      if (open || (!whole && (!heated() || isCut))) return true;
      const texts = [prompt, response].filter((text) => text.isConnected);
      if (!prompt.clientHeight) return null;
      return texts.some((text) => text.scrollHeight > text.clientHeight + 1);
    },
    /** @param {boolean} more */
    offer(more) {
      toggle.hidden = !more;
    },
    /** The whole text has come. @param {{ prompt: string, response: string }} full */
    complete(full) {
      whole = true;
      Object.assign(texts, { prompt: full.prompt, response: full.response });
      draw();
      if (waitsForUse) does.use(texts.prompt, example.row);
      waitsForUse = false;
    },
  };
}

/** Where a coordinate lies between -limit and limit: a bar from zero. @param {number} z @param {number} limit */
function placeOnScale(z, limit) {
  const reach = Math.max(-1, Math.min(1, z / limit)) * 50;
  const bar = h("i", { class: `mn-at-${poleOf(z)}`, style: `left:${50 + Math.min(0, reach)}%;width:${Math.abs(reach)}%` });
  return h("span", { class: "mn-at", "aria-hidden": "true" }, bar);
}

/**
 * The items that are shown in one place.
 * @param {Element} place whose width they go by
 */
function exampleGroup(place) {
  /** @type {ReturnType<typeof exampleItem>[]} */
  let items = [];
  const fit = () => {
    const more = items.map((item) => item.folded()); // all reading comes before all writing
    items.forEach((item, i) => more[i] !== null && item.offer(Boolean(more[i])));
  };
  const later = () => requestAnimationFrame(fit);
  new ResizeObserver(later).observe(place);
  return {
    /** @param {ReturnType<typeof exampleItem>[]} now @param {Element[]} lists that they are new in */
    set(now, lists) {
      items = now;
      later();
      requestAnimationFrame(() => lists.forEach((list) => (list.scrollTop = 0))); // with the layout that comes anyway
    },
    draw() {
      for (const item of items) item.draw();
      later();
    },
    /** @param {{ row: number, prompt: string, response: string }} full */
    complete(full) {
      for (const item of items) if (item.row === full.row) item.complete(full);
      later();
    },
  };
}
