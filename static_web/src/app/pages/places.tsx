/** Pages between sign-in and the board: from an address to what it shows. */
import { useParams } from "@tanstack/react-router";

import { KeysPage } from "@/features/keys/components/KeysPage";
import { InvitePage } from "@/features/teams/components/InvitePage";
import { TeamPage, WorkspacePage } from "@/features/workspaces/components/SetupPages";

export { ApiTokensPage as ApiTokens } from "@/features/auth/components/ApiTokensPage";
export { UsagePage as Usage } from "@/features/usage/components/UsagePage";

export function ModelKeys() {
  return <KeysPage {...useParams({ from: "/signed-in/teams/$teamId/keys" })} />;
}

export function Workspace() {
  return <WorkspacePage {...useParams({ from: "/signed-in/workspaces/$workspaceId" })} />;
}

export function Team() {
  return <TeamPage {...useParams({ from: "/signed-in/teams/$teamId" })} />;
}

export function Invite() {
  return <InvitePage {...useParams({ from: "/signed-in/invite/$token" })} />;
}
