// Pushing along the axis: prompt and dose, both texts, what doses do. And pieces of every panel.

const LARGEST_DOSE = 8;
const FIRST_DOSE = 2;

// ------------------------------------------------------------------------- pieces of panels

/**
 * A figure that our own Python drew, which escapes what is put in it. No other text enters so.
 * @param {string} markup
 */
function drawing(markup) {
  const node = h("div", { class: "mn-drawing" });
  const parsed = new DOMParser().parseFromString(markup, "text/html");
  node.append(...[...parsed.body.childNodes].map((child) => document.adoptNode(child)));
  return node;
}

/** A place for a figure; the same one is not drawn twice. */
function figurePlace() {
  const node = h("div", { class: "mn-figure-place", hidden: true });
  let shown = "";
  return {
    node,
    /** @param {string} markup */
    show(markup) {
      node.hidden = !markup;
      if (markup !== shown) node.replaceChildren(...(markup ? [drawing(markup)] : []));
      shown = markup;
    },
  };
}

/** How far something is. @param {string} name what runs @param {(Node | null)[]} more that belongs beside it */
function progressBar(name, ...more) {
  const bar = h("progress", { "aria-label": `How far ${name} is` });
  const said = h("span", { class: "mn-progress-said" });
  return {
    node: h("div", { class: "mn-progress", hidden: true }, bar, said, ...more),
    /** @param {Progress | null | undefined} progress */
    show(progress) {
      const known = progress && progress.total > 0 ? progress : null;
      if (known) {
        bar.max = known.total;
        bar.value = known.done;
        said.textContent = `${Math.floor((100 * known.done) / known.total)} %${timeLeft(known.left)}`;
      } else {
        bar.removeAttribute("value"); // it moves to and fro
        said.textContent = progress && progress.done ? `pass ${progress.done}` : "";
      }
    },
  };
}

/**
 * How far a run is, with a button that stops it.
 * @param {Send} send @param {string} name what runs
 */
function progressLine(send, name) {
  const stop = h("button", { type: "button", class: "mn-stop" });
  stop.addEventListener("click", () => {
    send({ type: "stop" });
    stopping(true);
  });
  const stopping = (/** @type {boolean} */ is) => {
    stop.disabled = is; // it may take as long as one step of the run
    stop.textContent = is ? "stopping…" : "Stop";
    stop.setAttribute("aria-label", is ? `stopping… ${name}` : `Stop ${name}`);
  };
  stopping(false);
  const { node, show } = progressBar(name, stop);
  return {
    node,
    /** @param {boolean} busy @param {Progress | null | undefined} [progress] */
    show(busy, progress) {
      node.hidden = !busy;
      if (!busy) stopping(false);
      show(progress);
    },
  };
}

/** @param {number | null | undefined} seconds */
const timeLeft = (seconds) => {
  if (!seconds || !Number.isFinite(seconds)) return "";
  return seconds < 90 ? `, ${Math.ceil(seconds)} s left` : `, ${Math.round(seconds / 60)} min left`;
};

/**
 * A panel with its heading; one that folds is closed at first.
 * @param {string} name class, and part of ids @param {string} title @param {boolean} folds @param {(Node | null)[]} children
 */
function panel(name, title, folds, ...children) {
  const heading = h("h4", {}, title);
  const body = h("div", { class: "mn-panel-body" }, ...children);
  const details = folds ? h("details", {}, h("summary", {}, heading), body) : null;
  const node = h("section", { class: `mn-panel mn-${name}`, "aria-label": title }, ...(details ? [details] : [heading, body]));
  return {
    node,
    heading,
    open() {
      if (details) details.open = true;
    },
  };
}

/** @param {string} kind its class @param {string} text @param {() => void} act @param {Record<string, any>} [more] */
const doing = (kind, text, act, more = {}) =>
  h("button", { type: "button", class: `${kind} mn-act`, onclick: act, ...more }, text);

/** @param {Card} card @param {PoleName} pole */
const poleText = (card, pole) => card[pole].label || (card[pole].hint ? `unnamed · ${card[pole].hint}` : "unnamed");

/**
 * A text in pieces, with those marked that the other one does not have.
 * @param {Piece[]} pieces @param {string} kind
 */
