import { z } from "zod";

// Apart from service.ts: a worker needs the names, and would build all that a service may say beside them whenever it starts.

/** `osp.services.service_schema`: also a file name, a platform service name and the stem of a task queue. */
export const serviceSchemaName = z
  .string("must be a string")
  .regex(/^[a-z][a-z0-9_]{0,62}$/, "must match ^[a-z][a-z0-9_]{0,62}$");

/** Every object has a member of these names, and every module may have a default export: none can name anything else. */
const RESERVED_NAMES = new Set(["default", ...Object.getOwnPropertyNames(Object.prototype)]);

/** A workflow's or an activity's name: a JavaScript identifier, for own code exports it under this name. */
export const codeName = z
  .string("must be a string")
  .regex(/^[A-Za-z_$][A-Za-z0-9_$]{0,127}$/, "must match ^[A-Za-z_$][A-Za-z0-9_$]{0,127}$")
  .refine((name) => !/^__(temporal|osp)_/.test(name), "must not begin with __temporal_ or __osp_: both are reserved")
  .refine((name) => !RESERVED_NAMES.has(name), "is reserved in JavaScript: choose another name");
