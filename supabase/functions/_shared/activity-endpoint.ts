/**
 * A URL template of an endpoint that runs activities. `{service_schema}` and `{activity}` stand for the names;
 * without `{activity}` the activity's name is appended as a path segment.
 */
export function isEndpointTemplate(template: string): boolean {
  // The parser passes over line breaks, tabs, blanks at the ends and what does not show, and mends a backslash: what is
  // written is not what is asked then.
  if (!/^https?:\/\//i.test(template) || /[\s\\\p{Cc}\p{Cf}\p{Cs}]/u.test(template)) return false;
  const filled = fill(template, "service", "activity");
  const url = URL.parse(filled);
  return url !== null && url.username === "" && url.password === "" && !/[{}]/.test(filled);
}

/** The template for one service: `{service_schema}` filled in, `{activity}` kept. */
export function endpointOfService(template: string, serviceSchema: string): string {
  return template.replaceAll("{service_schema}", encodeURIComponent(serviceSchema));
}

/** Where one activity of a service is posted to. */
export function activityUrl(endpoint: string, activity: string): string {
  const name = encodeURIComponent(activity);
  if (endpoint.includes("{activity}")) return endpoint.replaceAll("{activity}", name);
  const url = new URL(endpoint);
  url.pathname = `${url.pathname.replace(/\/$/, "")}/${name}`;
  return url.href;
}

function fill(template: string, serviceSchema: string, activity: string): string {
  return endpointOfService(template, serviceSchema).replaceAll("{activity}", encodeURIComponent(activity));
}
