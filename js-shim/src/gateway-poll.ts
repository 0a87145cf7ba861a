/**
 * Follows a gateway's sessions through its API: which have changed, and what calls are new in them. A session is looked at
 * when the gateway says that it changed, and where it says nothing, when the time of its last change is another.
 */

import { Away, asObject, type GatewayEvent, type GatewayLink, Refusal } from "./gateway-link.js";
import { reason } from "./promises.js";
import type { Fact, Instance } from "./wasm.js";

/** How often sessions are listed where the gateway tells of changes, and where it does not, in ms. */
const LIST_EVERY_MS = { told: 60_000, untold: 5_000 } as const;
/** The list of all sessions is asked for so often, in ms; in between those that changed lately will do. */
const LIST_ALL_EVERY_MS = 300_000;
/** How long a session counts as one that changed lately, in minutes. */
const LATELY_MIN = 15;
/** A session is looked at so long after it changed, in ms: what changes comes in bursts. */
const READ_AFTER_MS = 300;
/** A look that took long is paid for by a rest, in ms: gateways read the whole transcript for it. */
const REST = { perLook: 10, most: 5_000 } as const;
/**
 * A call that no message names yet is looked for again, so often and after so long (ms): the history of a gateway at work
 * comes late, and names, beginnings and ids are to be those of the message.
 */
const NAMES_LATE = { tries: 3, afterMs: 1_000 } as const;
/** The most sessions that are followed at once; of more, those that changed last. */
const MOST_SESSIONS = 50_000;
/** Messages are asked for in such pages, a few where few calls are new. */
const PAGE = { few: 200, many: 1_000 } as const;
/** The most pages of one session's messages: 2026.3.13 has one alone. */
const MOST_PAGES = 50;
/** The most sessions that are found beside the list. */
const MOST_DISCOVERED = 5_000;
/** Up to so many new calls a small page has them. */
const FEW_CALLS = 20;

/** A session as the gateway lists it. */
interface Session {
  key: string;
  agent: string | undefined;
  sessionId: string | undefined;
  provider: string | undefined;
  model: string | undefined;
  /** ms since 1970, by the gateway's clock; 0 where it is not told. */
  updatedAt: number;
  /** Until then, on the monotonic clock, it is left alone. */
  restUntil: number;
  /** How often a message was missing. */
  tries: number;
}

/** A call; see `crate/src/polled.rs`. */
export interface PolledCall {
  /** Facts of the source `stored`. */
  row: Fact[];
  model: string | null;
  prompt: number;
  completion: number;
  /** When it ended, in ms since 1970. */
  written: number;
}

/** See `crate/src/polled.rs`. */
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

/** What following needs of the pipeline. */
export interface Followed {
  instantiate(): Instance;
  /** What was counted of a session. */
  mark(name: string): string | undefined;
  /** Counts calls, and keeps the mark with them: {@link mark} is that one from now on. */
  take(calls: PolledCall[], name: string, mark: string): void;
  /** Resolves when there is room for more. @throws what keeps calls from being counted */
  room(): Promise<void>;
  warn(text: string): void;
  mono(): number;
  wall(): number;
}

/** What is known of the reading. */
export interface Reading {
  sessions: number;
  calls: number;
  skipped: Record<string, number>;
  problems: Set<string>;
}

/** Follows the sessions of one gateway, over many connections. */
export class GatewayPoll {
  readonly #followed: Followed;
  readonly #sinceMs: number;
  /** The sessions as they were when they were looked at, by key. */
  readonly #known = new Map<string, Session>();
  /** When sessions are to be looked at, on the monotonic clock, by key. */
  readonly #due = new Map<string, number>();
  #link: GatewayLink | undefined;
  #io: Instance | undefined;
  #isTold = false;
  #listAt = 0;
  #listAllAt = 0;
  #takesMaxChars = true;
  #wake: (() => void) | undefined;
  readonly reading: Reading = { sessions: 0, calls: 0, skipped: {}, problems: new Set() };

  constructor(followed: Followed, sinceMs: number) {
    this.#followed = followed;
    this.#sinceMs = sinceMs;
  }

