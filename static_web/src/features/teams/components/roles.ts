import type { Role } from "@/api/types";
import { mayManageOwners } from "@/app/permissions";

const ROLES: { value: Role; label: string }[] = [
  { value: "viewer", label: "Viewer" },
  { value: "member", label: "Member" },
  { value: "admin", label: "Admin" },
  { value: "owner", label: "Owner" },
];

/** Roles that somebody with `role` may give. */
export function rolesFor(role: Role): { value: Role; label: string }[] {
  return ROLES.filter(({ value }) => value !== "owner" || mayManageOwners(role));
}
