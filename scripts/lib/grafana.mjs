import { npmPackages } from "./locks.mjs";

/** Grafana's own types of its dashboards. @returns {Promise<string>} The folder whose `node_modules` has them. */
export function grafanaSchema() {
  return npmPackages("grafana-schema", "tools/grafana-schema", "install Grafana's schema");
}
