// Opens keys as docs/key-format.md seals them: AES-256-GCM, with the place of the key as associated data.
import type { components } from "./schema.js";

type OpenableKey = components["schemas"]["OpenableKey"];

/** These bytes are not the key that was sealed, or it is sealed in a way that this client does not know. */
export class KeyDamaged extends Error {}

/** The sealed key could be fetched from neither of its addresses. Reveal it again for fresh ones. */
export class KeyUnreachable extends Error {}

export interface OpenedKey {
  readonly product: string;
  /** text/plain, or the type of a picture. */
  readonly contentType: string;
  readonly content: Uint8Array;
  readonly text: string;
}

/** Fetches the sealed key, without the order's token because the object store is a third party, and opens it. */
export async function fetchAndOpen(key: OpenableKey): Promise<OpenedKey> {
  for (const address of [key.download_url, key.fallback_url]) {
    const answer = await fetch(address, { credentials: "omit", redirect: "error" }).catch(() => null);
    if (answer?.ok) return openKey(key, new Uint8Array(await answer.arrayBuffer()));
  }
  throw new KeyUnreachable(key.id);
}

/** Opens what `download_url` leads to. */
export async function openKey(key: OpenableKey, sealed: Uint8Array<ArrayBuffer>): Promise<OpenedKey> {
  if (key.algorithm !== "A256GCM") throw new KeyDamaged(`${key.algorithm} is unknown here; a newer client may know it`);
  const secret = await crypto.subtle.importKey("raw", decode(key.key), "AES-GCM", false, ["decrypt"]);
  const how = { name: "AES-GCM", iv: decode(key.nonce), additionalData: decode(key.aad) };
  const content = await crypto.subtle.decrypt(how, secret, sealed).catch(() => null);
  if (!content) throw new KeyDamaged("this is not the key that was sealed");
  const bytes = new Uint8Array(content);
  return { product: key.product, contentType: key.content_type, content: bytes, text: new TextDecoder().decode(bytes) };
}

function decode(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}
