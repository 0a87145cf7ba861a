// Upper or lower bounds of figures. A missed bound is shown and fails nothing, since machines and their load differ.

/** @typedef {{ bench: string, figure: string, most?: number, least?: number }} Budget */

/** @type {Budget[]} */
export const budgets = [
  // Without texts of several pieces: see the benchmark's note.
  ...["short messages", "1 MB messages"].flatMap((size) => [
    { bench: "hook", figure: `handler, ${size}, p50`, most: 2 },
    { bench: "hook", figure: `handler, ${size}, p99`, most: 10 },
  ]),
  // The main thread may spend what the peer spends.
  ...[10, 1_000, 10_000].flatMap((rate) => [
    { bench: "cost", figure: `plugin, gateway at ${rate}/s, main thread, of OpenTelemetry's`, most: 1 },
    { bench: "cost", figure: `plugin, messages at ${rate}/s, main thread, of OpenTelemetry's`, most: 1 },
  ]),
  // An allowance that stops costs nothing where no call begins.
  ...[1_000, 10_000].map((rate) => ({
    bench: "cost",
    figure: `stop, gateway at ${rate}/s, main thread, of the plugin's without an allowance`,
    most: 1.05,
  })),
  // A gateway with ten events a second makes a call each second.
  ...[0, 10].map((rate) => ({
    bench: "gate",
    figure: `check beside ${rate} events/s, p99`,
    most: 1,
  })),
  ...[10, 1_000].map((rate) => ({
    bench: "cost",
    figure: `plugin, gateway at ${rate}/s, CPU, of 0.1.0's`,
    most: 0.5,
  })),
  { bench: "cost", figure: "plugin, gateway at 10000/s, CPU, of 0.1.0's", most: 1 },
  { bench: "cost", figure: "old, messages at 1000/s, times the plugin's CPU", least: 15 },
  { bench: "cost", figure: "plugin, gateway at 1000/s, POSTs a second", most: 10 },
  { bench: "cost", figure: "plugin, messages at 1000/s, POSTs a second", most: 10 },
  { bench: "start", figure: "package unpacked", most: 2_048 },
  { bench: "start", figure: "load the plugin and start the worker, main thread", most: 5 },
  { bench: "memory", figure: "idle, above the control", most: 40 },
  { bench: "memory", figure: "after a million events, above the control", most: 55 },
  { bench: "journalled", figure: "event to the journal's file, p95", most: 300 },
  { bench: "stall", figure: "plugin, stalled disk, of the delay without the plugin", most: 1.1 },
  { bench: "core", figure: "transcripts, wasm", least: 100 },
  { bench: "core", figure: "transcripts, native, of serde_json's speed", least: 60 },
  { bench: "proxy", figure: "100 streams, added p50", most: 1 },
  { bench: "proxy", figure: "100 streams, added p99", most: 5 },
  { bench: "receiver", figure: "records taken in", least: 50_000 },
  { bench: "receiver", figure: "model-stats of a million calls", most: 50 },
  { bench: "receiver-names", figure: "8 pages at once of 1,000,000 names, the slowest", most: 2_000 },
  { bench: "receiver-names", figure: "memory with all of it, peak", most: 500 },
  ...["2026.9.6", "2026.3.13"].map((version) => ({
    bench: "gateway",
    figure: `${version}, main thread a turn that is the plugin's`,
    most: 0.2,
  })),
];
