/** Loads the module and makes instances of it. No network and no environment in this file. */

import { readFileSync } from "node:fs";
import { makeGlue } from "../glue/glue.js";
import type { SessionStore } from "../plugin/session-store.js";
import type { StoreFiles } from "../sessions/host.js";
import type { Order } from "../worker/poster.js";
import type { HostFiles } from "./host-files.js";
import { type Zone, zonesOf } from "./zones.js";

/** The engine as wasm-bindgen shows it; see `crate/src/bindings/engine.rs` for what each does. Times are ms. */
export interface Engine {
  expectDiagnostics(expected: boolean): void;
  give(numbers: Float64Array, texts: string): void;
  observe(): string | undefined;
  advance(wall: number, mono: number): number;
  logLines(): string | undefined;
  begin(wall: number, mono: number, hurry: boolean): Order | undefined;
  answered(reply: Reply, wall: number, mono: number): Order | undefined;
  wantsPrice(): string | undefined;
  setPrice(provider: string, model: string, price: Price): void;
  close(wall: number, mono: number): void;
  open(host: HostFiles, wall: number, mono: number): void;
  join(host: HostFiles, role: string, had: boolean, wall: number, mono: number): string;
  becomeSpool(host: HostFiles): void;
  takeOver(claims: boolean, wall: number, mono: number): boolean;
  lose(): void;
  heartbeat(): void;
  isHeld(): boolean;
  isHeldForCertain(): boolean;
  isClaimed(): boolean;
  handOver(wall: number, mono: number): boolean;
  release(): string | undefined;
  tellCollector(
    url: string,
    headers: ReadonlyArray<readonly [name: string, value: string]>,
    form: string,
    seed: number,
  ): void;
  beginCollector(wall: number, mono: number, hurry: boolean): Order | undefined;
  answeredCollector(reply: Reply, wall: number, mono: number): void;
  beginWebhook(wall: number, mono: number, hurry: boolean): Order | undefined;
  answeredWebhook(reply: Reply, wall: number, mono: number): void;
  admit(caller: Caller, request: number | undefined, wall: number, mono: number): Refusal | undefined;
  endRequest(request: number): void;
  lift(forMs: number, wall: number, mono: number): void;
  flush(wall: number, mono: number): boolean;
  flushAll(wall: number, mono: number): boolean;
  isKept(): boolean;
  takeSpools(wall: number, mono: number): boolean;
  takeRows(
    source: number,
    rows: unknown[],
    file: string,
    mark: string | undefined,
    history: boolean,
    wall: number,
    mono: number,
  ): void;
  bookmarks(): string;
  beginStore(
    begunWall: number,
    begunMono: number,
    begins: boolean,
    isAsked: boolean,
    wall: number,
    mono: number,
  ): number;
  floor(): number | undefined;
  history(): Span | undefined;
  planHistory(since: number, begun: number, wall: number, mono: number): Span | undefined;
  hasHistory(since: number, begun: number): boolean;
  historyToRead(wall: number, mono: number): (Span & { end: number }) | undefined;
  endHistory(wall: number, mono: number): void;
  gapsToRead(alone: number, wall: number, mono: number): (Span & { future: number }) | undefined;
  gapsAreRead(since: number, until: number, wall: number, mono: number): void;
  storeBookmarks(isHistory: boolean): [session: string, bookmark: string][];
  takeBatch(
    source: number,
    rows: unknown[],
    session: string,
    mark: string | undefined,
    isHistory: boolean,
    wall: number,
    mono: number,
  ): number;
  reportStore(problems: string[]): void;
  storePause(took: number, every: number, readsHistory: boolean): number;
  status(): string;
  metricsPort(): number | undefined;
  metrics(wall: number, queueFull: number, trap: number): string | undefined;
}

/** What came of a request; see `crate/src/delivery/reply.rs`. */
export interface Reply {
  /** The HTTP status; absent or 0 where there was no answer. */
  status?: number;
  /** Why there was no answer. */
  error?: string;
  /** Fields of the body. */
  answer?: { isTaken?: boolean; knowsIds?: boolean };
}

/** Price of a model; see `crate/src/pricing/price.rs`. */
export type Price = Readonly<Record<string, unknown>>;

/** A span of time, in ms since 1970, without `until`. */
export interface Span {
  since: number;
  until: number;
}

/** The fields of a gateway, or of a proxy, that tell whose call begins. `model` is `provider/model`. */
export interface Caller {
  sessionKey?: string | undefined;
  agent?: string | undefined;
  channel?: string | undefined;
  channelId?: string | undefined;
  trigger?: string | undefined;
  job?: string | undefined;
  tool?: string | undefined;
  model?: string | undefined;
}

/** Why a call may not pass, and the seconds until it may. */
export interface Refusal {
  message: string;
  retryAfterS: number;
}

/** What crosses into the module; an empty array stands for what is no scalar or could not be read. */
export type Fact = string | number | boolean | null | Fact[];

/** Each half of the seed of what an engine draws is below this. */
export const SEEDS = 2 ** 32;

/** An engine with these settings; `drawn` draws a number below what it is given. */
export function makeEngine(
  instance: Instance,
  settings: Record<string, unknown>,
  drawn: (below: number) => number,
): Engine {
  return new instance.Engine({ ...settings, zones: zonesOf(settings) }, drawn(SEEDS), drawn(SEEDS));
}

/** Which model a request asks. */
export interface RequestReader {
  feed(bytes: Uint8Array): boolean;
  model(): string | undefined;
  wishForUsage(): string | undefined;
  free(): void;
}

