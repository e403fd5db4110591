import { randomBytes } from "node:crypto";
import pg from "pg";
import { afterAll, beforeAll } from "vitest";
import type { TestDatabase } from "./database.ts";

export interface RoleLogins<Role extends string> {
  /** Name of the login that is a member of this role and of no other. */
  nameOf(role: Role): string;
  /** A connection of that login, by its password; ended with the test file. */
  connect(role: Role): Promise<pg.Client>;
}

/** A login for each role, as an operator makes one; roles belong to the whole server, so they go with the test file. */
export function useRoleLogins<Role extends string>(database: TestDatabase, roles: readonly Role[]): RoleLogins<Role> {
  const suffix = randomBytes(4).toString("hex");
  const nameOf = (role: Role) => `osp_test_${suffix}_${role}`;
  const clients: pg.Client[] = [];
  beforeAll(async () => {
    for (const role of roles) {
      await database.rows(`create role ${nameOf(role)} login password 'osp_test' in role ${role}`);
    }
  });
  afterAll(async () => {
    await Promise.all(clients.map((client) => client.end().catch(() => {})));
    for (const role of roles) await database.rows(`drop owned by ${nameOf(role)}; drop role ${nameOf(role)}`);
  });
  return {
    nameOf,
    async connect(role) {
      const connectionString = database.url.replace("postgres:postgres@", `${nameOf(role)}:osp_test@`);
      const client = new pg.Client({ connectionString });
      client.on("error", () => {});
      await client.connect();
      clients.push(client);
      return client;
    },
  };
}
