import { Alert, Button, Center, Group, Paper, Stack, Text, Title } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";

import { errorText } from "@/api/problem";
import { Logo } from "@/app/ui/Logo";
import { IconAlertCircle, IconGitBranch, IconLayoutKanban, IconRobot } from "@/app/ui/icons";

import { beginSignIn, localPath } from "../api/auth";
import { MicrosoftLogo } from "./MicrosoftLogo";
import classes from "./SignInPage.module.css";

const POINTS = [
  { icon: IconLayoutKanban, text: "Plan work on a board, as a team." },
  { icon: IconRobot, text: "Move a card to In Progress and an agent takes it on." },
  { icon: IconGitBranch, text: "Review its branch and diff, live, step by step." },
];

export function SignInPage({ returnTo, error }: { returnTo?: string | undefined; error?: unknown }) {
  const signIn = useMutation({ mutationFn: () => beginSignIn(localPath(returnTo)) });
  const failure = signIn.error ?? error;
  return (
    <Center mih="100dvh" p="md" className={classes.page ?? ""}>
      <Paper component="main" withBorder shadow="md" radius="lg" p={{ base: "lg", xs: 36 }} w="100%" maw={440}>
        <Stack gap="lg">
          <Group gap="sm" wrap="nowrap">
            <Logo size={40} />
            <Title order={1} className={classes.name ?? ""}>
              Kanban Platform
            </Title>
          </Group>
          <Stack gap="xs">
            {POINTS.map(({ icon: Icon, text }) => (
              <Group key={text} gap="sm" wrap="nowrap" className={classes.point ?? ""}>
                <Icon size={20} />
                <Text size="sm">{text}</Text>
              </Group>
            ))}
          </Stack>
          {failure !== undefined && failure !== null && (
            <Alert color="red" icon={<IconAlertCircle />} title="Signing in did not work">
              {errorText(failure)}
            </Alert>
          )}
          <Button
            size="md"
            fullWidth
            classNames={{ root: classes.button ?? "" }}
            leftSection={<MicrosoftLogo />}
            loading={signIn.isPending || signIn.isSuccess}
            onClick={() => signIn.mutate()}
            data-testid="sign-in"
          >
            Sign in with Microsoft Entra ID
          </Button>
        </Stack>
      </Paper>
    </Center>
  );
}