/** What an answer tells. `finish` ends the reader's life, as `free` does. */
export interface AnswerReader {
  header(name: string, value: string): void;
  feed(bytes: Uint8Array): boolean;
  finish(ending: number): string;
  free(): void;
}

/** What a request of LiteLLM's logger tells. `finish` ends the reader's life, as `free` does. */
export interface LogReader {
  feed(bytes: Uint8Array): void;
  finish(): string;
  free(): void;
}

/** Reads the session store in steps; see `crate/src/bindings/sessions.rs`. It has to be freed. */
export interface StoreReader {
  step(): string | undefined;
  sessions(): number;
  bytes(): number;
  free(): void;
}

/** Watches who owns a folder; see `crate/src/bindings/lease.rs`. It has to be freed. */
export interface OwnerWatch {
  look(): string | undefined;
  free(): void;
}

/** What is known of prices; see `crate/src/pricing/mod.rs`. */
export interface PriceBook {
  problems(): string[];
  find(provider: string, model: string): Price;
}

/** One comparison with a provider's invoice; see `crate/src/bindings/invoice.rs`. Times are ms. */
export interface Invoice {
  next(): string | undefined;
  feed(piece: Uint8Array): void;
  answered(status: number, retryAfterMs: number | undefined, why: string): number;
  result(differing: boolean): string;
}

/** One report; see `crate/src/bindings/report.rs`. Times are ms. */
export interface Report {
  ledger(bytes: Uint8Array): void;
  allowances(json: string): void;
  next(): string | undefined;
  feed(piece: Uint8Array): void;
  answered(status: number, retryAfterMs: number | undefined, why: string): number;
  output(format: string, from: string): string[];
  notes(): string[];
}

/** One instance of the module; see `crate/src/bindings/`. */
export interface Instance {
  sources(): string;
  liftMs(text: string): number | string;
  Engine: new (settings: object, seedHigh: number, seedLow: number) => Engine;
  isModelCall(method: string, path: string): boolean;
  modelOfPath(method: string, path: string): string | undefined;
  RequestReader: new () => RequestReader;
  AnswerReader: new (method: string, path: string, status: number) => AnswerReader;
  LogReader: new () => LogReader;
  Invoice: new (
    provider: string,
    since: string,
    until: string | undefined,
    also: string[],
    now: number,
  ) => Invoice;
  Report: new (
    since: string | undefined,
    by: string | undefined,
    zone: Zone[],
    ofReceiver: boolean,
    now: number,
  ) => Report;
  otlpTarget(setting: unknown, environment: unknown): string;
  OwnerWatch: new (host: HostFiles) => OwnerWatch;
  writtenOwner(host: HostFiles): string;
  PriceBook: new (prices: unknown, openclaw: unknown, byLogin: unknown, table: string) => PriceBook;
  StoreReader: new (
    host: StoreFiles,
    stateDir: string,
    store: SessionStore | undefined,
    bookmarks: Array<[session: string, bookmark: string]>,
    since: number | undefined,
    until: number | undefined,
    future: number | undefined,
  ) => StoreReader;
  countSessions(host: StoreFiles, stateDir: string, store: SessionStore | undefined): number;
  hasStore(host: StoreFiles, stateDir: string, store: SessionStore): boolean;
  lookAtSession(
    series: string,
    histories: string[],
    mark: string,
    sessionKey: string,
    agent: string | undefined,
    provider: string | undefined,
    model: string | undefined,
    since: number,
  ): string;
  send(
    url: string,
    token: string | undefined,
    path: string,
    body: Uint8Array | string | undefined,
    timeoutMs: number,
    headers?: ReadonlyArray<readonly [name: string, value: string]>,
  ): Promise<Reply>;
}

/**
 * The built-in table of list prices.
 *
 * @throws where its file is missing or broken
 */
export function priceTable(): string {
  // An import would load it at every start; most gateways' providers tell their costs.
  const { brotliDecompressSync } = process.getBuiltinModule("node:zlib");
  return brotliDecompressSync(packedPrices()).toString();
}

let prices: Buffer | undefined;
function packedPrices(): Buffer {
  prices ??= readFileSync(new URL("./prices.br", import.meta.url));
  return prices;
}

/**
 * Reads every file of the package that is wanted at some time: its folder may be gone by then, or another version's.
 *
 * @throws where one is missing or broken
 */
export function preload(): void {
  compiledModule();
  packedPrices();
}

/** wasm-bindgen's glue. `onPanic` names the function that is told `file:line:column` of a panic. */
export interface Glue extends Instance {
  initSync(options: { module: WebAssembly.Module }): unknown;
  onPanic(told: (at: string) => void): void;
}

/**
 * Makes an instance of the module, synchronously.
 *
 * An instance that trapped is dead, and what comes back to it throws. So whoever counts has an instance that does only
 * that and makes no promises: a promise that comes back to a dead instance throws where nobody catches. Requests are made
 * and foreign formats are read by other instances, which have no state that counts and are replaced when they trap.
 *
 * @throws where the module's file is missing or broken
 */
export function instantiate(
  warn: (text: string) => void = console.error,
  module = compiledModule(),
): Instance {
  const glue = makeGlue();
  glue.initSync({ module });
  glue.onPanic((at) => warn(`${MODULE} panicked at ${at}`));
  return glue;
}

const MODULE = "agentwatch.wasm";
let compiled: WebAssembly.Module | undefined;

/**
 * The module, compiled once a process: another thread can make instances of it without its file.
 *
 * @throws where the file is missing or broken
 */
export function compiledModule(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(readFileSync(new URL(`./${MODULE}`, import.meta.url)));
  return compiled;
}
