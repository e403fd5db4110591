export type Redact = (text: string) => string;

/** Shorter ones would black out ordinary words. */
const SHORTEST = 4;

/** Replaces every secret in a text, also where it stands escaped as in JSON or in a URL, or with its lines joined. */
export function createRedact(secrets: Iterable<string>): Redact {
  const forms = [...secrets].map((secret) => secret.trim()).filter((secret) => secret.length >= SHORTEST)
    .flatMap((secret) => [secret, escaped(secret), encodeURIComponent(secret), secret.replaceAll(/\s*\n\s*/g, " ")]);
  // Longest first: a secret may be part of another one.
  const unique = [...new Set(forms)].toSorted((one, other) => other.length - one.length);
  return (text) => unique.reduce((rest, secret) => rest.replaceAll(secret, "***"), text);
}

function escaped(secret: string): string {
  return JSON.stringify(secret).slice(1, -1);
}

/** Passwords of proxies, from variables that name them. */
export function passwordsOf(variables: Record<string, string>): string[] {
  return Object.values(variables).flatMap((url) => (URL.canParse(url) ? [new URL(url).password] : []));
}
