// Checks resources of the Prometheus operator by its own schemas: node deploy_lint.mjs NODE_MODULES < list of them in JSON
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const folder = resolve(process.argv[2], "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1");
const models = await import(pathToFileURL(`${folder}/index.js`));
let wrong = 0;
for (const resource of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    new models[resource.kind](resource).validate();
  } catch (error) {
    wrong += 1;
    console.log(`${resource.kind} ${resource.metadata.name}: ${error.message}`);
  }
}
process.exit(wrong ? 1 : 0);
