import { describe, expect, it } from "vitest";

import { usd } from "./format";

describe("usd", () => {
  it.each([
    [0, "$0.00"],
    [0.000_000_123, "$0.00000012"],
    [0.000_05, "$0.00005"],
    [0.0001, "$0.0001"],
    [0.123_45, "$0.1235"],
    [12.345, "$12.35"],
  ])("of %d is %s", (amount, text) => {
    expect(usd(amount)).toBe(text);
  });
});
