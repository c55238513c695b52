import { queryOptions } from "@tanstack/react-query";

import { api } from "@/api/client";
import { keys } from "@/api/keys";
import type { Page, StartedTask, StartedWorkspace, Task, TaskStatus, Workspace } from "@/api/types";
import { snapshot } from "@/realtime/apply";

export const workspacesQuery = queryOptions({
  queryKey: keys.workspaces,
  queryFn: async () => (await api.get<Page<Workspace>>("/workspaces")).items,
});

export const workspaceQuery = (id: string) =>
  queryOptions({ queryKey: keys.workspace(id), queryFn: () => api.get<Workspace>(`/workspaces/${id}`) });

export const createWorkspace = (body: { name: string; import_url: string | null }) =>
  api.post<StartedWorkspace>("/workspaces", { body });

export const taskQuery = (id: string) =>
  queryOptions({
    queryKey: keys.task(id),
    queryFn: ({ client }) =>
      snapshot(
        () => api.get<Task>(`/tasks/${id}`),
        () => client.getQueryData<Task>(keys.task(id)),
        (task) => task.sequence,
      ),
    // The feed follows a task by its events; this covers a task that has none yet.
    refetchInterval: ({ state }) => (state.data?.status === "pending" ? 2_000 : false),
  });

export const retryTask = (id: string) => api.post<Task>(`/tasks/${id}/retry`);

export const cancelTask = (id: string) => api.post<Task>(`/tasks/${id}/cancel`);

export type RepositoryChoice = "keep" | "delete";

export const deleteWorkspace = (id: string, repository: RepositoryChoice) =>
  api.delete<StartedTask>(`/workspaces/${id}?repository=${repository}`);

const AT_WORK: TaskStatus[] = ["pending", "running", "rolling_back"];
const FAILED: TaskStatus[] = ["failed", "rolled_back", "needs_attention"];

export const isAtWork = (status: TaskStatus) => AT_WORK.includes(status);
export const hasFailed = (status: TaskStatus) => FAILED.includes(status);
export const isDeletion = ({ plan }: Task) => plan.endsWith(".delete");
