import { Alert, Anchor, Code, Group, Modal, Stack, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import type { Board, BoardAgents } from "@/api/types";
import { IconAlertTriangle, IconBulb, IconShieldOff, IconTrash } from "@/app/ui/icons";

import classes from "./Banners.module.css";

export function DeletingBanner({ board }: { board: Board }) {
  return (
    <Stack className={classes.banners ?? ""}>
      <Alert color="orange" variant="light" icon={<IconTrash />} p="xs" role="status">
        <Text size="sm">
          <b>{board.name} is being deleted.</b> Nothing here can be changed any more.{" "}
          <Anchor inherit renderRoot={(props) => <PlaceLink board={board} {...props} />}>
            See how far it is
          </Anchor>
        </Text>
      </Alert>
    </Stack>
  );
}

function PlaceLink({ board, ...props }: { board: Board }) {
  return board.workspace_id === null ? (
    <Link to="/teams/$teamId" params={{ teamId: board.team_id }} {...props} />
  ) : (
    <Link to="/workspaces/$workspaceId" params={{ workspaceId: board.workspace_id }} {...props} />
  );
}

/** What people must know about this board's agents before they trust them. */
export function Banners({ agents }: { agents: BoardAgents }) {
  const [explained, setExplained] = useState(false);
  if (agents.enabled && !agents.demo_model && agents.isolated) return null;
  return (
    <Stack gap={6} className={classes.banners ?? ""}>
      {!agents.enabled && (
        <Alert color="yellow" variant="light" icon={<IconAlertTriangle />} p="xs" role="status">
          <Text size="sm">
            <b>Agents are off on this board.</b> {agents.reason}
          </Text>
        </Alert>
      )}
      {agents.enabled && (agents.demo_model || !agents.isolated) && (
        <Group gap="xs" component="aside" aria-label="About the agents">
          {agents.demo_model && (
            <span className={classes.note}>
              <IconBulb size={15} />
              <span>
                Demo model: the agent follows a small documented grammar;{" "}
                <Anchor component="button" type="button" inherit onClick={() => setExplained(true)}>
                  see how to write a card
                </Anchor>
              </span>
            </span>
          )}
          {!agents.isolated && (
            <span className={classes.note}>
              <IconShieldOff size={15} />
              <span>No isolation: agents run as local processes on this machine</span>
            </span>
          )}
        </Group>
      )}
      {explained && <HowToWriteACard onClose={() => setExplained(false)} />}
    </Stack>
  );
}

const EXAMPLE = `The greeting should name people.

1. Create \`greet/names.py\`:

   \`\`\`python
   DEFAULT = "world"
   \`\`\`

2. Replace in \`greet/hello.py\`:

   \`\`\`python
   print("Hello")
   \`\`\`

   With:

   \`\`\`python
   print(f"Hello, {DEFAULT}")
   \`\`\`

3. Append to \`CHANGES.md\`:

   \`\`\`
   - The greeting names people.
   \`\`\`

4. Run: \`python3 -m unittest\``;

function HowToWriteACard({ onClose }: { onClose: () => void }) {
  return (
    <Modal opened onClose={onClose} title="Writing a card for the demo model" size="lg" centered>
      <Stack>
        <Text size="sm">
          The demo model is a program, not a language model. It reads the card and carries out instructions of these four
          forms, in order, with the same tools a real model would use. A card it cannot read ends with the reason.
        </Text>
        <Code block>{EXAMPLE}</Code>
        <Text size="sm" c="dimmed">
          The whole grammar is in docs/demo-model.md of the project. With an API key for a real model, agents understand
          any text.
        </Text>
      </Stack>
    </Modal>
  );
}
