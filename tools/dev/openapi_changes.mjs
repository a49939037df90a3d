// Compares two OpenAPI documents (JSON): one line of JSON per change that a caller sees.
import { readFileSync } from "node:fs";
import { apiDiff } from "api-smart-diff";

const [before, after] = process.argv.slice(2).map((path) => JSON.parse(readFileSync(path, "utf8")));
for (const { type, description, action, path } of apiDiff(before, after)) {
  // What changes in components shows at every route that uses it.
  if (path[0] !== "paths" || !["breaking", "non-breaking"].includes(type)) continue;
  const [, address, method, ...rest] = path;
  const what = description || `[${action}] ${rest.join(".")}`;
  console.log(JSON.stringify({ breaking: type === "breaking", route: `${(method ?? "").toUpperCase()} ${address}`.trim(), what }));
}
