import { Avatar, Badge, Box, Button, Group, Skeleton, Stack, Tabs, Text, Textarea } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import type { Comment } from "@/api/types";
import { Failure } from "@/app/ui/ErrorBoundary";
import { dateTime, initials, relativeTime } from "@/app/ui/format";
import { IconRobot } from "@/app/ui/icons";
import { Markdown } from "@/app/ui/Markdown";
import { notifyError } from "@/app/ui/notify";
import { withComment } from "@/realtime/store";

import { commentsQuery, createComment, historyQuery } from "../api/cards";

export function CardActivity({ cardId, editable }: { cardId: string; editable: boolean }) {
  const [tab, setTab] = useState<string | null>("comments");
  return (
    <Tabs value={tab} onChange={setTab}>
      <Tabs.List mb="md">
        <Tabs.Tab value="comments">Comments</Tabs.Tab>
        <Tabs.Tab value="history">History</Tabs.Tab>
      </Tabs.List>
      <Tabs.Panel value="comments">
        <Comments cardId={cardId} editable={editable} />
      </Tabs.Panel>
      <Tabs.Panel value="history">{tab === "history" && <History cardId={cardId} />}</Tabs.Panel>
    </Tabs>
  );
}

function Comments({ cardId, editable }: { cardId: string; editable: boolean }) {
  const comments = useQuery(commentsQuery(cardId));
  if (comments.error) return <Failure title="The comments cannot be shown" error={comments.error} />;
  if (!comments.data) return <Skeleton height={60} />;
  return (
    <Stack gap="md">
      {comments.data.items.map((comment) => (
        <CommentEntry key={comment.id} comment={comment} />
      ))}
      {comments.data.items.length === 0 && (
        <Text size="sm" c="dimmed">
          No comments yet. An agent at work reads them too.
        </Text>
      )}
      {editable && <WriteComment cardId={cardId} />}
    </Stack>
  );
}

function CommentEntry({ comment }: { comment: Comment }) {
  const agent = comment.author_kind === "agent";
  return (
    <Group component="article" align="flex-start" wrap="nowrap" gap="sm" aria-label={`Comment by ${comment.author_name}`}>
      <Avatar size={30} radius="xl" color={agent ? "brand" : "initials"} name={comment.author_name}>
        {agent ? <IconRobot size={16} /> : initials(comment.author_name)}
      </Avatar>
      <Box flex={1} miw={0}>
        <Group gap="xs">
          <Text size="sm" fw={600}>
            {comment.author_name}
          </Text>
          {agent && (
            <Badge size="xs" variant="light">
              agent
            </Badge>
          )}
          <Text size="xs" c="dimmed" title={dateTime(comment.created_at)}>
            {relativeTime(comment.created_at)}
          </Text>
        </Group>
        <Markdown text={comment.body} />
      </Box>
    </Group>
  );
}

function WriteComment({ cardId }: { cardId: string }) {
  const cache = useQueryClient();
  const [text, setText] = useState("");
  const send = useMutation({
    mutationFn: () => createComment(cardId, text.trim()),
    onSuccess: (comment) => {
      setText("");
      cache.setQueryData(commentsQuery(cardId).queryKey, (page) => (page ? withComment(page, comment) : undefined));
    },
    onError: (error) => notifyError("The comment was not added", error),
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        send.mutate();
      }}
    >
      <Textarea
        aria-label="Write a comment"
        placeholder="Write a comment, in markdown"
        autosize
        minRows={2}
        maxRows={10}
        maxLength={16_000}
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && (event.metaKey || event.ctrlKey) && text.trim() !== "") send.mutate();
        }}
      />
      <Button type="submit" size="xs" mt="xs" loading={send.isPending} disabled={text.trim() === ""}>
        Comment
      </Button>
    </form>
  );
}

function History({ cardId }: { cardId: string }) {
  const history = useQuery(historyQuery(cardId));
  if (history.error) return <Failure title="The history cannot be shown" error={history.error} />;
  if (!history.data) return <Skeleton height={60} />;
  return (
    <Stack gap="xs" component="ol" p={0} m={0} style={{ listStyle: "none" }}>
      {history.data.map((entry) => (
        <Text key={`${entry.time} ${entry.type} ${entry.text}`} component="li" size="sm">
          <b>{entry.by}</b> {entry.text}{" "}
          <Text span size="xs" c="dimmed" title={dateTime(entry.time)}>
            {relativeTime(entry.time)}
          </Text>
        </Text>
      ))}
    </Stack>
  );
}
