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
  badges: Badge[];
  positive: Pole;
  negative: Pole;
}
interface Histogram {
  limit: number;
  total: number[];
  categories: { name: string; counts: number[] }[];
}
interface Card extends Entry {
  basis: string;
  layer: number | "concat" | null;
  n_axes: number;
  notes: string;
  skewness: number | null;
  mutual_information: number | null;
  mean_error: number | null;
  histogram: Histogram;
}
type PoleName = "positive" | "negative";
type Send = (message: Record<string, unknown>) => void;
