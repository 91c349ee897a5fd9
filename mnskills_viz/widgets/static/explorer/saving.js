// Fields that save themselves.

const SAVE_AFTER = 300; // ms without a key stroke
const ANSWER_WITHIN = 8000;

/**
 * Fields that save themselves. A text counts as saved when the kernel has answered that it is.
 * @param {Send} send
 * @param {HTMLElement} sign where "saving…" and "saved" are said
 */
function saver(send, sign) {
  // Views of one widget hear each other's answers, so their numbers must not meet.
  let seq = Math.floor(Math.random() * 1e9) * 1000;
  let everSaved = false;
  let failed = false;
  /** @type {Map<number, number>} number of a message -> timer of its answer */
  const outstanding = new Map();
  /** @type {{ flush: () => void, waits: () => boolean }[]} */
  const fields = [];

  const tell = () => {
    const busy = outstanding.size > 0 || fields.some((field) => field.waits());
    sign.textContent = busy ? "saving…" : failed ? "not saved" : everSaved ? "saved" : "";
    sign.dataset.state = busy ? "busy" : failed ? "failed" : "saved";
  };

  /** @param {number} number @param {boolean} well */
  const settled = (number, well) => {
    if (!outstanding.has(number)) return; // another view's message
    clearTimeout(outstanding.get(number));
    outstanding.delete(number);
    failed = !well;
    everSaved ||= well;
    tell();
  };

  /**
   * @param {{ value: string, addEventListener: HTMLElement["addEventListener"] }} node a field, or
   * what can be read and listened to like one
   * @param {string} name
   */
  const field = (node, name) => {
    let home = { basis: "", axis: -1 }; // whose text is in the field
    let last = 0; // number of its newest message
    let timer = 0;
    const flush = () => {
      if (!timer) return;
      clearTimeout(timer);
      timer = 0;
      last = ++seq;
      const late = setTimeout(() => {
        sign.textContent = "not saved yet: the kernel does not answer";
      }, ANSWER_WITHIN);
      outstanding.set(last, late);
      send({ type: "label", ...home, field: name, value: node.value, seq: last });
      tell();
    };
    node.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(flush, SAVE_AFTER);
      tell();
    });
    node.addEventListener("change", flush); // Enter, or a choice
    node.addEventListener("blur", flush);
    fields.push({ flush, waits: () => timer !== 0 });
    return {
      /** Show what the kernel has, unless newer text is on its way to it. @param {string} value @param {string} basis @param {number} axis */
      show(value, basis, axis) {
        const moved = basis !== home.basis || axis !== home.axis;
        if (moved) flush();
        const mine = timer !== 0 || outstanding.has(last);
        if (moved || !mine) if (node.value !== value) node.value = value;
        home = { basis, axis };
        if (moved) last = 0;
      },
    };
  };
  const flushAll = () => fields.forEach((one) => one.flush());
  return { field, settled, flushAll };
}
