// The blind quiz: does the label say at which pole an example lies?

/** @param {Send} send */
function quizView(send) {
  const begin = doing("mn-quiz-run", "Begin", () => send({ type: "quiz" }));
  const standing = h("p", { class: "mn-said" });
  const last = h("p", { class: "mn-quiz-last", role: "status" });
  const prompt = h("p", { class: "mn-quiz-prompt", dir: "auto" });
  const response = h("p", { class: "mn-quiz-response", dir: "auto" });
  const question = h("div", { class: "mn-quiz-text", tabindex: "0", role: "group", "aria-label": "Which pole does this example lie at?" }, prompt, response);
  const end = h("p", { class: "mn-quiz-end", role: "status" });
  /** @type {[PoleName, number][]} */
  const sides = [["negative", -1], ["positive", 1]];
  const buttons = sides.map(([pole, answer]) => doing(`mn-answer mn-answer-${pole}`, "", () => tell(answer)));
  const asked = h("div", { class: "mn-quiz-asked", hidden: true }, question, h("div", { class: "mn-answers" }, ...buttons), h("p", { class: "mn-said" }, "← and → answer too."));
  const view = panel(
    "quiz",
    "Blind quiz",
    true,
    h("p", { class: "mn-said" }, "Which pole does it lie at, by the labels alone? The share of right answers says how far the label can be trusted."),
    last,
    asked,
    end,
    h("div", { class: "mn-row" }, begin, standing),
  );
  let here = { basis: "", axis: -1, named: false };
  let waits = false; // for the kernel: a second answer to one question would be one to the next
  /** @type {Quiz | null} */
  let quiz = null;

  const mine = () => (quiz && quiz.basis === here.basis && quiz.axis === here.axis ? quiz : null);
  const tell = (/** @type {number} */ pole) => {
    if (waits || !mine()?.example) return;
    waits = true;
    send({ type: "answer", pole });
  };
  view.node.addEventListener("keydown", (/** @type {any} */ event) => {
    const pole = /** @type {Record<string, number>} */ ({ ArrowLeft: -1, ArrowRight: 1 })[event.key];
    if (!pole || event.altKey || event.ctrlKey || event.metaKey || !mine()?.example) return;
    event.preventDefault();
    event.stopPropagation();
    tell(pole);
  });

  const show = () => {
    const now = mine();
    const example = now?.example ?? null;
    const held = asked.contains(document.activeElement);
    asked.hidden = !example;
    if (now && example) {
      prompt.textContent = example.prompt;
      response.textContent = example.response;
      response.hidden = !example.response;
      question.scrollTop = 0;
      buttons[0].replaceChildren(h("b", {}, "−"), ` ${now.negative || "the other pole"}`);
      buttons[1].replaceChildren(`${now.positive || "the other pole"} `, h("b", {}, "+"));
    }
    if (held && !example) begin.focus(); // the buttons that had the focus are gone
    const verdict = now?.last ?? null;
    last.hidden = !verdict;
    if (verdict) {
      last.textContent = `${verdict.right ? "✓ right" : "✗ wrong"}: the last one lies at ${signed(verdict.z, 2)} σ`;
      last.className = `mn-quiz-last ${verdict.right ? "mn-passes" : "mn-fails"}`;
    }
    end.hidden = !now?.done;
    end.textContent = now?.said ?? "";
    begin.textContent = now ? "Begin again" : "Begin";
    begin.disabled = !here.named;
    begin.classList.toggle("mn-second", Boolean(example));
    standing.textContent = now && !now.done ? `question ${now.at + 1} of ${now.n} · ${now.right} right` : here.named ? "" : "name a pole first";
  };
  show();
  return {
    node: view.node,
    /** @param {any} _setting */
    set(_setting) {},
    /** @param {Card} card */
    about(card) {
      here = { basis: card.basis, axis: card.axis, named: Boolean(card.positive.label || card.negative.label) };
      view.heading.replaceChildren("Blind quiz", card.quiz ? h("small", {}, ` ${card.quiz}`) : "");
      show();
    },
    /** @param {Quiz} now */
    show(now) {
      const began = now.n && !mine()?.example && now.at === 0;
      waits = false;
      quiz = now.n ? now : null;
      show();
      if (began && view.node.contains(document.activeElement)) question.focus();
    },
    refused() {
      waits = false;
    },
  };
}
