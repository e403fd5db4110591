import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { parseNetwork } from "../../host/activity-settings.ts";
import { createAddressPolicy } from "../../worker/service/address-policy.ts";
import type { Resolve } from "../../worker/service/guarded-lookup.ts";
import { createPostJson } from "../../worker/service/post-json.ts";
import { eventually } from "../support/services.ts";
import { reply, startActivityServer } from "./support/activity-server.ts";
import { manifestOf } from "./support/manifests.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "./support/service-fixture.ts";

const policyOf = (networks: string[], allowsPlainHttp = false) =>
  createAddressPolicy({ networks: networks.flatMap((text) => parseNetwork(text) ?? []), allowsPlainHttp });

describe("addresses that are no public ones are refused, in whatever family they are written", () => {
  const strict = policyOf([]);
  test.each([
    ["127.0.0.1", /^127\.0\.0\.1 is a loopback address, .* add it or its network to OSP_ACTIVITY_NETWORKS$/],
    ["127.255.255.254", /loopback/],
    ["::1", /loopback/],
    ["10.0.0.1", /a private address/],
    ["172.16.0.1", /a private address/],
    ["172.31.255.255", /a private address/],
    ["192.168.1.1", /a private address/],
    ["fc00::1", /unique local/],
    ["fdab::1", /unique local/],
    ["169.254.169.254", /link-local/],
    ["fe80::1", /link-local/],
    ["fe80::1%eth0", /^fe80::1 is a link-local/],
    ["100.64.0.1", /carrier-grade NAT/],
    ["100.100.100.200", /carrier-grade NAT/],
    ["0.0.0.0", /reserved/],
    ["0.1.2.3", /reserved/],
    ["::", /reserved/],
    ["192.0.0.192", /reserved/],
    ["198.18.0.1", /reserved/],
    ["224.0.0.1", /reserved/],
    ["255.255.255.255", /reserved/],
    ["ff02::1", /reserved/],
    ["fec0::1", /reserved/],
    ["2001:db8::1", /reserved/],
    ["2001::1", /reserved/],
    ["2001:2::1", /reserved/],
    ["168.63.129.16", /^168\.63\.129\.16 is the address of Azure's host/],
    ["::ffff:168.63.129.16", /^168\.63\.129\.16 is the address of Azure's host/],
    ["64:ff9b:1::1", /reserved/],
    ["4000::1", /reserved/],
    // IPv6 addresses that lead to one of IPv4: mapped, compatible, NAT64, 6to4.
    ["::ffff:127.0.0.1", /^127\.0\.0\.1 is a loopback/],
    ["::ffff:a9fe:a9fe", /^169\.254\.169\.254 is a link-local/],
    ["0:0:0:0:0:FFFF:0A00:0001", /^10\.0\.0\.1 is a private/],
    ["::10.0.0.1", /^10\.0\.0\.1 is a private/],
    ["64:ff9b::10.0.0.1", /^10\.0\.0\.1 is a private/],
    ["2002:7f00:1::", /^127\.0\.0\.1 is a loopback/],
    ["nonsense", /reserved/],
  ])("%s", (address, told) => {
    expect(strict.refusalOf(address, "https:")).toMatch(told);
  });

  test.each([
    "1.1.1.1",
    "172.15.255.255",
    "172.32.0.1",
    "100.128.0.1",
    "168.63.129.15",
    "168.63.129.17",
    "2001:2:1::1",
    "2606:4700::1111",
    "::ffff:1.1.1.1",
    "64:ff9b::1.1.1.1",
  ])(
    "%s is a public one",
    (address) => {
      expect(strict.refusalOf(address, "https:")).toBeUndefined();
      expect(strict.refusalOf(address, "http:")).toMatch(
        /in the clear: use https, or set OSP_ACTIVITY_PLAIN_HTTP=true$/,
      );
    },
  );
});

test("a setting allows the networks that it names, in either family, and no other", () => {
  const policy = policyOf(["10.1.0.0/16", "fd12::/16", "127.0.0.1"]);
  const refused = (address: string, protocol: "http:" | "https:" = "https:") => policy.refusalOf(address, protocol);
  for (const address of ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd12::5", "127.0.0.1"]) {
    expect(refused(address)).toBeUndefined();
  }
  for (const address of ["10.2.0.1", "fd13::5", "127.0.0.2", "169.254.169.254"]) expect(refused(address)).toBeDefined();
  expect(refused("127.0.0.1", "http:")).toBeUndefined(); // nothing leaves the machine
  expect(refused("10.1.2.3", "http:")).toMatch(/in the clear/);
  expect(policyOf(["10.0.0.0/8"], true).refusalOf("10.1.2.3", "http:")).toBeUndefined();
});

test.each([
  "",
  "10.0.0.0/33",
  "10.0.0.0/-1",
  "10.0.0.0/",
  "10.0.0/8",
  "::/129",
  "fe80::1%eth0/64",
  "a.example",
  "1.2.3.4/8/8",
])(
  "%s is no network",
  (text) => {
    expect(parseNetwork(text)).toBeUndefined();
  },
);

describe("on a connection", () => {
  /** Two hosts on one port: what comes to the second one must not. */
  const hosts: { server: Server; requests: string[]; connections: number }[] = [];
  let port: number;
  beforeAll(async () => {
    port = await listen("127.0.0.1", 0);
    await listen("127.0.0.2", port);
  });
  afterAll(async () => {
    for (const { server } of hosts) {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    }
  });

  async function listen(address: string, wanted: number): Promise<number> {
    const host = { requests: new Array<string>(), connections: 0 };
    let onSocket = 0;
    const server = createServer((request, response) => {
      host.requests.push(request.headers.host ?? "");
      // Its second request on a connection is cut off: as where the server had closed it a moment before.
      if (request.url === "/cut" && onSocket++ === 1) request.socket.destroy();
      else request.resume().on("end", () => response.end(`"${address}"`));
    }).on("connection", () => host.connections++).listen(wanted, address);
    await once(server, "listening");
    hosts.push(Object.assign(host, { server }));
    return Number(Object(server.address()).port);
  }

  const post = async (postJson: ReturnType<typeof createPostJson>, url: string) => {
    const signal = AbortSignal.timeout(20_000);
    const answer = await postJson({ url: new URL(url), headers: {}, body: "{}", signal, maxAnswerBytes: 1000 });
    return answer.body.toString();
  };
  const only1 = policyOf(["127.0.0.1"]);
  const counted = (index: number) => hosts[index]?.requests.length;

  test("an address is refused in every spelling that a URL may have of it", async () => {
    const postJson = createPostJson(policyOf([]));
    const before = [counted(0), counted(1)];
    for (
      const host of [
        "127.0.0.1",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "017700000001",
        "①②⑦.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "localhost",
        "LOCALHOST",
      ]
    ) {
      await expect(post(postJson, `http://${host}:${port}/`), host).rejects.toThrow(/is a loopback address/);
    }
    await expect(post(postJson, `http://0:${port}/`)).rejects.toThrow(/0\.0\.0\.0 is a reserved address/);
    await expect(post(postJson, `http://[::]:${port}/`)).rejects.toThrow(/:: is a reserved address/);
    expect([counted(0), counted(1)]).toEqual(before);
  });

  test("of the addresses of a name those alone are called that may be", async () => {
    const both: Resolve = (_, __, callback) =>
      callback(null, [{ address: "127.0.0.2", family: 4 }, { address: "127.0.0.1", family: 4 }]);
    expect(await post(createPostJson(only1, both), `http://name.example:${port}/`)).toBe('"127.0.0.1"');
  });

  test("a name that led to an allowed address and then to another is refused there (DNS rebinding)", async () => {
    const answers = ["127.0.0.1", "127.0.0.2"];
    const rebinding: Resolve = (_, __, callback) => callback(null, [{ address: answers.shift() ?? "", family: 4 }]);
    const postJson = createPostJson(only1, rebinding);
    const before = counted(1);
    expect(await post(postJson, `http://name.example:${port}/`)).toBe('"127.0.0.1"');
    hosts[0]?.server.closeAllConnections();
    await expect(post(postJson, `http://name.example:${port}/`)).rejects.toThrow(
      /^name\.example: 127\.0\.0\.2 is a loopback address/,
    );
    expect(counted(1)).toBe(before);
  });

  test("connections are kept for the next call", async () => {
    const postJson = createPostJson(only1);
    const before = hosts[0]?.connections ?? 0;
    for (let call = 0; call < 5; call++) await post(postJson, `http://127.0.0.1:${port}/`);
    expect(hosts[0]?.connections).toBe(before + 1);
  });

  test("a kept connection that was closed meanwhile costs no attempt", async () => {
    const postJson = createPostJson(only1);
    expect(await post(postJson, `http://127.0.0.1:${port}/cut`)).toBe('"127.0.0.1"');
    expect(await post(postJson, `http://127.0.0.1:${port}/cut`)).toBe('"127.0.0.1"');
  });
});

describe("a worker", () => {
  let fixture: ServiceFixture;
  beforeAll(async () => {
    fixture = await startServiceFixture();
  }, 60_000);
  afterAll(() => fixture.stop(), 60_000);
  const codeRootOf = (schema: string, options: object) =>
    fixture.codeRoot({ "manifest.json": manifestOf({ schema, workflows: { bill: ["one", "two"] }, options }) });
  const none = { OSP_ACTIVITY_NETWORKS: "" };

  test.each<[string, object, Record<string, string>, RegExp[]]>([
    [
      "http to a private address",
      { activity_endpoint: "http://10.1.2.3/{activity}" },
      none,
      [/^options\.activity_endpoint: http:\/\/10\.1\.2\.3: 10\.1\.2\.3 is a private address.*OSP_ACTIVITY_NETWORKS$/],
    ],
    [
      "a cloud's metadata, written as one number, for one activity",
      {
        activity_endpoint: "https://service.invalid/",
        activities: { two: { endpoint: "https://2852039166/latest/{activity}" } },
      },
      none,
      [/^options\.activities\.two\.endpoint: https:\/\/169\.254\.169\.254: 169\.254\.169\.254 is a link-local address/],
    ],
    ["a name of this machine", { activity_endpoint: "https://localhost:1/" }, none, [
      /^options\.activity_endpoint: https:\/\/localhost:1: .*a loopback address/,
    ]],
    [
      "http to a public address",
      { activity_endpoint: "http://203.0.114.1/" },
      none,
      [/^options\.activity_endpoint: http:\/\/203\.0\.114\.1: http would send everything .* set OSP_ACTIVITY_PLAIN_HTTP=true$/],
    ],
    [
      "what another setting does not allow",
      { activity_endpoint: "http://10.1.2.3/" },
      { OSP_ACTIVITY_NETWORKS: "10.1.0.0/16" },
      [/in the clear/],
    ],
  ])("refuses before it polls: %s", async (_, options, environment, problems) => {
    const worker = fixture.worker(codeRootOf(uniqueSchema(), options), environment);
    expect(await worker.exit()).toMatchObject({
      code: 78,
      last: { event: "worker.exit", problems: problems.map((problem) => expect.stringMatching(problem)) },
    });
  });

  test.each<[string, object, Record<string, string>]>([
    ["a network that a setting names", { activity_endpoint: "https://10.1.2.3/" }, {
      OSP_ACTIVITY_NETWORKS: " 192.168.0.0/16 , 10.0.0.0/8",
    }],
    ["http where a setting allows it", { activity_endpoint: "http://203.0.114.1/" }, {
      OSP_ACTIVITY_PLAIN_HTTP: "true",
    }],
    ["a name that nobody knows yet", { activity_endpoint: "https://service.invalid/" }, none],
  ])("polls with an endpoint in %s", async (_, options, environment) => {
    const worker = fixture.worker(codeRootOf(uniqueSchema(), options), environment);
    await worker.event("worker.ready");
    await worker.kill();
  });

  test.each([
    [{ OSP_ACTIVITY_NETWORKS: "10.0.0.0/33,everything" }, [
      /NETWORKS: "10\.0\.0\.0\/33" is no network/,
      /"everything" is no network/,
    ]],
    [{ OSP_ACTIVITY_PLAIN_HTTP: "yes" }, [/OSP_ACTIVITY_PLAIN_HTTP: must be true or false/]],
    [{ OSP_ACTIVITY_SECRET: "s3cr3t" }, [/OSP_ACTIVITY_SECRET: must have at least 16 characters/]],
  ])("is told which of its settings is wrong: %o", async (environment, problems) => {
    const worker = fixture.worker(
      codeRootOf(uniqueSchema(), { activity_endpoint: "https://service.invalid/" }),
      environment,
    );
    const { code, last } = await worker.exit();
    expect(code).toBe(78);
    expect(last?.["problems"]).toEqual(problems.map((problem) => expect.stringMatching(problem)));
    expect(JSON.stringify(worker.lines)).not.toContain("s3cr3t");
  });

  test("a workflow whose endpoint its worker may not call waits until it may", async () => {
    const server = await startActivityServer(({ body }, response, number) =>
      reply(response, body["activity"] === "one" && number === 1 ? 503 : 200, "done")
    );
    onTestFinished(() => server.close());
    const schema = uniqueSchema();
    const codeRoot = codeRootOf(schema, { activity_endpoint: server.url });
    const first = fixture.worker(codeRoot);
    await first.event("worker.ready");
    const handle = await fixture.client.workflow.start("bill", { taskQueue: `${schema}-tasks`, workflowId: schema });
    await server.call(() => true);
    await first.kill();

    // The next revision has neither its activities nor the setting: its worker starts, and refuses the call.
    const manifest = manifestOf({ schema, revision: 2, workflows: { other: ["three"] } });
    codeRoot.write("manifest.json", {
      ...manifest,
      options: { activities: { three: { endpoint: "https://service.invalid/" } } },
    });
    const second = fixture.worker(codeRoot, none);
    await second.event("worker.ready");
    const failed = await eventually(
      async () => (await handle.describe()).raw.pendingActivities?.[0]?.lastFailure?.message ?? "",
      (message) => message.includes("was not made"),
    );
    expect(failed).toMatch(/^POST http:\/\/127\.0\.0\.1:\d+\/one was not made: 127\.0\.0\.1 is a loopback address/);
    await second.kill();

    fixture.worker(codeRoot);
    expect(await handle.result()).toBe("done");
  }, 60_000);
});
