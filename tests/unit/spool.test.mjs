// A process that does not own the journal writes what it sees into a file for the one that does.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { SpoolDisk, self } from "../../dist/base.js";
import { inFolder } from "./flaky.mjs";

test("what comes while a file is written is written by the next flush", () =>
  inFolder(async (folder) => {
    const disk = new SpoolDisk(folder, self("test"));
    /** @param {string} text @returns {[string, "append", Buffer]} */
    const frame = (text) => ["", "append", Buffer.from(text)];
    disk.add([frame("one ")]);
    const flushing = disk.flush();
    disk.add([frame("two "), frame("three")]);
    await flushing;
    await disk.flush();
    await disk.close();

    const files = readdirSync(join(folder, "spool"));
    const written = files.map((file) => readFileSync(join(folder, "spool", file), "utf8"));
    assert.equal(written.join(""), "one two three");
    assert.equal(disk.dropped, 0);
  }));