const marked = (pieces, kind) =>
  pieces.map(([own, text]) => (own ? h("mark", { class: `mn-own mn-own-${kind}` }, text) : text));

// ---------------------------------------------------------------------------------- the dose

/** The dose, with the safe band on its track. */
function doseSlider() {
  const input = h("input", { type: "range", class: "mn-dose", min: -LARGEST_DOSE, max: LARGEST_DOSE, step: 0.5, value: FIRST_DOSE, "aria-label": "Dose in standard deviations" });
  const safe = h("span", { class: "mn-safe", hidden: true });
  const bandName = h("span", { class: "mn-band-name" });
  const number = h("output", { class: "mn-dose-number" });
  const beyond = h("span", { class: "mn-beyond", role: "status" });
  /** @type {Record<string, HTMLElement>} */
  const ends = { negative: h("span", { class: "mn-end mn-tint-negative" }), positive: h("span", { class: "mn-end mn-tint-positive" }) };
  const node = h(
    "div",
    { class: "mn-slider" },
    h("div", { class: "mn-track" }, safe, h("span", { class: "mn-track-zero" }), input),
    h("div", { class: "mn-band-row" }, bandName),
    h("div", { class: "mn-ends", "aria-hidden": "true" }, ends.negative, ends.positive),
  );
  /** @type {[number, number] | null} */
  let band = null;
  const share = (/** @type {number} */ dose) => Math.max(0, Math.min(1, (dose + LARGEST_DOSE) / (2 * LARGEST_DOSE)));
  const show = () => {
    const value = Number(input.value);
    const out = band !== null && band[0] < band[1] && (value < band[0] || value > band[1]);
    number.textContent = `${signed(value, 1)} σ`;
    number.className = `mn-dose-number ${value < 0 ? "mn-tint-negative" : value > 0 ? "mn-tint-positive" : ""}`;
    beyond.textContent = out ? "! beyond the safe band" : "";
    input.setAttribute("aria-valuetext", `${signed(value, 1)} standard deviations${out ? ", beyond the safe band" : ""}`);
  };
  input.addEventListener("input", show);
  show();
  return {
    node,
    number,
    beyond,
    value: () => Number(input.value),
    /** @param {Card} card */
    about(card) {
      ends.negative.textContent = `− ${poleText(card, "negative")}`;
      ends.positive.textContent = `${poleText(card, "positive")} +`;
      for (const pole of ["negative", "positive"]) ends[pole].title = ends[pole].textContent ?? "";
    },
    /** @param {[number, number] | null} now */
    showBand(now) {
      band = now;
      const none = band !== null && band[0] === band[1];
      safe.hidden = !band || none;
      bandName.hidden = !band;
      bandName.classList.toggle("mn-none-safe", none);
      if (band && !none) {
        const [low, high] = band.map(share);
        // The middle of the thumb does not reach the ends of the track.
        safe.style.left = `calc(8px + (100% - 16px) * ${low})`;
        safe.style.width = `calc((100% - 16px) * ${high - low})`;
        bandName.style.left = `${100 * Math.max(0.22, Math.min(0.78, (low + high) / 2))}%`;
        bandName.textContent = `safe ${signed(band[0], 1)} to ${signed(band[1], 1)} σ`;
      } else if (band) {
        bandName.style.left = "50%";
        bandName.textContent = "no measured dose is safe";
      }
      show();
    },
  };
}

// --------------------------------------------------------------------------------- the panel

