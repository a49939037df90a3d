// A typed client of a BitLoot shop, in browsers and in Node.js.
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

export { fetchAndOpen, KeyDamaged, KeyUnreachable, openKey, type OpenedKey } from "./keys.js";
export type { components, operations, paths } from "./schema.js";

export type Problem = components["schemas"]["Problem"];
export type Shop = Client<paths>;

/** The API of the shop at `baseUrl`; with the `accessToken` of an order, everything about that order. */
export function shopAt(baseUrl: string, accessToken?: string): Shop {
  return createClient<paths>({ baseUrl, headers: accessToken ? { Authorization: `Bearer ${accessToken}` } : {} });
}
