import { z } from "zod";

// What supabase-js relies on and @supabase/lite answers otherwise than Supabase's Storage.

const errorSchema = z.looseObject({ statusCode: z.string(), error: z.string(), message: z.string() });

/** By the status in the body; Storage's own names, which supabase-js compares `error.code` with. */
const codes: Record<string, string> = {
  "400": "InvalidKey",
  "403": "AccessDenied",
  "404": "NoSuchKey",
  "409": "KeyAlreadyExists",
  "413": "EntityTooLarge",
  "415": "InvalidMimeType",
};

/** A refusal with the `code` that Storage gives it. */
export async function addErrorCode(response: Response): Promise<Response> {
  if (response.ok || !response.headers.get("content-type")?.includes("json")) return response;
  const text = await response.text();
  const refusal = errorSchema.safeParse(parseJson(text));
  const code = refusal.success ? codeOf(refusal.data) : undefined;
  const body = refusal.success && code !== undefined ? JSON.stringify({ code, ...refusal.data }) : text;
  return new Response(body, { status: response.status, headers: withoutLength(response.headers) });
}

function codeOf({ statusCode, message }: z.infer<typeof errorSchema>): string | undefined {
  return message === "Bucket not found" ? "NoSuchBucket" : codes[statusCode];
}

const listRequestSchema = z.object({
  prefix: z.string().default(""),
  limit: z.int().min(0).default(100),
  offset: z.int().min(0).default(0),
  search: z.string().default(""),
  sortBy: z.unknown().optional(),
});
const listedSchema = z.array(z.looseObject({ name: z.string() }));

/** Lists one folder, names relative to it and deeper folders as one entry each; lite lists full names of everything. */
export async function listFolder(request: Request, ask: (request: Request) => Promise<Response>): Promise<Response> {
  const parsed = listRequestSchema.safeParse(parseJson(await request.text()));
  if (!parsed.success) {
    return Response.json({ statusCode: "400", error: "InvalidRequest", message: z.prettifyError(parsed.error) }, {
      status: 400,
    });
  }
  const { prefix, limit, offset, search, sortBy } = parsed.data;
  const folder = prefix === "" || prefix.endsWith("/") ? prefix : `${prefix}/`;
  const response = await ask(
    new Request(request.url, {
      method: "POST",
      headers: withoutLength(request.headers),
      body: JSON.stringify({ prefix: folder, limit: 100_000, offset: 0, sortBy }),
    }),
  );
  if (!response.ok) return response;
  const entries = new Map<string, object>();
  for (const object of listedSchema.parse(await response.json())) {
    // The prefix is a LIKE pattern to lite: an underscore matches any character.
    if (!object.name.startsWith(folder)) continue;
    const [name = "", ...deeper] = object.name.slice(folder.length).split("/");
    if (!name.includes(search) || entries.has(name)) continue;
    entries.set(name, deeper.length === 0 ? { ...object, name } : folderEntry(name));
  }
  const isFile = (entry: object) => "bucket_id" in entry ? 1 : 0;
  const listed = [...entries.values()].toSorted((a, b) => isFile(a) - isFile(b)); // folders first, each as sorted by lite
  return Response.json(listed.slice(offset, offset + limit), { headers: withoutLength(response.headers) });
}

function folderEntry(name: string): object {
  return { name, id: null, updated_at: null, created_at: null, last_accessed_at: null, metadata: null };
}

function withoutLength(headers: Headers): Headers {
  const copy = new Headers(headers);
  copy.delete("content-length");
  return copy;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
