import { Center, Loader, Stack, Text } from "@mantine/core";
import { useEffect, useState } from "react";

import { completeSignIn } from "../api/auth";
import { SignInPage } from "./SignInPage";

export function CallbackPage({ onSignedIn }: { onSignedIn: (path: string) => void }) {
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    once(location.search).then(onSignedIn, setError);
  }, [onSignedIn]);
  if (error !== null) return <SignInPage error={error} />;
  return (
    <Center mih="100dvh" role="status">
      <Stack align="center">
        <Loader />
        <Text c="dimmed">Signing you in…</Text>
      </Stack>
    </Center>
  );
}

let answered: { search: string; result: Promise<string> } | null = null;

/** A code can be redeemed once; an effect may run twice. */
function once(search: string): Promise<string> {
  if (answered?.search !== search) answered = { search, result: completeSignIn(new URLSearchParams(search)) };
  return answered.result;
}
