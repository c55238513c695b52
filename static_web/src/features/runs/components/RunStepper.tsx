import { Loader } from "@mantine/core";
import { Fragment } from "react";

import type { RunStatus } from "@/api/types";
import { IconCheck, IconPlayerStop, IconX } from "@/app/ui/icons";

import classes from "./RunStepper.module.css";

const STEPS = ["queued", "starting", "running", "done"] as const;

type StepState = "ahead" | "current" | "passed" | "failed" | "stopped";

/** queued → starting → running → done. A run that failed before running shows where by its reason, not here. */
export function RunStepper({ status }: { status: RunStatus }) {
  return (
    <ol className={classes.stepper} aria-label={`Status: ${status}`}>
      {STEPS.map((step, index) => {
        const state = stateOf(index, status);
        const text = step !== "done" ? step : state === "failed" ? "failed" : state === "stopped" ? "stopped" : "done";
        return (
          <Fragment key={step}>
            {index > 0 && <li aria-hidden="true" className={classes.line} data-passed={state !== "ahead" || undefined} />}
            <li className={classes.step} data-state={state} {...(state === "current" && { "aria-current": "step" })}>
              <span className={classes.dot}>
                <Dot state={state} />
              </span>
              {text}
            </li>
          </Fragment>
        );
      })}
    </ol>
  );
}

function Dot({ state }: { state: StepState }) {
  if (state === "current") return <Loader size={11} color="currentColor" />;
  if (state === "passed") return <IconCheck size={13} />;
  if (state === "failed") return <IconX size={13} />;
  return state === "stopped" ? <IconPlayerStop size={12} /> : null;
}

function stateOf(index: number, status: RunStatus): StepState {
  if (status === "succeeded") return "passed";
  if (status === "failed" || status === "cancelled") {
    if (index < STEPS.length - 1) return "passed";
    return status === "failed" ? "failed" : "stopped";
  }
  const current = STEPS.indexOf(status);
  return index < current ? "passed" : index === current ? "current" : "ahead";
}
