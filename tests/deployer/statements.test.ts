import { expect, test } from "vitest";
import { createStatements } from "../../deployer/statements.ts";
import { useDatabase } from "../support/database.ts";

const database = useDatabase();
const STATEMENT = `select $1::integer + 1 as next`;

test("a statement is planned once a connection", async () => {
  const pool = database.deployerPool(1);
  const run = createStatements(pool);
  for (let number = 1; number <= 20; number++) {
    expect((await run(STATEMENT, [number])).rows).toEqual([{ next: number + 1 }]);
  }
  const { rows } = await pool.query(
    `select statement, generic_plans + custom_plans > 0 as is_used from pg_prepared_statements`,
  );
  expect(rows).toEqual([{ statement: STATEMENT, is_used: true }]);
});

test("behind a pooler that gives each transaction another session, statements run without names", async () => {
  const pool = database.deployerPool(1);
  const run = createStatements(pool);
  await run(STATEMENT, [1]);
  await pool.query(`deallocate all`); // as if the next transaction met another session
  expect((await run(STATEMENT, [1])).rows).toEqual([{ next: 2 }]);
  expect((await run(STATEMENT, [2])).rows).toEqual([{ next: 3 }]);
  expect((await pool.query(`select name from pg_prepared_statements`)).rows).toEqual([]);
});

test("a session on which another client of the pooler has prepared the statement serves as well", async () => {
  const first = database.deployerPool(1);
  await createStatements(first)(STATEMENT, [1]);
  const { rows: [prepared] } = await first.query(`select name from pg_prepared_statements`);
  const second = database.deployerPool(1);
  await second.query(`prepare ${prepared.name} (integer) as ${STATEMENT}`);
  expect((await createStatements(second)(STATEMENT, [1])).rows).toEqual([{ next: 2 }]);
});

test("an error of the statement itself is thrown", async () => {
  const run = createStatements(database.deployerPool(1));
  await expect(run(`select 1 / $1::integer`, [0])).rejects.toMatchObject({ code: "22012" });
});
