/**
 * A URL template of an endpoint that runs activities. `{service_schema}` and `{activity}` stand for the names;
 * without `{activity}` the activity's name is appended as a path segment.
 */
export function isEndpointTemplate(template: string): boolean {
  const url = URL.parse(fill(template, "service", "activity"));
  return url !== null && (url.protocol === "http:" || url.protocol === "https:") && url.username === "" &&
    url.password === "" && !/[{}]/.test(fill(template, "service", "activity"));
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
