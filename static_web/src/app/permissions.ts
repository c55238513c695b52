/** What each role may do, to offer only what the API will allow; the API decides. */
import type { Role } from "@/api/types";

const RANK: Record<Role, number> = { viewer: 0, member: 1, admin: 2, owner: 3 };

const atLeast = (role: Role, least: Role) => RANK[role] >= RANK[least];

export const mayEdit = (role: Role) => atLeast(role, "member");
export const mayManageMembers = (role: Role) => atLeast(role, "admin");
export const mayManageKeys = (role: Role) => atLeast(role, "admin");
export const mayManageTeam = (role: Role) => atLeast(role, "admin");
export const mayDelete = (role: Role) => atLeast(role, "owner");
export const mayManageOwners = (role: Role) => atLeast(role, "owner");
