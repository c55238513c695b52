/** The frame around every page of somebody signed in. */
import { AppShell, Avatar, Group, Menu, Text, UnstyledButton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate } from "@tanstack/react-router";

import { meQuery, signOut } from "@/features/auth/api/auth";
import { RealtimeProvider } from "@/realtime/provider";

import { ColorSchemeMenu } from "./ColorSchemeMenu";
import { ConnectionIndicator } from "./ConnectionIndicator";
import classes from "./Shell.module.css";
import { ErrorBoundary } from "./ui/ErrorBoundary";
import { initials } from "./ui/format";
import { IconChartBar, IconKey, IconLogout } from "./ui/icons";
import { Logo } from "./ui/Logo";

export function Shell() {
  return (
    <RealtimeProvider>
      <AppShell header={{ height: 56 }} padding={0}>
        <AppShell.Header className={classes.header ?? ""}>
          <Link to="/" className={classes.brand}>
            <Logo />
            <Text component="span" fw={650} className={classes.name ?? ""}>
              Kanban Platform
            </Text>
          </Link>
          <Group gap="sm" wrap="nowrap">
            <ConnectionIndicator />
            <ColorSchemeMenu />
            <UserMenu />
          </Group>
        </AppShell.Header>
        <AppShell.Main>
          <ErrorBoundary region="This page">
            <Outlet />
          </ErrorBoundary>
        </AppShell.Main>
      </AppShell>
    </RealtimeProvider>
  );
}

function UserMenu() {
  const me = useQuery(meQuery);
  const navigate = useNavigate();
  const name = me.data?.name ?? "";
  return (
    <Menu position="bottom-end" width={220}>
      <Menu.Target>
        <UnstyledButton aria-label="User menu" className={classes.user ?? ""}>
          <Avatar size={32} radius="xl" color="initials" name={name}>
            {initials(name)}
          </Avatar>
        </UnstyledButton>
      </Menu.Target>
      <Menu.Dropdown>
        {me.data && (
          <>
            <div className={classes.who}>
              <Text size="sm" fw={600} truncate>
                {me.data.name}
              </Text>
              <Text size="xs" c="dimmed" truncate>
                {me.data.email}
              </Text>
            </div>
            <Menu.Divider />
          </>
        )}
        <Menu.Item leftSection={<IconChartBar size={16} />} onClick={() => void navigate({ to: "/usage" })}>
          Usage
        </Menu.Item>
        <Menu.Item leftSection={<IconKey size={16} />} onClick={() => void navigate({ to: "/settings/tokens" })}>
          API tokens
        </Menu.Item>
        <Menu.Item
          leftSection={<IconLogout size={16} />}
          onClick={() => {
            void signOut();
            void navigate({ to: "/signin" });
          }}
        >
          Sign out
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
