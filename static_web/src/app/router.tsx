/** Every address of the app. Pages are loaded when they are first shown. */
import { Center, Loader, Stack, Text, Title } from "@mantine/core";
import type { QueryClient } from "@tanstack/react-query";
import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
  useNavigate,
} from "@tanstack/react-router";
import { useCallback } from "react";

import { isSignedIn, onSignedOut } from "@/api/session";
import { localPath } from "@/features/auth/api/auth";
import { CallbackPage } from "@/features/auth/components/CallbackPage";
import { SignInPage } from "@/features/auth/components/SignInPage";
import { HomePage } from "@/features/workspaces/components/HomePage";

import { Shell } from "./Shell";
import { Failure } from "./ui/ErrorBoundary";
import { ButtonLink } from "./ui/links";

const rootRoute = createRootRoute({ component: Outlet, notFoundComponent: NotFound });

const signInRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/signin",
  validateSearch: (search): { return?: string } =>
    typeof search.return === "string" ? { return: localPath(search.return) } : {},
  component: function SignIn() {
    return <SignInPage returnTo={signInRoute.useSearch().return} />;
  },
});

const callbackRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/auth/callback",
  component: function Callback() {
    const navigate = useNavigate();
    const onSignedIn = useCallback((path: string) => void navigate({ href: path, replace: true }), [navigate]);
    return <CallbackPage onSignedIn={onSignedIn} />;
  },
});

const signedInRoute = createRoute({
  getParentRoute: () => rootRoute,
  id: "signed-in",
  beforeLoad: ({ location }) => {
    if (!isSignedIn()) throw redirect({ to: "/signin", search: { return: location.href } });
  },
  component: Shell,
});

const homeRoute = createRoute({ getParentRoute: () => signedInRoute, path: "/", component: HomePage });

const workspaceRoute = createRoute({
  getParentRoute: () => signedInRoute,
  path: "/workspaces/$workspaceId",
  component: lazyRouteComponent(() => import("./pages/places"), "Workspace"),
});

const teamRoute = createRoute({
  getParentRoute: () => signedInRoute,
  path: "/teams/$teamId",
  component: lazyRouteComponent(() => import("./pages/places"), "Team"),
});

const modelKeysRoute = createRoute({
  getParentRoute: () => signedInRoute,
  path: "/teams/$teamId/keys",
  component: lazyRouteComponent(() => import("./pages/places"), "ModelKeys"),
});

const usageRoute = createRoute({
  getParentRoute: () => signedInRoute,
  path: "/usage",
  component: lazyRouteComponent(() => import("./pages/places"), "Usage"),
});

const boardRoute = createRoute({
  getParentRoute: () => signedInRoute,
  path: "/boards/$boardId",
  component: lazyRouteComponent(() => import("./pages/board"), "Board"),
});

const cardRoute = createRoute({
  getParentRoute: () => boardRoute,
  path: "/cards/$cardId",
  component: lazyRouteComponent(() => import("./pages/card"), "Card"),
});

const runRoute = createRoute({
  getParentRoute: () => signedInRoute,
  path: "/runs/$runId",
  component: lazyRouteComponent(() => import("./pages/run"), "Run"),
});

const inviteRoute = createRoute({
  getParentRoute: () => signedInRoute,
  path: "/invite/$token",
  component: lazyRouteComponent(() => import("./pages/places"), "Invite"),
});

const tokensRoute = createRoute({
  getParentRoute: () => signedInRoute,
  path: "/settings/tokens",
  component: lazyRouteComponent(() => import("./pages/places"), "ApiTokens"),
});

export const router = createRouter({
  routeTree: rootRoute.addChildren([
    signInRoute,
    callbackRoute,
    signedInRoute.addChildren([
      homeRoute,
      workspaceRoute,
      teamRoute,
      modelKeysRoute,
      usageRoute,
      boardRoute.addChildren([cardRoute]),
      runRoute,
      inviteRoute,
      tokensRoute,
    ]),
  ]),
  defaultPreload: "intent",
  defaultPendingComponent: Pending,
  defaultErrorComponent: ({ error, reset }) => <Failure title="This page cannot be shown" error={error} onRetry={reset} />,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

/** A session that ends under a page leads to the sign-in page, and from there back to that page. What it showed is forgotten. */
export function followSession(cache: QueryClient): void {
  onSignedOut(() => {
    const { pathname, href } = router.state.location;
    if (pathname === "/signin" || pathname === "/auth/callback") return;
    void router.navigate({ to: "/signin", search: { return: href } }).then(() => {
      cache.clear();
    });
  });
}

function Pending() {
  return (
    <Center mih="50dvh">
      <Loader />
    </Center>
  );
}

function NotFound() {
  return (
    <Center mih="60dvh" p="md">
      <Stack align="center">
        <Title order={1} size="h3">
          There is no such page
        </Title>
        <Text c="dimmed" size="sm">
          The address may be wrong, or what it led to was removed.
        </Text>
        <ButtonLink to="/" variant="light">
          To your workspaces
        </ButtonLink>
      </Stack>
    </Center>
  );
}
