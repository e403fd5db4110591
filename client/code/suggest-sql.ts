/** What to run in SQL so that a service runs the code that was pushed. */

interface Pushed {
  service_schema: string;
  code: string;
  workflows: string[] | undefined;
  activities: string[] | undefined;
}

export function updateSql({ service_schema, code }: Pushed): string {
  return `select * from osp.set_code(${quote(service_schema)}, ${quote(code)});`;
}

/** A row with every name that the code exports: which activities belong to which workflow, its author knows. */
export function insertSql({ service_schema, code, workflows, activities }: Pushed): string {
  // The built-in workflow runs them in this order, under any name; without activities in the code the endpoint has them.
  const names = activities ?? ["first", "second"];
  const rows = (workflows ?? ["run"]).map((name) => ({ name, activities: names }));
  return [
    "insert into osp.services (service_schema, service_name, workflows, options)",
    `values (${quote(service_schema)}, ${quote(service_schema)}, ${quote(JSON.stringify(rows))}, ${
      quote(JSON.stringify({ code }))
    });`,
  ].join("\n");
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
