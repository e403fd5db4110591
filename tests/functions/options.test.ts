import { describe, expect, test } from "vitest";
import { buildManifest, type ProjectDefaults } from "../../supabase/functions/_shared/build-manifest.ts";
import { canonicalJson, sha256Hex } from "../../supabase/functions/_shared/canonical-json.ts";
import { parseManifest } from "../../supabase/functions/_shared/manifest.ts";
import {
  optionsOfActivity,
  resolvedOptionsSchema,
  serviceOptionsSchema,
} from "../../supabase/functions/_shared/service-options.ts";
import { optionCases } from "../database/option-cases.ts";
import { storedManifests } from "./stored-manifests.ts";

const noDefault = { activityEndpoint: undefined };
const withDefault: ProjectDefaults = { activityEndpoint: "https://default.example/{service_schema}/{activity}" };
const service = (options: unknown) => ({
  service_schema: "my_service",
  service_name: "My Service",
  workflows: [{ name: "doIt", activities: ["first", "second"] }],
  options,
});
const built = async (options: unknown, defaults = withDefault) =>
  (await buildManifest(service(options), 1, defaults)).manifest.options;

describe("a manifest of an earlier version is as good as it was", () => {
  test.each(storedManifests)("$version", async ({ manifest, sha256 }) => {
    expect(await sha256Hex(canonicalJson(manifest))).toBe(sha256); // it is what was stored then, to the byte
    const { options, ...rest } = parseManifest("stored", manifest);
    expect({ ...rest, options: manifest.options }).toEqual(manifest);
    expect(options).toEqual({
      ...manifest.options,
      // What activities of its time had all along.
      activity_retry: { initial_interval_seconds: 1, backoff_coefficient: 2, maximum_interval_seconds: 60 },
      activities: {},
    });
  });

  test("one without options, revision and version", () => {
    const { manifest_version: _, revision: __, options: ___, ...first } = storedManifests[0]?.manifest ?? {};
    expect(parseManifest("stored", first)).toMatchObject({ revision: 1, options: { activity_timeout_seconds: 60 } });
  });
});

test("a manifest holds every default", async () => {
  expect(await built({})).toEqual({
    activity_endpoint: "https://default.example/my_service/{activity}",
    activity_timeout_seconds: 60,
    activity_retry: { initial_interval_seconds: 1, backoff_coefficient: 2, maximum_interval_seconds: 60 },
    activities: {},
  });
});

describe("options that were resolved resolve to themselves, and may be written into a row", () => {
  const accepted = optionCases.filter(({ refused }) => refused === undefined);
  test.each(accepted)("$title", async ({ row }) => {
    const resolved = resolvedOptionsSchema.parse(row["options"]);
    expect(resolvedOptionsSchema.parse(resolved)).toEqual(resolved);
    expect(serviceOptionsSchema.parse(resolved)).toEqual(resolved);
  });
});

test("every endpoint gets the service's name", async () => {
  const endpoint = "https://one.example/{service_schema}/x/{activity}?s={service_schema}";
  expect(await built({ activities: { second: { endpoint, timeout_seconds: 5 } } })).toMatchObject({
    activity_endpoint: "https://default.example/my_service/{activity}",
    activities: {
      second: { endpoint: "https://one.example/my_service/x/{activity}?s=my_service", timeout_seconds: 5 },
    },
  });
});

test("where every activity has an endpoint of its own no other is needed; one that has none is named", async () => {
  const endpoint = "https://one.example/";
  const activities = { first: { endpoint }, second: { endpoint } };
  expect(await built({ activities }, noDefault)).toMatchObject({ activities });
  expect(await built({ activities }, noDefault)).not.toHaveProperty("activity_endpoint");
  await expect(built({ activities: { first: { endpoint }, second: { timeout_seconds: 5 } } }, noDefault)).rejects
    .toThrow(
      /names no endpoint for its activity "second" and the project has no default/,
    );
});

test("an activity has its own options, and those of all where it has none", () => {
  const options = resolvedOptionsSchema.parse({
    activity_endpoint: "https://all.example/",
    activity_timeout_seconds: 30,
    activity_max_attempts: 4,
    activity_retry: { initial_interval_seconds: 2, maximum_interval_seconds: 8 },
    activities: {
      quick: { timeout_seconds: 1, retry: { backoff_coefficient: 1 } },
      slow: { endpoint: "https://slow.example/", max_attempts: 1, retry: { initial_interval_seconds: 20 } },
      eager: { retry: { maximum_interval_seconds: 1 } },
    },
  });
  expect(optionsOfActivity(options, "any")).toEqual({
    endpoint: "https://all.example/",
    timeout_seconds: 30,
    max_attempts: 4,
    retry: { initial_interval_seconds: 2, backoff_coefficient: 2, maximum_interval_seconds: 8 },
  });
  expect(optionsOfActivity(options, "quick")).toMatchObject({
    timeout_seconds: 1,
    max_attempts: 4,
    retry: { initial_interval_seconds: 2, backoff_coefficient: 1, maximum_interval_seconds: 8 },
  });
  expect(optionsOfActivity(options, "slow")).toEqual({
    endpoint: "https://slow.example/",
    timeout_seconds: 30,
    max_attempts: 1,
    // The first wait may not be longer than the longest: the one that was named counts.
    retry: { initial_interval_seconds: 20, backoff_coefficient: 2, maximum_interval_seconds: 20 },
  });
  expect(optionsOfActivity(options, "eager").retry).toMatchObject({
    initial_interval_seconds: 1,
    maximum_interval_seconds: 1,
  });
  expect(optionsOfActivity(options, "toString").timeout_seconds).toBe(30);
});
