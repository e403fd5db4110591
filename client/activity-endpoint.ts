// For the author of an activity endpoint; needs nothing of the rest of the client, and no Node: it runs in Deno and at the edge.
import type { ActivityCall } from "../supabase/functions/_shared/activity-call.ts";
import {
  type ActivityRequest,
  ActivityRequestError,
  verifyActivityRequestAt,
  type VerifyOptions,
} from "../supabase/functions/_shared/verify-activity-request.ts";

export { type ActivityCall, type ActivityRequest, ActivityRequestError, type VerifyOptions };

/**
 * The call of an activity, if a worker with our secret has made it a moment ago; see `verifyActivityRequestAt`.
 *
 * @throws {ActivityRequestError} what is wrong with the request: answer with its `status` and `message`
 * @throws {TypeError} what is wrong with how this is called: no secret, a short one, a body that was parsed
 */
export async function verifyActivityRequest(request: ActivityRequest, options: VerifyOptions): Promise<ActivityCall> {
  return await verifyActivityRequestAt(Date.now(), request, options);
}
