import { generate } from "selfsigned";

/** What a TLS server of one run needs. Everything is PEM. */
export interface Certificates {
  /** The authority that clients must trust; it is no server's certificate itself, which rustls would refuse. */
  authority: string;
  certificate: string;
  key: string;
}

/**
 * An authority made for this run, and a certificate of a host by it. Both expire within a day.
 *
 * @param usage which end of a connection shows the certificate
 */
export async function createCertificates(
  host: string,
  usage: "serverAuth" | "clientAuth" = "serverAuth",
): Promise<Certificates> {
  const authority = await generate([{ name: "commonName", value: "Stand-in authority" }], {
    ...validity(),
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true },
    ],
  });
  const server = await generate([{ name: "commonName", value: host }], {
    ...validity(),
    ca: { key: authority.private, cert: authority.cert },
    extensions: [
      { name: "basicConstraints", cA: false, critical: true },
      { name: "keyUsage", digitalSignature: true, critical: true },
      { name: "extKeyUsage", [usage]: true },
      { name: "subjectAltName", altNames: [{ type: 2, value: host }] },
    ],
  });
  return { authority: authority.cert, certificate: server.cert, key: server.private };
}

function validity() {
  const hour = 3_600_000;
  return {
    keyType: "ec" as const,
    algorithm: "sha256",
    notBeforeDate: new Date(Date.now() - hour),
    notAfterDate: new Date(Date.now() + 23 * hour),
  };
}
