import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { binary, skip, tgz, versions } from "./options.mjs";
import { moved, updated } from "./ways-to-install.mjs";

/**
 * Runs the documented commands in a terminal with its own home folder. All other ways to install, and the
 * versions between, are tested by `node scripts/installs.mjs`, which writes docs/install.md.
 */

/** The faster one. Replacing AgentWatch's hook does not depend on the version. */
const OLD = "2026.3.13";
const WITHIN_MS = 1_800_000;

for (const version of versions)
  describe(`OpenClaw ${version}, by the documentation`, { skip }, () => {
    const place = { version, tgz: tgz ?? "", binary };

    test("installed from a file, updated with pending calls, removed and purged", {
      timeout: WITHIN_MS,
    }, async () => {
      const { requests, left } = await updated({ ...place, goesBack: false });
      assert.equal(requests, 4, "one before, two that waited, one after");
      const isNew = version !== OLD;
      assert.deepEqual(
        left.filter((name) => !name.startsWith("state/")),
        isNew ? ["`enabled: false`"] : [],
      );
    });

    const older = version !== OLD && "tried on the older one";
    test("AgentWatch's own hook is replaced by this hook, then by the plugin", {
      skip: older,
      timeout: WITHIN_MS,
    }, async () => {
      await moved(place);
    });
  });
