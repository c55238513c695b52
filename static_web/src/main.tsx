import "@mantine/core/styles.layer.css";
import "@mantine/notifications/styles.layer.css";
import "./app/global.css";

import { MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { loadConfig } from "@/api/config";
import { createQueryClient } from "@/app/queryClient";
import { followSession, router } from "@/app/router";
import { theme } from "@/app/theme";
import { Failure } from "@/app/ui/ErrorBoundary";

async function start(): Promise<void> {
  const container = document.getElementById("root");
  if (!container) throw new Error("The page has no #root element.");
  const root = createRoot(container);
  const problem = await loadConfig().then(
    () => null,
    (error: unknown) => error,
  );
  const queryClient = createQueryClient();
  followSession(queryClient);
  root.render(
    <StrictMode>
      <MantineProvider theme={theme} defaultColorScheme="auto">
        <Notifications position="bottom-right" />
        <QueryClientProvider client={queryClient}>
          {problem === null ? (
            <RouterProvider router={router} />
          ) : (
            <Failure title="The application cannot start" error={problem} />
          )}
        </QueryClientProvider>
      </MantineProvider>
    </StrictMode>,
  );
}

void start();