  /** Goes on with a connection: whatever happened meanwhile is in the list of sessions. */
  async use(link: GatewayLink): Promise<void> {
    this.#link = link;
    try {
      await link.request("sessions.subscribe", {});
      this.#isTold = true;
    } catch (error) {
      if (!(error instanceof Refusal) || error.isRetryable) throw error;
      // 2026.3 has no such method; it tells what runs do.
      this.#isTold = false;
    }
    [this.#listAt, this.#listAllAt] = [0, 0];
  }

  /**
   * Finds sessions that the list leaves out, with calls since a time (ms since 1970): runs of jobs, and what was there before
   * a reset. It costs a gateway a reading of its transcripts, so it is asked once.
   */
  async discover(sinceMs: number): Promise<void> {
    const day = (ms: number) => new Date(ms).toISOString().slice(0, 10);
    const span = {
      startDate: day(sinceMs),
      endDate: day(this.#followed.wall() + 86_400_000),
      limit: MOST_DISCOVERED,
    };
    const answered = await this.#ask("sessions.usage", { ...span, agentScope: "all" }).catch(
      (error: unknown) => {
        // Up to 2026.6 it is about all agents, and has no such parameter.
        if (error instanceof Refusal && error.code === "INVALID_REQUEST")
          return this.#ask("sessions.usage", span);
        throw error;
      },
    );
    const listed = new Set([...this.#known.values()].map(({ sessionId }) => sessionId));
    const rows: unknown[] = Array.isArray(answered.payload.sessions) ? answered.payload.sessions : [];
    for (const row of rows.map(asObject)) if (!listed.has(String(row.sessionId))) this.#meet(row);
  }

  /** An event of the gateway: a session that changed, or the start or end of what may be a call. */
  hear({ event, payload }: GatewayEvent): void {
    const isChange = event === "sessions.changed" || event === "session.message";
    const isRun = event === "agent" && (payload.stream === "lifecycle" || payload.stream === "tool");
    if (!isChange && !isRun) return;
    const key = payload.sessionKey;
    if (typeof key !== "string") this.#listAt = 0;
    else if (this.#known.has(key)) this.#markDue(key);
    // One that is not known yet is in the list, once it is there.
    else this.#listAt = Math.min(this.#listAt, this.#followed.mono() + READ_AFTER_MS);
    this.#wake?.();
  }

  /** Whether everything that the gateway has told of is counted. */
  get isIdle(): boolean {
    return this.#listAllAt > 0 && this.#due.size === 0;
  }

  /** Lists all sessions now. */
  async listAll(): Promise<void> {
    this.#listAllAt = 0;
    await this.#list();
  }

  /** Does what is due, and waits for what is next, at most so long (ms). @throws Away or Refusal */
  async step(mostMs: number): Promise<void> {
    const { mono } = this.#followed;
    if (mono() >= this.#listAt) await this.#list();
    for (const [key, at] of this.#due) if (at <= mono()) await this.#visit(key);
    const next = Math.min(this.#listAt, ...this.#nearest());
    const wait = Math.min(mostMs, Math.max(0, next - mono()));
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
    // The first sign counts: one that changes all the time has its turn too.
    const soon = this.#followed.mono() + READ_AFTER_MS;
    if (!this.#due.has(key)) this.#due.set(key, Math.max(soon, this.#known.get(key)?.restUntil ?? 0));
  }

  /** Lists sessions, and finds those that changed since they were looked at. */
  async #list(): Promise<void> {
    const { mono } = this.#followed;
    const isAll = this.#listAllAt === 0 || mono() - this.#listAllAt >= LIST_ALL_EVERY_MS;
    const wanted = {
      includeGlobal: true,
      includeUnknown: true,
      ...(!isAll && { activeMinutes: LATELY_MIN }),
    };
    for (let more: Record<string, unknown> | undefined = {}, count = 0; more; ) {
      const { payload } = await this.#ask("sessions.list", { ...wanted, ...more });
      const rows: unknown[] = Array.isArray(payload.sessions) ? payload.sessions : [];
      for (const row of rows) this.#meet(asObject(row));
      count += rows.length;
      const { hasMore, nextOffset, limitApplied } = payload;
      const isMore = hasMore === true && typeof nextOffset === "number" && rows.length > 0;
      more =
        isMore && count < MOST_SESSIONS
          ? { offset: nextOffset, limit: Number(limitApplied) || 100 }
          : undefined;
    }
    if (isAll) this.#listAllAt = mono();
    this.#listAt = mono() + (this.#isTold ? LIST_EVERY_MS.told : LIST_EVERY_MS.untold);
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
      restUntil: this.#known.get(key)?.restUntil ?? 0,
      tries: this.#known.get(key)?.tries ?? 0,
    };
    const known = this.#known.get(key);
    const isSame = known?.updatedAt === session.updatedAt && known.sessionId === session.sessionId;
    // A reset gives the key another session: the last calls of the one before have to be read by its id.
    if (known?.sessionId && session.sessionId && known.sessionId !== session.sessionId)
      this.#meetFormer(known);
    if (!known) this.reading.sessions += 1;
    this.#known.set(key, session);
    if (isSame || session.sessionId === undefined) return;
    const [, lookedAt] = this.#markOf(session.sessionId, session.agent);
    if (!known && lookedAt !== undefined && lookedAt === session.updatedAt) return;
    this.#markDue(key);
  }

  #meetFormer(known: Session): void {
    const key = `agent:${known.agent ?? "main"}:${known.sessionId}`;
    if (this.#known.has(key)) return;
    this.#known.set(key, { ...known, key });
    this.#due.set(key, 0);
  }

  #forgetOldest(): void {
    if (this.#known.size <= MOST_SESSIONS) return;
    const all = [...this.#known.values()].sort((a, b) => a.updatedAt - b.updatedAt);
    for (const { key } of all.slice(0, all.length - MOST_SESSIONS)) this.#known.delete(key);
  }

  /** The mark of a session, and its change when it was looked at. */
  #markOf(
    sessionId: string,
    agent: string | undefined,
  ): [mark: string, lookedAt: number | undefined, name: string] {
    const name = `gateway/${agent ?? ""}/${sessionId}`;
    const mark = this.#followed.mark(name) ?? "";
    const lookedAt = mark.split(" ")[7];
    return [mark, lookedAt === undefined ? undefined : Number(lookedAt), name];
  }

  async #visit(key: string): Promise<void> {
    const session = this.#known.get(key);
    if (!session) {
      this.#due.delete(key);
      return;
    }
    // What happens during the look is due again.
    this.#due.delete(key);
    const { mono } = this.#followed;
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
    session.restUntil = mono() + Math.min(REST.most, REST.perLook * (mono() - begun));
    await this.#followed.room();
  }

  /** Looks at one session. */
  async #look(session: Session): Promise<void> {
    const target = {
      key: session.key,
      ...(this.#isTold && session.agent && isRaw(session.key) && { agentId: session.agent }),
    };
    const series = await this.#ask("sessions.usage.timeseries", target);
    const told = series.payload.sessionId;
    const sessionId = typeof told === "string" ? told : (session.sessionId ?? "");
    const [mark, , name] = this.#markOf(sessionId, session.agent);
    const histories: string[] = [];
    let look = this.#compare(session, series.text, histories, mark);
    if (look.calls.length > 0 || look.untold > 0) {
      for await (const page of this.#messages(session, sessionId, look)) {
        // They come from the newest on.
        histories.unshift(page);
        look = this.#compare(session, series.text, histories, mark);
        if (!look.wants_older) break;
      }
    }
    if (look.unnamed + look.untold > 0 && session.tries < NAMES_LATE.tries) {
      session.tries += 1;
      this.#due.set(session.key, this.#followed.mono() + NAMES_LATE.afterMs);
      return;
    }
    session.tries = 0;
    if (look.is_rewritten) this.#skip("transcript_rewritten", 1);
    this.#skip("without_usage_unknown", look.untold);
    this.#skip("no_model", look.nameless);
    this.#skip("told_as_sums", look.sums);
    if (look.mark === mark.split(" ").slice(0, 7).join(" ")) return;
    // With the change that is counted by it.
    const kept = sessionId === session.sessionId ? `${look.mark} ${session.updatedAt}` : look.mark;
    this.#followed.take(look.calls, name, kept);
    this.reading.calls += look.calls.length;
  }

  /** The messages of a session, page by page, from the newest on. */
  async *#messages(session: Session, sessionId: string, look: Look): AsyncGenerator<string> {
    const limit = look.calls.length > FEW_CALLS ? PAGE.many : PAGE.few;
    for (let page = 0, offset: number | undefined; page < MOST_PAGES; page += 1) {
      const { payload, text } = await this.#history({
        sessionKey: session.key,
        limit,
        ...(offset !== undefined && { offset }),
      });
      // The key has another session now.
      if (payload.sessionId !== undefined && payload.sessionId !== sessionId) return;
      yield text;
      const { hasMore, nextOffset } = payload;
      if (hasMore !== true || typeof nextOffset !== "number" || nextOffset <= (offset ?? -1)) return;
      offset = nextOffset;
    }
  }

  /** What people wrote is cut to a character where the gateway does that: only names and counts are read. */
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
    this.#io ??= this.#followed.instantiate();
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
      // A trap ends the instance.
      this.#io = undefined;
      throw new Error(`a session of the gateway cannot be read: ${reason(error)}`);
    }
  }

  #ask(method: string, params: Record<string, unknown>) {
    if (!this.#link) throw new Away(new Error("it is not connected"));
    return this.#link.request(method, params);
  }

  #skip(why: string, count: number): void {
    if (count > 0) this.reading.skipped[why] = (this.reading.skipped[why] ?? 0) + count;
  }
}

/** Whether a refusal is about one session, and not about who asks. */
function isOfSession({ code, message }: Refusal): boolean {
  return (
    (code === "INVALID_REQUEST" || code === "NOT_FOUND") && !/unknown method|missing scope/i.test(message)
  );
}

/** Whether a key names no agent: newer gateways then have to be told. */
function isRaw(key: string): boolean {
  return !key.startsWith("agent:");
}
