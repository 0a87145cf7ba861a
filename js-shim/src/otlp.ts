/**
 * The way out to an OpenTelemetry collector. It follows the journal: what it tells is on disk, and its progress is its
 * own, in a folder beside it. Segments that AgentWatch is done with come there until they are read, so a
 * collector that is away holds up nobody.
 */

import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { isMissing, makeFolder, otherKind, readOwn, replaceOwn, statsOf } from "./files.js";
import { Outlet } from "./outlet.js";
import type { Log } from "./pipeline.js";
import { asPairs } from "./prices.js";
import { reason, withDeadline } from "./promises.js";
import type { Instance, OtlpExporter } from "./wasm.js";

/** Where to send. Its headers are not for logs. */
export interface Target {
  url: string;
  headers: [name: string, value: string][];
}

/** What the follower needs of the pipeline. */
export interface OtlpHost {
  io(): Instance;
  log: Log;
  wall(): number;
  mono(): number;
  /** Whether this process owns the journal: only one may follow it. */
  isOwner(): boolean;
  /** Our folder in the gateway's state directory. */
  folder: string;
  gateway: string;
}

/** How soon what was written is looked at, in ms. */
const LOOK_AFTER_MS = 500;
/** How often changed sums are told, in ms. */
const METRICS_EVERY_MS = 10_000;
/** How often they are told anyhow: collectors take what is silent for gone. */
const METRICS_ANYHOW_MS = 60_000;
/** The most bytes of traces that wait for the collector, beyond those in the journal. */
const MOST_WAITING = 16 * 1024 * 1024;
const STATE = "state.awj";

interface Segment {
  path: string;
  /** As in the journal: the time of an archived file is no part of its identity. */
  name: string;
  size: number;
  isKept: boolean;
}

/** The folder, in the plugin's own, for segments that the journal is done with and the collector is not, and for the state. */
export const ARCHIVE = "otlp";

function archiveOf(folder: string): string {
  return join(folder, ARCHIVE);
}

/** Follows a journal as the settings say; nothing where they name no collector, or none that can be used, which is said. */
export function openOtlp(
  host: Omit<OtlpHost, "gateway">,
  { otlp, collector, gateway, installation }: Record<string, unknown>,
): Otlp | undefined {
  if (!otlp) return undefined;
  try {
    const told = host.io().otlpTarget(asPairs(otlp), asPairs(collector));
    const { url, headers, problems } = JSON.parse(told) as Target & { problems: string[] };
    for (const problem of problems) host.log.warn(problem);
    return url
      ? new Otlp({ ...host, gateway: String(gateway ?? installation) }, { url, headers })
      : undefined;
  } catch (error) {
    host.log.warn(`nothing goes to a collector (${reason(error)})`);
    return undefined;
  }
}

/** Follows one journal. */
export class Otlp {
  readonly #host: OtlpHost;
  readonly #metrics: Outlet;
  readonly #traces: Outlet;
  readonly #url: string;
  #exporter: OtlpExporter | undefined;
  /** What is known of each file: how large it was when it was read, and its key. */
  #known = new Map<string, { size: number; key: string | undefined; isDone: boolean }>();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #isDue = false;
  #hasNews = true;
  #toldAt = Number.NEGATIVE_INFINITY;
  #isClosed = false;
  #trouble = "";

  /** @throws where its folder cannot be made */
  constructor(host: OtlpHost, target: Target) {
    makeFolder(archiveOf(host.folder));
    this.#host = host;
    this.#url = target.url;
    const outlet = (path: string) => new Outlet(host, target, path);
    this.#metrics = outlet("/v1/metrics");
    this.#traces = outlet("/v1/traces");
  }

  /** Something may have been written. */
  wake(): void {
    this.#isDue = true;
    this.#lookIn(LOOK_AFTER_MS);
  }

