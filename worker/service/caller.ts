import { createSigner } from "../../supabase/functions/_shared/activity-signature.ts";
import type { EndpointSettings } from "../config.ts";
import { workerVersion } from "../worker-version.ts";
import { createAddressPolicy } from "./address-policy.ts";
import type { Caller } from "./post-activity.ts";
import { createPostJson } from "./post-json.ts";

export function createCaller(settings: EndpointSettings): Caller {
  return {
    postJson: createPostJson(createAddressPolicy(settings)),
    sign: settings.secrets.length === 0 ? undefined : createSigner(settings.secrets),
    userAgent: `osp-worker/${workerVersion()}`,
  };
}
