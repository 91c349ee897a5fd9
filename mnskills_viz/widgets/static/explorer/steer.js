// The prompt, the dose, and both texts.

const LARGEST_DOSE = 6;
const FIRST_DOSE = 2;

/**
 * A text, with what comes after the beginning that it shares with another one marked.
 * @param {string} text @param {string} other
 */
function marked(text, other) {
  let shared = 0;
  while (shared < text.length && text[shared] === other[shared]) shared++;
  if (shared === text.length && shared === other.length) return [text];
  while (shared > 0 && /\S/.test(text[shared - 1])) shared--; // whole words
  return [h("span", { class: "mn-shared" }, text.slice(0, shared)), h("mark", {}, text.slice(shared))];
}

/** @param {Send} send */
function steerView(send) {
  const heading = h("h4", {}, "Steer");
  const prompt = h("textarea", { class: "mn-prompt", rows: 3, "aria-label": "Prompt to steer", placeholder: "a prompt for the model" });
  const dose = h("input", { type: "range", class: "mn-dose", min: -LARGEST_DOSE, max: LARGEST_DOSE, step: 0.5, value: FIRST_DOSE, "aria-label": "Dose in standard deviations" });
  const number = h("output", { class: "mn-dose-number" });
  const run = h("button", { type: "button", class: "mn-steer-run" }, "Run");
  const why = h("p", { class: "mn-why", hidden: true });
  const base = h("div", { class: "mn-output-base mn-output", "data-empty": "what the model says" });
  const steered = h("div", { class: "mn-output-steered mn-output", "data-empty": "and what it says when pushed" });
  const steeredTitle = h("h5", {}, "Steered");
  const code = h("code", {});
  const copy = h("button", { type: "button", class: "mn-quiet", "aria-label": "Copy the line of Python" }, "copy");
  const line = h("p", { class: "mn-python", hidden: true }, code, copy);
  const outputs = h("div", { class: "mn-outputs", "aria-live": "polite" }, h("div", {}, h("h5", {}, "Unsteered"), base), h("div", {}, steeredTitle, steered));
  const ends = Object.fromEntries(
    Object.keys(POLES).map((pole) => [pole, h("span", { class: `mn-end mn-tint-${pole}` })]),
  );
  const node = h(
    "section",
    { class: "mn-steer", "aria-label": "Steer" },
    heading,
    prompt,
    h(
      "div",
      { class: "mn-controls" },
      h("div", { class: "mn-slider" }, dose, h("div", { class: "mn-ends", "aria-hidden": "true" }, ends.negative, ends.positive)),
      number,
      run,
    ),
    why,
    outputs,
    line,
  );
  let steerable = true;
  let busy = false;
  const showDose = () => {
    const value = Number(dose.value);
    number.textContent = `${signed(value, 1)} σ`;
    dose.setAttribute("aria-valuetext", `${signed(value, 1)} standard deviations`);
    number.className = `mn-dose-number ${value < 0 ? "mn-tint-negative" : value > 0 ? "mn-tint-positive" : ""}`;
  };
  const showRun = () => {
    run.disabled = busy || !steerable;
    run.textContent = busy ? "Running…" : "Run";
    outputs.classList.toggle("mn-busy", busy);
    outputs.setAttribute("aria-busy", String(busy));
  };
  dose.addEventListener("input", showDose);
  run.addEventListener("click", () => {
    busy = true;
    showRun();
    send({ type: "steer", prompt: prompt.value, dose: Number(dose.value) });
  });
  copy.addEventListener("click", () => navigator.clipboard?.writeText(code.textContent ?? ""));
  showDose();
  return {
    node,
    /** @param {string} text */
    use(text) {
      prompt.value = text;
      prompt.focus();
    },
    /** @param {any} setting */
    set(setting) {
      steerable = setting.steerable;
      if (!prompt.value) prompt.value = setting.prompt;
      why.hidden = steerable;
      why.textContent = "Axes of joined layers cannot be steered; choose a basis of one layer.";
      showRun();
    },
    /** @param {Card} card */
    about(card) {
      heading.textContent = `Steer along axis ${card.axis}`;
      for (const [pole, { sign }] of Object.entries(POLES)) {
        const label = card[/** @type {PoleName} */ (pole)].label || "unnamed";
        ends[pole].textContent = pole === "negative" ? `${sign} ${label}` : `${label} ${sign}`;
      }
    },
    /** @param {any} last */
    show(last) {
      busy = Boolean(last.busy);
      showRun();
      if (last.prompt === undefined) return;
      steeredTitle.textContent = `Steered, axis ${last.axis}, ${signed(last.dose, 1)} σ`;
      base.replaceChildren(...marked(last.unsteered, last.steered));
      steered.replaceChildren(...marked(last.steered, last.unsteered));
      line.hidden = busy;
      code.textContent = last.python;
    },
    /** The kernel refused: nothing runs. @param {any} last */
    refused(last) {
      busy = Boolean(last.busy);
      showRun();
    },
  };
}
