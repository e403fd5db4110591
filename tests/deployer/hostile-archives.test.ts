import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { unpackCode } from "../../deployer/code/unpack-code.ts";
import { packArchive, unpackArchive } from "../../host/code-archive.ts";
import { CODE_LIMITS } from "../../supabase/functions/_shared/service-code.ts";
import { visible } from "../../supabase/functions/_shared/visible-text.ts";
import { tarOf } from "../support/tar.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "osp-test-unpack-"));
  mkdirSync(join(directory, "root"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const unpack = (archive: Buffer) => unpackCode(archive, join(directory, "root"), new AbortController().signal);
/** Everything below the directory, the code root's own two apart. */
const written = () =>
  readdirSync(directory, { recursive: true, encoding: "utf8" }).filter((path) =>
    path !== "root" && path !== "root/code"
  );

test("what was packed is unpacked, to the byte, in files that are nothing but readable", async () => {
  const files = new Map([
    ["code.json", Buffer.from("{}")],
    ["activities.mjs", Buffer.from("x".repeat(1000))],
    ["workflows.mjs", Buffer.alloc(0)],
  ]);
  await unpack(packArchive(files));
  expect(written().sort()).toEqual([
    "root/code/activities.mjs",
    "root/code/code.json",
    "root/code/workflows.mjs",
  ]);
  for (const [name, content] of files) {
    const path = join(directory, "root", "code", name);
    expect(readFileSync(path)).toEqual(content);
    expect(statSync(path).mode & 0o777).toBe(0o644);
  }
});

test("the same files give the same bytes, in whatever order they come", () => {
  const entries: [string, Buffer][] = [["b", Buffer.from("2")], ["a", Buffer.from("1")], ["a.b", Buffer.from("3")]];
  expect(packArchive(new Map(entries))).toEqual(packArchive(new Map(entries.toReversed())));
  expect([...unpackArchive(packArchive(new Map(entries)), CODE_LIMITS).keys()]).toEqual(["a", "a.b", "b"]);
});

const file = (name: string, content = "x") => ({ name, content });
const bomb = (bytes: number) => gzipSync(Buffer.alloc(bytes), { level: 9 });

describe("is refused, and nothing of it is written", () => {
  const cases: [string, Buffer, RegExp][] = [
    [
      "a file of another name",
      packArchive(new Map([["evil.node", Buffer.from("x")]])),
      /"evil\.node", which is no part/,
    ],
    ["what is no gzip", Buffer.from("PK\u0003\u0004"), /it is not gzip/],
    ["nothing", Buffer.alloc(0), /it is not gzip/],
    ["half a gzip", packArchive(new Map([["a", Buffer.from("x")]])).subarray(0, 40), /it is not gzip/],
    ["a symbolic link", tarOf([{ name: "a", type: "2", link: "/etc/passwd" }]), /"a", which is a symbolic link/],
    ["a hard link", tarOf([{ name: "a", type: "1", link: "../../x" }]), /"a", which is a link/],
    ["a device", tarOf([{ name: "null", type: "3" }]), /"null", which is a device/],
    ["a pipe", tarOf([{ name: "a", type: "6" }]), /"a", which is a pipe/],
    ["a directory", tarOf([{ name: "a", type: "5" }]), /"a", which is a directory/],
    ["a long name", tarOf([{ name: "a", type: "L" }]), /which is a long name/],
    ["an extended header", tarOf([{ name: "a", type: "x" }]), /which is an extended header/],
    ["an old kind of file", tarOf([{ name: "a", type: "\0" }]), /which is no regular file/],
    ...[
      ...["../a", "a/../../b", "/etc/passwd", "./a", "a/./b", "a//b", "a/", ".npmrc", "a/.b", "..", "a\\b", "C:a"],
      ...["a\nb", "a\rb", "a\u001b[2J", "a b", "a\u202eb", "$(reboot)", "-rf", "caf\u00e9", "~", ""],
    ].map((name): [string, Buffer, RegExp] => [
      `a path like ${JSON.stringify(name)}`,
      tarOf([file(name)]),
      /a path is relative, of letters, digits/,
    ]),
    [
      "a path that the header cannot hold whole",
      tarOf([{ name: "a", prefix: "../../x", content: "x" }]),
      /does not write/,
    ],
    ["a file twice", tarOf([file("a"), file("a", "y")]), /"a" twice/],
    [
      "a file twice but for its case",
      tarOf([file("code.json"), file("Code.json")]),
      /twice, but for upper and lower case/,
    ],
    ["a file that is a directory too", tarOf([file("a"), file("a/b")]), /both as a file and as a directory/],
    ["101 files", tarOf(Array.from({ length: 101 }, (_, index) => file(`f${index}`))), /more than 100 files/],
    ["a bomb of 64 MiB and a byte", bomb(CODE_LIMITS.unpackedBytes + 1), /unpacks to more than 67108864 bytes/],
    ["a bomb of 1 GiB", bomb(1024 ** 3), /unpacks to more than 67108864 bytes/],
    [
      "a bomb of many members",
      Buffer.concat(Array.from({ length: 100 }, () => bomb(1024 ** 2))),
      /unpacks to more than 67108864 bytes/,
    ],
    ["a size that goes beyond the end", tarOf([{ name: "a", content: "x", size: 10_000 }]), /ends within "a"/],
    ["a size of 8 GiB", tarOf([{ name: "a", content: "x", size: 8 * 1024 ** 3 - 1 }]), /ends within "a"/],
    [
      "a binary size",
      tarOf([{ name: "a", content: "x", rawSize: "\u0080\0\0\0\0\0\0\0\0\0\u0001\0" }]),
      /without a size/,
    ],
    ["a negative size", tarOf([{ name: "a", content: "x", rawSize: "-0000000001\0" }]), /without a size/],
    ["a set-uid mode", tarOf([{ name: "a", content: "x", mode: 0o4755 }]), /does not write/],
    ["a wrong checksum", tarOf([{ name: "a", content: "x", checksum: 1 }]), /does not write/],
    ["another program's archive", tarOf([{ name: "a", content: "x", owner: "root" }]), /does not write/],
    ["an end that is none", tarOf([file("a")], { end: 512 }), /does not end as an archive does/],
    ["something after its end", tarOf([file("a")], { after: "MZ" }), /does not end as an archive does/],
    ["garbage", gzipSync(Buffer.alloc(2048, 0x41)), /no regular file/],
  ];

  test.each(cases)("%s", async (_, archive, reason) => {
    const error: unknown = await unpack(archive).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ class: "permanent", code: "code_unusable", message: expect.stringMatching(reason) });
    const { message } = Object(error);
    expect(message).toBe(visible(message));
    expect(message.length).toBeLessThan(1000);
    expect(written()).toEqual([]);
  });
});

