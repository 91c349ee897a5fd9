// Fields that save themselves.

const SAVE_AFTER = 300; // ms without a key stroke
const ANSWER_WITHIN = 8000;

/**
 * Fields that save themselves. A text counts as saved when the kernel has answered that it is;
 * until then it stays in its field, and what failed is sent again.
 * @param {Send} send
 * @param {HTMLElement} sign where "saving…" and "saved" are said
 */
function saver(send, sign) {
  const TRIES = 2; // of a text whose axis is no longer shown
  // Views of one widget hear each other's answers, so their numbers must not meet.
  let seq = Math.floor(Math.random() * 1e9) * 1000;
  let everSaved = false;
  /** @typedef {{ basis: string, axis: number, field: string, value: string, seq: number, tries: number }} Unsaved */
  /** @type {Map<number, number>} number of a message -> timer of its answer */
  const outstanding = new Map();
  /** @type {{ flush: () => void, waits: () => boolean, unsaved: Map<string, Unsaved> }[]} */
  const fields = [];

  const tell = () => {
    const failed = fields.flatMap(({ unsaved }) => [...unsaved.values()]).filter((text) => !outstanding.has(text.seq));
    const busy = outstanding.size > 0 || fields.some((field) => field.waits());
    sign.textContent = busy ? "saving…" : failed.length ? "not saved" : everSaved ? "saved" : "";
    sign.dataset.state = busy ? "busy" : failed.length ? "failed" : "saved";
    sign.title = failed.map(({ basis, axis, field }) => `${field} of axis ${axis} of ${basis} is not saved`).join("\n");
  };

  /** @param {number} number @param {boolean} well */
  const settled = (number, well) => {
    if (!outstanding.has(number)) return; // another view's message
    clearTimeout(outstanding.get(number));
    outstanding.delete(number);
    everSaved ||= well;
    for (const { unsaved } of well ? fields : [])
      for (const [home, text] of unsaved) if (text.seq === number) unsaved.delete(home);
    tell();
  };

  /** @param {Unsaved} text */
  const save = (text) => {
    text.seq = ++seq;
    text.tries += 1;
    const late = setTimeout(() => {
      sign.textContent = "not saved yet: the kernel does not answer";
    }, ANSWER_WITHIN);
    outstanding.set(text.seq, late);
    const { tries, ...message } = text;
    send({ type: "label", ...message });
  };

  /**
   * @param {{ value: string, addEventListener: HTMLElement["addEventListener"] }} node a field, or
   * what can be read and listened to like one
   * @param {string} name
   */
  const field = (node, name) => {
    let home = { basis: "", axis: -1 }; // whose text is in the field
    let timer = 0;
    /** @type {Map<string, Unsaved>} what the kernel is not known to have, by axis */
    const unsaved = new Map();
    const key = () => `${home.basis}/${home.axis}`;
    const flush = () => {
      if (timer) unsaved.set(key(), { ...home, field: name, value: node.value, seq: 0, tries: 0 });
      clearTimeout(timer);
      timer = 0;
      for (const [where, text] of unsaved)
        if (!outstanding.has(text.seq) && (where === key() || text.tries < TRIES)) save(text);
      tell();
    };
    node.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(flush, SAVE_AFTER);
      tell();
    });
    node.addEventListener("change", flush); // Enter, or a choice
    node.addEventListener("blur", flush);
    fields.push({ flush, waits: () => timer !== 0, unsaved });
    return {
      /** Show what the kernel has, unless there is newer text that it does not have. @param {string} value @param {string} basis @param {number} axis */
      show(value, basis, axis) {
        if (timer && (basis !== home.basis || axis !== home.axis)) flush();
        home = { basis, axis };
        if (timer) return; // being typed
        const newest = unsaved.get(key())?.value ?? value;
        if (node.value !== newest) node.value = newest;
      },
    };
  };
  const flushAll = () => fields.forEach((one) => one.flush());
  return { field, settled, flushAll };
}
