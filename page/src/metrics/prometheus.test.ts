import { expect, test } from "vitest";
import { parsePrometheus } from "./prometheus";
import { histogram, increase, quantile, sum } from "./quantile";

test("samples with and without labels are read, comments are not", () => {
  const families = parsePrometheus(
    [
      "# HELP facetd_engine_faces Faces held",
      "# TYPE facetd_engine_faces gauge",
      "facetd_engine_faces 5000",
      'facetd_source_rejected_total{reason="unknown_face"} 3',
      'facetd_source_rejected_total{reason="bad \\"quoted\\" \\\\ {x}\\n"} 1.5e3 1700000000000',
      "odd_values +Inf",
      "",
      "this is no sample",
    ].join("\n"),
  );
  expect(families.get("facetd_engine_faces")).toEqual([{ labels: {}, value: 5000 }]);
  expect(families.get("facetd_source_rejected_total")).toEqual([
    { labels: { reason: "unknown_face" }, value: 3 },
    { labels: { reason: 'bad "quoted" \\ {x}\n' }, value: 1500 },
  ]);
  expect(families.get("odd_values")?.[0]?.value).toBe(Infinity);
  expect(families.size).toBe(3);
});

const looks = (counts: number[]) => ({ bounds: [1, 2, 4, Infinity], counts });

test("a histogram's buckets are sorted by their bound", () => {
  const families = parsePrometheus(
    'h_bucket{le="+Inf"} 9\nh_bucket{le="10"} 8\nh_bucket{le="2"} 5\nh_sum 1\nh_count 9',
  );
  expect(histogram(families, "h")).toEqual({ bounds: [2, 10, Infinity], counts: [5, 8, 9] });
  expect(histogram(families, "other")).toEqual({ bounds: [], counts: [] });
});

test("quantiles lie inside their bucket in proportion", () => {
  expect(quantile(0.5, looks([10, 20, 20, 20]))).toBe(1);
  expect(quantile(0.75, looks([10, 20, 20, 20]))).toBe(1.5);
  expect(quantile(0.5, looks([0, 0, 8, 8]))).toBe(3);
  expect(quantile(1, looks([10, 20, 20, 20]))).toBe(2);
});

test("above the last bound there is no guessing, and of nothing no quantile", () => {
  expect(quantile(0.99, looks([0, 0, 0, 5]))).toBe(4);
  expect(quantile(0.5, looks([0, 0, 0, 0]))).toBeUndefined();
  expect(quantile(0.5, { bounds: [], counts: [] })).toBeUndefined();
});

test("an increase is what came between, also over a restart", () => {
  expect(increase(looks([1, 2, 3, 4]), looks([2, 4, 6, 9])).counts).toEqual([1, 2, 3, 5]);
  expect(increase(looks([10, 20, 30, 40]), looks([1, 1, 1, 2])).counts).toEqual([1, 1, 1, 2]);
  expect(increase({ bounds: [], counts: [] }, looks([1, 1, 1, 2])).counts).toEqual([1, 1, 1, 2]);
  expect(sum(looks([1, 2, 3, 4]), looks([1, 1, 1, 1])).counts).toEqual([2, 3, 4, 5]);
});
