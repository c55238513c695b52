import { NumberInput, SimpleGrid } from "@mantine/core";

import type { Budget, RateLimits } from "@/api/types";

export const NO_RATES: RateLimits = {
  requests_per_minute: null,
  input_tokens_per_minute: null,
  output_tokens_per_minute: null,
  concurrent_streams: null,
};
export const NO_BUDGET: Budget = { day_usd: null, month_usd: null, total_usd: null };

const RATES: { name: keyof RateLimits; label: string }[] = [
  { name: "requests_per_minute", label: "Requests per minute" },
  { name: "input_tokens_per_minute", label: "Input tokens per minute" },
  { name: "output_tokens_per_minute", label: "Output tokens per minute" },
  { name: "concurrent_streams", label: "Streams at a time" },
];
const BUDGET: { name: keyof Budget; label: string }[] = [
  { name: "day_usd", label: "Per day" },
  { name: "month_usd", label: "Per month" },
  { name: "total_usd", label: "In total" },
];

export function RateFields({ value, onChange }: { value: RateLimits; onChange: (value: RateLimits) => void }) {
  return (
    <SimpleGrid cols={{ base: 1, xs: 2 }} spacing="sm">
      {RATES.map(({ name, label }) => (
        <NumberInput
          key={name}
          label={label}
          placeholder="No limit"
          min={0}
          allowDecimal={false}
          thousandSeparator=","
          value={value[name] ?? ""}
          onChange={(next) => onChange({ ...value, [name]: typeof next === "number" ? next : null })}
        />
      ))}
    </SimpleGrid>
  );
}

interface BudgetProps {
  /** What the budget is for, to tell the fields of one form apart. */
  of: string;
  value: Budget;
  onChange: (value: Budget) => void;
}

export function BudgetFields({ of, value, onChange }: BudgetProps) {
  return (
    <SimpleGrid cols={{ base: 1, xs: 3 }} spacing="sm">
      {BUDGET.map(({ name, label }) => (
        <NumberInput
          key={name}
          label={label}
          aria-label={`${of}: ${label.toLowerCase()}`}
          placeholder="No limit"
          prefix="$"
          min={0}
          max={10_000_000}
          decimalScale={4}
          thousandSeparator=","
          value={value[name] ?? ""}
          onChange={(next) => onChange({ ...value, [name]: typeof next === "number" ? next : null })}
        />
      ))}
    </SimpleGrid>
  );
}

/** In one line, for lists. */
export function limitsInWords(rates: RateLimits, budget: Budget): string {
  const spans = BUDGET.filter(({ name }) => budget[name] !== null).map(
    ({ name, label }) => `$${budget[name]} ${label.toLowerCase()}`,
  );
  const limits = RATES.filter(({ name }) => rates[name] !== null).map(
    ({ name, label }) => `${rates[name]?.toLocaleString("en")} ${label.toLowerCase()}`,
  );
  return [...spans, ...limits].join(", ") || "No limits";
}
