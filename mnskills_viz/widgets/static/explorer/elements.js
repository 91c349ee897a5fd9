// Elements, numbers and small pieces that every part uses.

/** @type {Record<PoleName, { sign: string, word: string }>} */
const POLES = {
  negative: { sign: "−", word: "negative" },
  positive: { sign: "+", word: "positive" },
};
const GLYPH = { good: "✓ ", warn: "! ", plain: "" };

/**
 * @param {Element} node
 * @param {Record<string, any>} attributes `onclick` and the like are listeners
 * @param {(Node | string | null)[]} children strings become text
 */
function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** @param {string} name @param {Record<string, any>} [attributes] @param {(Node | string | null)[]} children @returns {any} */
const h = (name, attributes = {}, ...children) =>
  filled(document.createElement(name), attributes, children);

/** @param {string} name @param {Record<string, any>} [attributes] @param {(Node | string | null)[]} children */
const svg = (name, attributes = {}, ...children) =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

/** A select with a name for screen readers. @param {string} label @param {(value: string) => void} chosen */
function chooser(label, chosen) {
  const node = h("select", { "aria-label": label, title: label });
  node.addEventListener("change", () => chosen(node.value));
  return {
    node,
    /** @param {string[]} names @param {string} current */
    show(names, current) {
      node.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
      node.value = current;
    },
  };
}

/** A number with a true minus sign. @param {number} value @param {number} digits */
const fixed = (value, digits) => value.toFixed(digits).replace("-", "−");
/** @param {number} value @param {number} digits */
const signed = (value, digits) => (value > 0 ? "+" : "") + fixed(value, digits);
/** @param {number | null} value */
const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);
const UTILITY_UNIT = "10⁻³ nats/token";
/** A utility, in that unit. @param {number} nats */
const mnat = (nats) => signed(1000 * nats, 1);

/** @param {Utility} utility */
const utilityText = (utility) =>
  `${mnat(utility.value)} [${mnat(utility.low)}, ${mnat(utility.high)}]`;

/**
 * Utility and its interval, in units of what the best of as many random directions reaches:
 * the band is the same for every axis, and a dot outside it is a find.
 * @param {Utility} utility
 */
function forest(utility) {
  const [WIDTH, HEIGHT, REACH] = [60, 12, 2.2]; // px, px, in units of chance
  const place = (/** @type {number} */ units) =>
    (WIDTH / 2) * (1 + (0.95 * Math.max(-REACH, Math.min(REACH, units))) / REACH);
  const [low, dot, high] = [utility.low, utility.value, utility.high].map((nats) => place(nats / utility.chance));
  const [from, zero, to, middle] = [place(-1), place(0), place(1), HEIGHT / 2];
  const title = `utility ${utilityText(utility)} ${UTILITY_UNIT} for 1 σ of push; chance reaches ±${(1000 * utility.chance).toFixed(1)}`;
  return svg(
    "svg",
    { class: "mn-forest", width: WIDTH, height: HEIGHT, role: "img", "aria-label": title },
    svg("title", {}, title),
    svg("rect", { class: "mn-chance", x: from, width: to - from, y: 0, height: HEIGHT }),
    svg("line", { class: "mn-zero", x1: zero, x2: zero, y1: 0, y2: HEIGHT }),
    svg("line", { class: "mn-interval", x1: low, x2: high, y1: middle, y2: middle }),
    svg("circle", { class: utility.special ? "mn-special" : "mn-ordinary", cx: dot, cy: middle, r: 2.8 }),
  );
}

/** @param {Badge[]} badges */
const badgeRow = (badges) =>
  h(
    "span",
    { class: "mn-badges" },
    ...badges.map((badge) =>
      h("span", { class: `mn-badge mn-badge-${badge.kind}`, title: badge.explanation }, GLYPH[badge.kind] + badge.text),
    ),
  );
