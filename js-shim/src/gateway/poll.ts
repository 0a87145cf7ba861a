/**
 * Reads new calls of a gateway's sessions through its API. A session is read after the gateway reports a change; on
 * gateways without such events, when the time of its last change differs.
 */

import { reason } from "../base/promises.js";
import type { Fact, Instance } from "../base/wasm.js";
import { asObject, ConnectionError, type GatewayEvent, type GatewayLink, Refusal } from "./link.js";

/** Interval of listing sessions, on gateways with and without events of changes, in ms. */
const LIST_EVERY_MS = { withEvents: 60_000, withoutEvents: 5_000 } as const;
/** Interval of listing all sessions, in ms; the lists between contain recently changed sessions only. */
const LIST_ALL_EVERY_MS = 300_000;
/** Age of a recent change, in minutes. */
const RECENT_MIN = 15;
/** Delay between a change and the reading of the session, in ms: changes come in bursts. */
const READ_AFTER_MS = 300;
/**
 * Pause after a reading: a multiple of its duration, and a maximum in ms. The gateway reads the whole transcript each
 * time.
 */
const PAUSE = { perReading: 10, max: 5_000 } as const;
/**
 * Retries for a call without a message, and the pause before each, in ms. A busy gateway writes its history late; the
 * message has the call's model, start and id.
 */
const MESSAGE_RETRY = { tries: 3, afterMs: 1_000 } as const;
/** Maximum number of followed sessions; beyond it the sessions that changed longest ago are dropped. */
const MAX_SESSIONS = 50_000;
/** Messages per page: for few new calls, and for many. */
const PAGE = { few: 200, many: 1_000 } as const;
/** Maximum number of pages of a session's messages; 2026.3.13 returns a single page. */
const MAX_PAGES = 50;
/** Maximum number of sessions that are found beyond the list. */
const MAX_DISCOVERED = 5_000;
/** Number of new calls up to which a small page is requested. */
const FEW_CALLS = 20;

/** A session as the gateway lists it. */
interface Session {
  key: string;
  agent: string | undefined;
  sessionId: string | undefined;
  provider: string | undefined;
  model: string | undefined;
  /** Last change, in ms since 1970 by the gateway's clock; 0 if unknown. */
  updatedAt: number;
  /** The session is not read before this time, in ms of the monotonic clock. */
  pauseUntil: number;
  /** Number of retries for a missing message. */
  tries: number;
}

/** A call; see `crate/src/sessions/polled.rs`. */
export interface PolledCall {
  /** Facts of the source `stored`. */
  row: Fact[];
  model: string | null;
  prompt: number;
  completion: number;
  /** End of the call, in ms since 1970. */
  written: number;
}

/** The result of comparing a session with its mark; see `crate/src/sessions/polled.rs`. */
interface Look {
  session_id: string | null;
  calls: PolledCall[];
  mark: string;
  sums: number;
  unnamed: number;
  wants_older: boolean;
  nameless: number;
  untold: number;
  is_rewritten: boolean;
}

/** Callbacks of a poll. */
export interface PollHost {
  instantiate(): Instance;
  /** The stored mark of a session: its counted calls. */
  mark(name: string): string | undefined;
  /** Counts calls and stores the mark with them; {@link mark} returns it from now on. */
  take(calls: PolledCall[], name: string, mark: string): void;
  /** Resolves when there is room for more calls. @throws ReceiverUnreachable */
  room(): Promise<void>;
  warn(text: string): void;
  mono(): number;
  wall(): number;
}

/** Counts of the reading. */
export interface Reading {
  sessions: number;
  calls: number;
  skipped: Record<string, number>;
  problems: Set<string>;
}

/** Follows the sessions of one gateway, over many connections. */
export class GatewayPoll {
  readonly #host: PollHost;
  readonly #sinceMs: number;
  /** The sessions of the last list, by key. */
  readonly #known = new Map<string, Session>();
  /** Times at which sessions are to be read, in ms of the monotonic clock, by key. */
  readonly #due = new Map<string, number>();
  #link: GatewayLink | undefined;
  #io: Instance | undefined;
  /** Whether the gateway sends events of changes. */
  #hasEvents = false;
  #listAt = 0;
  #listAllAt = 0;
  #takesMaxChars = true;
  #wake: (() => void) | undefined;
  readonly reading: Reading = { sessions: 0, calls: 0, skipped: {}, problems: new Set() };

