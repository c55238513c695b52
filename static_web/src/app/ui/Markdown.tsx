/** Markdown as safe HTML. The renderer is loaded when the first text is shown. */
import { Skeleton, Typography } from "@mantine/core";
import { lazy, Suspense } from "react";

import classes from "./Markdown.module.css";

const Renderer = lazy(() => import("./MarkdownRenderer"));

export function Markdown({ text }: { text: string }) {
  return (
    <Suspense fallback={<Skeleton height={14} width="60%" />}>
      <Typography className={classes.markdown ?? ""}>
        <Renderer text={text} />
      </Typography>
    </Suspense>
  );
}