  /** Tells what is on disk, for at most so many ms. */
  async finish(budgetMs: number): Promise<void> {
    this.#toldAt = Number.NEGATIVE_INFINITY;
    this.#hasNews = true;
    await withDeadline(this.#look(), budgetMs).catch(() => {});
  }

  /** Ends for good. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** What a status shows. */
  status(): Record<string, unknown> {
    return { url: this.#url, metrics: this.#metrics.status(), traces: this.#traces.status() };
  }

  #lookIn(ms: number): void {
    if (this.#timer || this.#isClosed) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#look();
    }, ms);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    await this.#running;
    if (!this.#host.isOwner() || this.#isClosed) return;
    this.#isDue = false;
    this.#running = this.#lookOnce().catch((error) => this.#say(reason(error)));
    await this.#running;
    this.#running = undefined;
    // What is to be tried again, or told anyhow, has its time too.
    const waits = [this.#traces.waitMs, this.#toldAt + METRICS_EVERY_MS - this.#host.mono()];
    this.#lookIn(
      this.#isDue ? LOOK_AFTER_MS : Math.min(Math.max(LOOK_AFTER_MS, ...waits), METRICS_ANYHOW_MS),
    );
  }

  /** A disk that fails is told once. */
  #say(trouble: string): void {
    if (trouble !== this.#trouble) this.#host.log.warn(`otlp: ${trouble}; tried again`);
    this.#trouble = trouble;
  }

  async #lookOnce(): Promise<void> {
    const exporter = await this.#opened();
    const calls = await this.#segments("model-calls-");
    let hasNews = false;
    for (const segment of calls) hasNews = (await this.#add(exporter, segment)) || hasNews;
    if (hasNews) await this.#keep(exporter);
    for (const segment of calls) if (segment.isKept) await this.#forget(segment);
    this.#hasNews ||= hasNews;
    const [, hasMoved] = await Promise.all([this.#tellMetrics(exporter), this.#tellTraces(exporter)]);
    await this.#forgetGone(exporter);
    if (hasMoved) await this.#keep(exporter);
    this.#trouble = "";
  }

  async #opened(): Promise<OtlpExporter> {
    if (this.#exporter) return this.#exporter;
    const { folder, gateway, io, wall } = this.#host;
    const path = join(archiveOf(folder), STATE);
    const kind = otherKind(path);
    if (kind) this.#say(`${path} is ${kind}, not a file, and is replaced: sums begin anew`);
    const state = kind ? new Uint8Array() : await bytesOf(path);
    this.#exporter = new (io().Otlp)(state, gateway, wall());
    // A new beginning is the beginning: another one would go back behind what was told.
    if (state.length === 0) await this.#keep(this.#exporter);
    return this.#exporter;
  }

  /** Segments of a kind, the oldest first. */
  async #segments(prefix: string): Promise<Segment[]> {
    const { folder } = this.#host;
    // In this order: one that is moved meanwhile is seen twice rather than never.
    const inJournal = await this.#segmentsIn(join(folder, "journal"), prefix, false);
    return [...(await this.#segmentsIn(archiveOf(folder), prefix, true)), ...inJournal];
  }

  async #segmentsIn(place: string, prefix: string, isKept: boolean): Promise<Segment[]> {
    const found: Segment[] = [];
    for (const file of (await readdir(place).catch(() => [])).sort()) {
      const name = isKept ? file.replace(/^\d+-/, "") : file;
      if (!name.startsWith(prefix)) continue;
      const path = join(place, file);
      const stats = statsOf(path);
      // What is no file is named by who reads the journal.
      if (stats?.isFile()) found.push({ path, name, size: stats.size, isKept });
    }
    return found;
  }

  /** Adds up a segment's calls; whether there were new ones. */
  async #add(exporter: OtlpExporter, { path, name, size }: Segment): Promise<boolean> {
    if (this.#known.get(path)?.size === size) return false;
    const key = exporter.calls(name, await bytesOf(path));
    this.#known.set(path, { size, key, isDone: true });
    return true;
  }

  async #forget({ path }: Segment): Promise<void> {
    await rm(path, { force: true });
  }

  async #tellMetrics(exporter: OtlpExporter): Promise<void> {
    const { mono, wall } = this.#host;
    const since = mono() - this.#toldAt;
    if (since < (this.#hasNews ? METRICS_EVERY_MS : METRICS_ANYHOW_MS)) return;
    const body = exporter.metrics(wall());
    if (body === undefined || this.#metrics.waitMs > 0) return;
    this.#hasNews = false;
    this.#toldAt = mono();
    // Sums that did not arrive are in the next ones.
    if ((await this.#metrics.tell(body, 1)) === "later") this.#hasNews = true;
  }

  /** Whether anything was taken, or given up. */
  async #tellTraces(exporter: OtlpExporter): Promise<boolean> {
    let hasMoved = false;
    for (const segment of await this.#bounded(await this.#segments("records-"))) {
      while (this.#traces.waitMs <= 0) {
        const known = this.#known.get(segment.path);
        if (known?.isDone && known.size === segment.size) break;
        const told = exporter.traces(segment.name, await bytesOf(segment.path));
        const [key, body, spans, upto] = told ?? [undefined];
        this.#known.set(segment.path, { size: segment.size, key, isDone: body === undefined });
        if (key === undefined || body === undefined) break;
        if ((await this.#traces.tell(body, spans ?? 0)) === "later") return hasMoved;
        exporter.delivered(key, upto ?? 0);
        hasMoved = true;
      }
      if (!segment.isKept || !this.#known.get(segment.path)?.isDone) continue;
      // Taken by the collector, which may be told twice, and on disk before it goes.
      await this.#keep(exporter);
      await this.#forget(segment);
    }
    return hasMoved;
  }

  /** Gives up the oldest traces beyond the bound. */
  async #bounded(segments: Segment[]): Promise<Segment[]> {
    let bytes = segments.reduce((sum, { size, isKept }) => sum + (isKept ? size : 0), 0);
    const left = [...segments];
    while (bytes > MOST_WAITING && left[0]?.isKept) {
      bytes -= left[0].size;
      await this.#forget(left[0]);
      this.#traces.gaveUp(left[0].size);
      left.shift();
    }
    return left;
  }

  /** Forgets the progress in segments that are gone, once all that are there are known by their keys. */
  async #forgetGone(exporter: OtlpExporter): Promise<void> {
    const all = [...(await this.#segments("model-calls-")), ...(await this.#segments("records-"))];
    const paths = new Set(all.map(({ path }) => path));
    const gone = [...this.#known.keys()].filter((path) => !paths.has(path));
    if (gone.length === 0 || all.some(({ path }) => !this.#known.has(path))) return;
    for (const path of gone) this.#known.delete(path);
    exporter.retain([...this.#known.values()].flatMap(({ key }) => key ?? []));
  }

  async #keep(exporter: OtlpExporter): Promise<void> {
    await replaceOwn(join(archiveOf(this.#host.folder), STATE), exporter.state(), false);
  }
}

/** Empty where it is not there: it was moved a moment ago, and is found at the next look. */
async function bytesOf(path: string): Promise<Uint8Array> {
  return readOwn(path).catch((error) => {
    if (!isMissing(error)) throw error;
    return new Uint8Array();
  });
}