  /** @param sinceMs calls since then are counted, in ms since 1970 */
  constructor(host: PollHost, sinceMs: number) {
    this.#host = host;
    this.#sinceMs = sinceMs;
  }

  /** Continues with a new connection. The next list of sessions contains changes from before it. */
  async use(link: GatewayLink): Promise<void> {
    this.#link = link;
    try {
      await link.request("sessions.subscribe", {});
      this.#hasEvents = true;
    } catch (error) {
      if (!(error instanceof Refusal) || error.isRetryable) throw error;
      // 2026.3 has no such method; it sends events of runs instead.
      this.#hasEvents = false;
    }
    [this.#listAt, this.#listAllAt] = [0, 0];
  }

  /**
   * Finds sessions that are not in the list and have calls since `sinceMs` (ms since 1970): runs of jobs, and sessions
   * from before a reset. It runs once, since the gateway reads its transcripts for it.
   */
  async discover(sinceMs: number): Promise<void> {
    const day = (ms: number) => new Date(ms).toISOString().slice(0, 10);
    const span = {
      startDate: day(sinceMs),
      endDate: day(this.#host.wall() + 86_400_000),
      limit: MAX_DISCOVERED,
    };
    const answered = await this.#ask("sessions.usage", { ...span, agentScope: "all" }).catch(
      (error: unknown) => {
        // Up to 2026.6 the method covers all agents and has no such parameter.
        if (error instanceof Refusal && error.code === "INVALID_REQUEST")
          return this.#ask("sessions.usage", span);
        throw error;
      },
    );
    const listed = new Set([...this.#known.values()].map(({ sessionId }) => sessionId));
    const rows: unknown[] = Array.isArray(answered.payload.sessions) ? answered.payload.sessions : [];
    for (const row of rows.map(asObject)) if (!listed.has(String(row.sessionId))) this.#meet(withModel(row));
    if (rows.length >= MAX_DISCOVERED)
      this.reading.problems.add(
        `the gateway has more than ${MAX_DISCOVERED} sessions since ${day(sinceMs)}: older ones that it does not list are not counted`,
      );
  }

  /** Takes an event of the gateway: a change of a session, or the start or end of a run or tool. */
  onEvent({ event, payload }: GatewayEvent): void {
    const isChange = event === "sessions.changed" || event === "session.message";
    const isRun = event === "agent" && (payload.stream === "lifecycle" || payload.stream === "tool");
    if (!isChange && !isRun) return;
    const key = payload.sessionKey;
    if (typeof key !== "string") this.#listAt = 0;
    else if (this.#known.has(key)) this.#markDue(key);
    // The next list contains the new session.
    else this.#listAt = Math.min(this.#listAt, this.#host.mono() + READ_AFTER_MS);
    this.#wake?.();
  }

  /** Whether all reported changes were read. */
  get isIdle(): boolean {
    return this.#listAllAt > 0 && this.#due.size === 0;
  }

  /** Lists all sessions now. */
  async listAll(): Promise<void> {
    this.#listAllAt = 0;
    await this.#list();
  }

  /** Reads due sessions, then waits for the next due time, at most `maxMs` ms. @throws ConnectionError or Refusal */
  async step(maxMs: number): Promise<void> {
    const { mono } = this.#host;
    if (mono() >= this.#listAt) await this.#list();
    for (const [key, at] of this.#due) if (at <= mono()) await this.#visit(key);
    const next = Math.min(this.#listAt, ...this.#nearest());
    const wait = Math.min(maxMs, Math.max(0, next - mono()));
    if (wait <= 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }

  /** Ends a wait. */
  wake(): void {
    this.#wake?.();
  }

  #nearest(): number[] {
    let nearest = Number.POSITIVE_INFINITY;
    for (const at of this.#due.values()) nearest = Math.min(nearest, at);
    return [nearest];
  }

  #markDue(key: string): void {
    // The first change sets the time, so a session that changes all the time is read, too.
    const soon = this.#host.mono() + READ_AFTER_MS;
    if (!this.#due.has(key)) this.#due.set(key, Math.max(soon, this.#known.get(key)?.pauseUntil ?? 0));
  }

  /** Lists sessions, and marks changed ones due. */
  async #list(): Promise<void> {
    const { mono } = this.#host;
    const isAll = this.#listAllAt === 0 || mono() - this.#listAllAt >= LIST_ALL_EVERY_MS;
    const wanted = {
      includeGlobal: true,
      includeUnknown: true,
      ...(!isAll && { activeMinutes: RECENT_MIN }),
    };
    for (let more: Record<string, unknown> | undefined = {}, count = 0; more; ) {
      const { payload } = await this.#ask("sessions.list", { ...wanted, ...more });
      const rows: unknown[] = Array.isArray(payload.sessions) ? payload.sessions : [];
      for (const row of rows) this.#meet(asObject(row));
      count += rows.length;
      const { hasMore, nextOffset, limitApplied } = payload;
      const isMore = hasMore === true && typeof nextOffset === "number" && rows.length > 0;
      more =
        isMore && count < MAX_SESSIONS
          ? { offset: nextOffset, limit: Number(limitApplied) || 100 }
          : undefined;
    }
    if (isAll) this.#listAllAt = mono();
    this.#listAt = mono() + (this.#hasEvents ? LIST_EVERY_MS.withEvents : LIST_EVERY_MS.withoutEvents);
    this.#forgetOldest();
  }

  #meet(row: Record<string, unknown>): void {
    const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);
    const key = text(row.key);
    if (!key) return;
    const session: Session = {
      key,
      agent: text(row.agentId) ?? /^agent:([^:]+):/.exec(key)?.[1],
      sessionId: text(row.sessionId),
      provider: text(row.modelProvider),
      model: text(row.model),
      updatedAt: typeof row.updatedAt === "number" ? row.updatedAt : 0,
      pauseUntil: this.#known.get(key)?.pauseUntil ?? 0,
      tries: this.#known.get(key)?.tries ?? 0,
    };
    const known = this.#known.get(key);
    const isSame = known?.updatedAt === session.updatedAt && known.sessionId === session.sessionId;
    // After a reset the key has another session. The last calls of the former session are read by its id.
    if (known?.sessionId && session.sessionId && known.sessionId !== session.sessionId)
      this.#meetFormer(known);
    if (!known) this.reading.sessions += 1;
    this.#known.set(key, session);
    if (isSame || session.sessionId === undefined) return;
    const [, readAt] = this.#markOf(session.sessionId, session.agent);
    if (!known && readAt !== undefined && readAt === session.updatedAt) return;
    this.#markDue(key);
  }

  #meetFormer(known: Session): void {
    const key = `agent:${known.agent ?? "main"}:${known.sessionId}`;
    if (this.#known.has(key)) return;
    this.#known.set(key, { ...known, key });
    this.#due.set(key, 0);
  }

  #forgetOldest(): void {
    if (this.#known.size <= MAX_SESSIONS) return;
    const all = [...this.#known.values()].sort((a, b) => a.updatedAt - b.updatedAt);
    for (const { key } of all.slice(0, all.length - MAX_SESSIONS)) this.#known.delete(key);
  }

  /** Returns a session's mark, the last change that it covers, and the mark's name. */
  #markOf(
    sessionId: string,
    agent: string | undefined,
  ): [mark: string, readAt: number | undefined, name: string] {
    const name = `gateway/${agent ?? ""}/${sessionId}`;
    const mark = this.#host.mark(name) ?? "";
    const readAt = mark.split(" ")[7];
    return [mark, readAt === undefined ? undefined : Number(readAt), name];
  }

  async #visit(key: string): Promise<void> {
    const session = this.#known.get(key);
    if (!session) {
      this.#due.delete(key);
      return;
    }
    // A change during the reading makes the session due again.
    this.#due.delete(key);
    const { mono } = this.#host;
    const begun = mono();
    try {
      await this.#look(session);
    } catch (error) {
      if (!(error instanceof Refusal) || error.isRetryable || !isOfSession(error)) {
        this.#due.set(key, begun);
        throw error;
      }
      // A session without a transcript has no calls.
      if (!/no transcript|not found|invalid session/i.test(error.message))
        this.reading.problems.add(`a session could not be read (${error.method}: ${error.message})`);
    }
    session.pauseUntil = mono() + Math.min(PAUSE.max, PAUSE.perReading * (mono() - begun));
    await this.#host.room();
  }

  /** Reads one session. */
  async #look(session: Session): Promise<void> {
    const target = {
      key: session.key,
      ...(this.#hasEvents && session.agent && isRaw(session.key) && { agentId: session.agent }),
    };
    const series = await this.#ask("sessions.usage.timeseries", target);
    const answeredId = series.payload.sessionId;
    const sessionId = typeof answeredId === "string" ? answeredId : (session.sessionId ?? "");
    const [mark, , name] = this.#markOf(sessionId, session.agent);
    const histories: string[] = [];
    let look = this.#compare(session, series.text, histories, mark);
    if (look.calls.length + look.untold + look.nameless > 0) {
      for await (const page of this.#messages(session, sessionId, look)) {
        // The newest page comes first.
        histories.unshift(page);
        look = this.#compare(session, series.text, histories, mark);
        if (!look.wants_older) break;
      }
    }
    if (look.unnamed + look.untold > 0 && session.tries < MESSAGE_RETRY.tries) {
      session.tries += 1;
      this.#due.set(session.key, this.#host.mono() + MESSAGE_RETRY.afterMs);
      return;
    }
    session.tries = 0;
    if (look.is_rewritten) this.#skip("transcript_rewritten", 1);
    this.#skip("without_usage_unknown", look.untold);
    this.#skip("no_model", look.nameless);
    this.#skip("told_as_sums", look.sums);
    if (look.mark === mark.split(" ").slice(0, 7).join(" ")) return;
    // The mark ends with the last change that it covers.
    const full = sessionId === session.sessionId ? `${look.mark} ${session.updatedAt}` : look.mark;
    this.#host.take(look.calls, name, full);
    this.reading.calls += look.calls.length;
  }

  /** Reads the messages of a session, page by page, newest first. */
  async *#messages(session: Session, sessionId: string, look: Look): AsyncGenerator<string> {
    const limit = look.calls.length > FEW_CALLS ? PAGE.many : PAGE.few;
    for (let page = 0, offset: number | undefined; page < MAX_PAGES; page += 1) {
      const { payload, text } = await this.#history({
        sessionKey: session.key,
        limit,
        ...(offset !== undefined && { offset }),
      });
      // After a reset the key has another session.
      if (payload.sessionId !== undefined && payload.sessionId !== sessionId) return;
      yield text;
      const { hasMore, nextOffset } = payload;
      if (hasMore !== true || typeof nextOffset !== "number" || nextOffset <= (offset ?? -1)) return;
      offset = nextOffset;
    }
  }

  /** Requests messages. Newer gateways cut texts to one character, since only names and counts are read. */
  async #history(params: Record<string, unknown>) {
    if (this.#takesMaxChars) {
      try {
        return await this.#ask("chat.history", { ...params, maxChars: 1 });
      } catch (error) {
        if (!(error instanceof Refusal) || !/maxChars|unexpected property/i.test(error.message)) throw error;
        this.#takesMaxChars = false;
      }
    }
    return this.#ask("chat.history", params);
  }