test("an archive that would be refused is not packed either", () => {
  for (const name of ["../a", "a\nb", "/a"]) {
    expect(() => packArchive(new Map([[name, Buffer.from("x")]]))).toThrow(/a path is relative/);
  }
});

describe("a disk without room is nobody's fault", () => {
  const archive = packArchive(new Map([["code.json", Buffer.alloc(1024 ** 2, "x")]]));
  const unavailable = { class: "unavailable", code: "staging_failed" };

  test("full while it is written", async ({ skip }) => {
    const root = join(directory, "root");
    // Takes root; a file system of 64 KiB is full at once.
    const { status } = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "osp-test", root]);
    if (status !== 0) skip("no file system can be mounted here");
    const error: unknown = await unpack(archive).catch((thrown: unknown) => thrown);
    spawnSync("umount", [root]);
    expect(error).toMatchObject({
      ...unavailable,
      message: expect.stringMatching(
        /^Cannot write below .*: ENOSPC: no space left on device, write\. Is its disk full\?/,
      ),
    });
  });

  test("or before anything is", async () => {
    rmSync(join(directory, "root"), { recursive: true });
    await expect(unpack(archive)).rejects.toMatchObject(unavailable);
  });
});

test("a signal ends it", async () => {
  const signal = AbortSignal.abort("shutdown");
  await expect(unpackCode(bomb(1024), join(directory, "root"), signal)).rejects.toBe("shutdown");
});