/** @param {Send} send */
function steerView(send) {
  const prompt = h("textarea", { class: "mn-prompt", rows: 3, "aria-label": "Prompt to steer", placeholder: "a prompt for the model" });
  const dose = doseSlider();
  const run = doing("mn-steer-run", "Run", () => {
    busy = true;
    progress.show(true);
    showButtons();
    send({ type: "steer", prompt: prompt.value, row: from, dose: dose.value() });
  });
  /** @type {number | null} */
  let from = null; // the row whose prompt stands in the field
  const fromSaid = h("p", { class: "mn-said mn-prompt-from" });
  const comesFrom = (/** @type {number | null} */ row) => {
    from = row;
    fromSaid.textContent = row === null ? "" : `row ${row}, as it stands`;
  };
  prompt.addEventListener("input", () => comesFrom(null));
  const why = h("p", { class: "mn-why", hidden: true });
  const progress = progressLine(send, "steering");
  const base = h("div", { class: "mn-output-base mn-output", dir: "auto", "data-empty": "what the model says" });
  const steered = h("div", { class: "mn-output-steered mn-output", dir: "auto", "data-empty": "and what it says when pushed" });
  const steeredTitle = h("h5", {}, "Steered");
  const outputs = h("div", { class: "mn-outputs", "aria-live": "polite" }, h("div", {}, h("h5", {}, "Unsteered"), base), h("div", {}, steeredTitle, steered));
  const said = h("p", { class: "mn-said" });
  const line = copyLine();

  const measure = doing("mn-doses-run mn-second", "Measure doses", () => {
    measuring = true;
    dosesProgress.show(true);
    showButtons();
    send({ type: "doses" });
  });
  const dosesSaid = h("span", { class: "mn-said" });
  const dosesProgress = progressLine(send, "the measurement of doses");
  const curve = figurePlace();
  const dosesLine = copyLine();

  const { node, heading } = panel(
    "steer",
    "Steer",
    false,
    prompt,
    fromSaid,
    h("div", { class: "mn-controls" }, dose.node, h("div", { class: "mn-run-row" }, dose.number, dose.beyond, run)),
    why,
    progress.node,
    outputs,
    said,
    line.node,
    h("div", { class: "mn-doses" }, h("div", { class: "mn-row" }, measure, dosesSaid), dosesProgress.node, curve.node, dosesLine.node),
  );
  let steerable = true;
  let isFirst = true; // nothing was proposed yet
  let busy = false;
  let measuring = false;
  let here = { basis: "", axis: -1 };
  /** @type {Doses | null} */
  let doses = null;

  const showButtons = () => {
    run.disabled = busy || measuring || !steerable;
    run.textContent = busy ? "Running…" : "Run";
    measure.disabled = busy || measuring || !steerable;
    measure.textContent = measuring ? "Measuring…" : "Measure doses";
    outputs.classList.toggle("mn-busy", busy);
    outputs.setAttribute("aria-busy", String(busy));
  };
  /** What was measured belongs to one axis, and is shown beside no other. */
  const showDoses = () => {
    const own = doses && doses.basis === here.basis && doses.axis === here.axis ? doses : null;
    curve.show(own?.figure ?? "");
    dosesLine.show(own && own.figure ? own.python : "");
    dose.showBand(own?.band ?? null);
    dosesSaid.textContent = own?.figure ? "" : "how far a push is safe";
  };
  showButtons();
  return {
    node,
    /** Take a row's prompt over; it is steered as the chat that it is until it is edited. @param {string} text @param {number} row */
    use(text, row) {
      prompt.value = text;
      comesFrom(row);
      prompt.focus();
    },
    /** @param {any} setting */
    set(setting) {
      steerable = setting.steerable;
      if (isFirst) {
        prompt.value = setting.prompt;
        comesFrom(setting.prompt ? setting.prompt_row : null);
      }
      isFirst = false;
      why.hidden = steerable;
      why.textContent = "This basis does not say which layer it is of, and cannot be steered.";
      showButtons();
    },
    /** @param {Card} card */
    about(card) {
      here = { basis: card.basis, axis: card.axis };
      heading.textContent = `Steer along axis ${card.axis}`;
      dose.about(card);
      showDoses();
    },
    /** @param {Steering} last */
    show(last) {
      busy = Boolean(last.busy);
      progress.show(busy, last.progress);
      showButtons();
      if (last.prompt === undefined) return;
      const pole = last.dose < 0 ? "negative" : "positive";
      steeredTitle.textContent = `Steered, axis ${last.axis}, ${signed(last.dose, 1)} σ`;
      base.replaceChildren(...marked(last.pieces.unsteered, "base"));
      steered.replaceChildren(...marked(last.pieces.steered, pole));
      said.textContent = last.said;
      line.show(busy ? "" : last.python);
    },
    /** @param {Doses} now */
    showDoses(now) {
      doses = now;
      measuring = Boolean(now.busy);
      dosesProgress.show(measuring, now.progress);
      showButtons();
      showDoses();
    },
    /** The kernel refused: nothing runs that it does not speak of. */
    refused() {
      busy = measuring = false;
      progress.show(false);
      dosesProgress.show(false);
      showButtons();
    },
  };
}
