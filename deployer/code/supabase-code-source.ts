import { createClient } from "@supabase/supabase-js";
import { CODE_BUCKET, CODE_LIMITS, codeObject } from "../../supabase/functions/_shared/service-code.ts";
import { formatError } from "../../supabase/functions/_shared/problems.ts";
import { PlatformError } from "../platforms/platform.ts";
import type { CodeSource } from "./code-source.ts";

export interface CodeStorageSettings {
  url: string;
  /** Secret. */
  secretKey: string;
}

const DOWNLOAD_MS = 60_000;

/** Code as it lies in Supabase Storage. What it is, whoever asks compares. */
export function createSupabaseCodeSource({ url, secretKey }: CodeStorageSettings): CodeSource {
  const supabase = createClient(url, secretKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    global: { fetch: fetchCapped },
  });
  return {
    async fetch(serviceSchema, code, signal) {
      const path = codeObject(serviceSchema, code);
      const limit = AbortSignal.any([signal, AbortSignal.timeout(DOWNLOAD_MS)]);
      try {
        const { data, error } = await supabase.storage.from(CODE_BUCKET).download(path, {}, { signal: limit });
        signal.throwIfAborted();
        if (error !== null) throw explain(error, path, url);
        return Buffer.from(await data.arrayBuffer());
      } catch (error) {
        signal.throwIfAborted();
        throw error instanceof PlatformError ? error : unreachable(error, url);
      }
    },
  };
}

/** The key goes nowhere but where it is meant to, and nothing larger than code may be comes back. */
async function fetchCapped(input: string | URL | Request, init?: RequestInit): Promise<Response> {
  const response = await fetch(input, { ...init, redirect: "error" });
  let bytes = 0;
  const cap = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      bytes += chunk.length;
      if (bytes > CODE_LIMITS.archiveBytes) controller.error(new CodeTooLargeError());
      else controller.enqueue(chunk);
    },
  });
  return new Response(response.body?.pipeThrough(cap) ?? null, response);
}

class CodeTooLargeError extends Error {
  override readonly name = "CodeTooLargeError";

  constructor() {
    super(`it has more than ${CODE_LIMITS.archiveBytes} bytes`);
  }
}

interface StorageFailure {
  message: string;
  status?: number | undefined;
  /** The true status: Storage answers most refusals with HTTP 400 and puts it into the body. */
  statusCode?: string | undefined;
  code?: string | undefined;
}

function explain(failure: StorageFailure, path: string, url: string): PlatformError {
  const told = new Set([failure.statusCode, failure.code, String(failure.status)]);
  const is = (...facts: string[]) => facts.some((fact) => told.has(fact));
  const isOfBucket = is("NoSuchBucket") || /bucket/i.test(failure.message);
  const make = (errorClass: "permanent" | "unavailable", code: string, message: string) =>
    new PlatformError(errorClass, code, message, {}, { cause: failure });
  if (causesOf(failure).some((cause) => cause instanceof CodeTooLargeError)) {
    return make(
      "permanent",
      "code_too_large",
      `The code ${path} of Storage has more than ${CODE_LIMITS.archiveBytes} bytes`,
    );
  }
  if (is("404", "NoSuchKey") && !isOfBucket) {
    const [schema] = path.split("/");
    return make(
      "permanent",
      "code_missing",
      `Storage does not have the code ${path}: push it again by \`osp code push ${schema} <directory>\`, then: ` +
        `select osp.redeploy('${schema}')`,
    );
  }
  if (isOfBucket && is("404", "NoSuchBucket")) {
    return make(
      "unavailable",
      "code_storage_refused",
      `Storage at ${url} has no bucket "${CODE_BUCKET}": apply the migrations`,
    );
  }
  if (is("401", "403", "AccessDenied")) {
    return make("unavailable", "code_storage_refused", `Storage at ${url} refuses SUPABASE_SECRET_KEY of the deployer`);
  }
  return unreachable(failure, url);
}

function unreachable(error: unknown, url: string): PlatformError {
  const message = `Storage at ${url} does not give the service's code: ${formatError(error)}`;
  return new PlatformError("unavailable", "code_storage_unreachable", message, {}, { cause: error });
}

/** supabase-js wraps what its fetch throws. */
function causesOf(error: unknown): unknown[] {
  const { cause, originalError } = Object(error);
  return [error, ...[cause, originalError].filter((inner) => inner !== undefined).flatMap(causesOf)];
}
