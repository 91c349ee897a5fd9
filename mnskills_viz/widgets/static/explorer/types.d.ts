/** What the kernel sends, as `cards.py` and its neighbours write it. */

interface Badge {
  text: string;
  kind: "good" | "warn" | "plain";
  explanation: string;
}
interface Utility {
  value: number;
  low: number;
  high: number;
  chance: number;
  special: boolean;
}
interface Weak {
  value: number;
  low: number | null;
  high: number | null;
}
interface Example {
  row: number;
  id: string;
  z: number;
  category: string | null;
  split: string | null;
  prompt: string;
  response: string;
  cut: boolean;
}
interface Pole {
  label: string;
  hint: string;
  categories: { name: string; share: number }[];
  weak: Weak | null;
  examples: Example[];
}
interface Entry {
  axis: number;
  variance: number | null;
  stability: number | null;
  utility: Utility | null;
  weakness: { positive: number; negative: number } | null;
  state: LabelState;
  badges: Badge[];
  positive: Pole;
  negative: Pole;
}
interface Histogram {
  limit: number;
  total: number[];
  /** The most frequent first; those have a colour and a symbol, which are the map's. */
  categories: { name: string; counts: number[]; colour?: string; symbol?: string }[];
}
type LabelState = "" | "draft" | "confirmed";
type Mode = "top" | "quantiles" | "matched";
interface Card extends Entry {
  basis: string;
  layer: number | "concat" | null;
  n_axes: number;
  notes: string;
  skewness: number | null;
  mutual_information: number | null;
  mean_error: number | null;
  histogram: Histogram;
  mode: Mode;
  /** Right answers of the blind quiz, as "7/10"; empty where there was none. */
  quiz: string;
  /** From the lowest to the highest; shown in mode "quantiles". */
  quantiles?: Example[];
  /** Low end, high end; shown in mode "matched". */
  pairs?: [Example, Example][];
  /** The line that shows the same. */
  python: string;
}
/** What each token adds to a coordinate, in standard deviations of the axis. */
interface TokenValues {
  tokens: string[];
  values: number[];
}
/** prompt + response + rest = sum: the coordinate of the row. */
interface RowHeat {
  prompt: TokenValues;
  response: TokenValues;
  rest: number;
  sum: number;
  /** The model read no further than these tokens. */
  cut: boolean;
}
interface HeatMessage {
  basis: string;
  axis: number;
  rows: Record<string, RowHeat>;
  /** Rows that the model could not read, and why. */
  left_out: Record<string, string>;
}
interface Suggestion {
  label: string;
  source: string;
  auc: number | null;
  low: number | null;
  high: number | null;
}
interface Suggestions {
  basis: string;
  axis: number;
  busy: boolean;
  positive: Suggestion[];
  negative: Suggestion[];
}
/** Rows found by brush, lasso or search; pages count from 0. */
interface Found {
  what: "" | "range" | "lasso" | "search";
  said: string;
  n: number;
  page: number;
  pages: number;
  per_page: number;
  /** The axis that the examples' coordinates are of. */
  basis?: string;
  axis?: number;
  /** The range that they lie in, where one was picked; null is an open end. */
  range?: { axis: number; low: number | null; high: number | null } | null;
  examples: Example[];
  python: string;
}
/** What is done of a long run; a total of 0: not known. */
interface Progress {
  done: number;
  total: number;
  /** Seconds. */
  left?: number | null;
}
/** Whether only this text has the piece, and the piece. */
type Piece = [boolean, string];
interface Steering {
  busy: boolean;
  progress?: Progress | null;
  basis: string;
  axis: number;
  dose: number;
  prompt?: string;
  unsteered: string;
  steered: string;
  pieces: { unsteered: Piece[]; steered: Piece[] };
  said: string;
  python: string;
}
interface Doses {
  basis: string;
  axis: number;
  busy: boolean;
  progress?: Progress | null;
  /** Markup that our Python wrote, as in all figures. */
  figure: string;
  band: [number, number] | null;
  doses: number[];
  python: string;
}
/** A selection of examples; `Selection` is the browser's word. */
interface Chosen {
  busy: boolean;
  progress?: Progress | null;
  name?: string;
  n_rows: number;
  n_tokens: number;
  how: string;
  notes: string[];
  figure: string;
  overlap: { name: string; n: number; shared: number; jaccard: number; chance: number }[];
  first: { row: number; id: string; category: string | null; prompt: string; why: string }[];
  /** Findings of the preflight; null before an export. */
  problems: number | null;
  rules: { row: number | null; rule: string; message: string }[];
  exported: string;
  format: string;
  checked: string;
  python: string[];
}
interface Skill {
  busy: boolean;
  progress?: Progress | null;
  basis: string;
  kind: "category" | "text" | "row";
  value: string | number;
  said: string;
  n: number;
  axes: { axis: number; name: string; mean: number; low: number | null; high: number | null; share: number; sure: boolean }[];
  figure: string;
  running: string;
  python: string;
}
interface Quiz {
  basis: string;
  axis: number;
  negative: string;
  positive: string;
  /** Questions; 0 before a quiz. */
  n: number;
  at: number;
  example: { row: number; prompt: string; response: string; category: string | null } | null;
  last: { right: boolean; z: number; row: number } | null;
  right: number;
  done: boolean;
  said: string;
}
interface Neighbours {
  basis: string;
  axis: number;
  busy: boolean;
  progress?: Progress | null;
  axes: { basis: string; axis: number; name: string; cosine: number | null; correlation: number | null }[];
  latents: { basis: string; latent: number; cosine: number | null; correlation: number | null; share: number | null; density: number | null }[];
  python: string;
}
type PoleName = "positive" | "negative";
type Send = (message: Record<string, unknown>) => void;
interface Atlas {
  x: number;
  y: number;
  colour: string;
  view: string;
  legend: { name: string; colour: string; symbol: string }[];
  colours: string[];
  views: string[];
  n: number;
  drawn: number;
}