  #compare(session: Session, series: string, histories: string[], mark: string): Look {
    this.#io ??= this.#host.instantiate();
    try {
      const { key, agent, provider, model } = session;
      const look = this.#io.lookAtSession(
        series,
        histories,
        mark,
        key,
        agent,
        provider,
        model,
        this.#sinceMs,
      );
      return JSON.parse(look) as Look;
    } catch (error) {
      // The instance trapped: the next call makes a new one.
      this.#io = undefined;
      throw new Error(`a session of the gateway cannot be read: ${reason(error)}`);
    }
  }

  #ask(method: string, params: Record<string, unknown>) {
    if (!this.#link) throw new ConnectionError(new Error("it is not connected"));
    return this.#link.request(method, params);
  }

  #skip(why: string, count: number): void {
    if (count > 0) this.reading.skipped[why] = (this.reading.skipped[why] ?? 0) + count;
  }
}

/** A row of `sessions.usage`. It has no model of its own where the gateway keeps no entry for the session. */
function withModel(row: Record<string, unknown>): Record<string, unknown> {
  const models = asObject(row.usage).modelUsage;
  const [only, another] = Array.isArray(models) ? models.map(asObject) : [];
  if (row.model || !only || another) return row;
  return { ...row, modelProvider: only.provider, model: only.model };
}

/** Whether a refusal concerns one session rather than this client. */
function isOfSession({ code, message }: Refusal): boolean {
  return (
    (code === "INVALID_REQUEST" || code === "NOT_FOUND") && !/unknown method|missing scope/i.test(message)
  );
}

/** Whether a key has no agent; newer gateways then need the agent as a parameter. */
function isRaw(key: string): boolean {
  return !key.startsWith("agent:");
}
