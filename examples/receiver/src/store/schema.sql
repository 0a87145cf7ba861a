-- Version 7. Instants are microseconds since 1970, money is US dollars, durations are milliseconds.
-- The id is UNIQUE beside a rowid, not the key itself: rows stay in order of arrival, so a time range is
-- read in one sweep and a random id costs one index entry, no page split of the table.

CREATE TABLE IF NOT EXISTS model_usage (
    seq                INTEGER PRIMARY KEY,
    id                 TEXT NOT NULL UNIQUE,
    timestamp          INTEGER NOT NULL,
    agent_name         TEXT NOT NULL,
    model              TEXT NOT NULL,
    prompt_tokens      INTEGER NOT NULL,
    completion_tokens  INTEGER NOT NULL,
    cost_usd           REAL NOT NULL,
    latency_ms         REAL,
    cost_source        TEXT,
    gateway            TEXT,
    provider           TEXT,
    cache_read_tokens  INTEGER,
    cache_write_tokens INTEGER,
    reasoning_tokens   INTEGER,
    usage_source       TEXT,
    latency_source     TEXT,
    session_key        TEXT,
    run_id             TEXT,
    "trigger"          TEXT,
    channel            TEXT,
    job                TEXT,
    skill              TEXT,
    tool               TEXT,
    -- Characters of the parts of the prompt.
    system_chars       INTEGER,
    tool_chars         INTEGER,
    message_chars      INTEGER,
    other_chars        INTEGER,
    -- Its share of the cost.
    prompt_cost_usd    REAL,
    -- What cache reads saved, and what cache writes cost above the input rate.
    cache_saved_usd       REAL,
    cache_write_extra_usd REAL,
    outcome            TEXT,
    ttfb_ms            REAL,
    ttft_ms            REAL,
    request_id         TEXT,
    response_model     TEXT,
    series             INTEGER,
    flags              INTEGER
);
CREATE INDEX IF NOT EXISTS model_usage_time ON model_usage (timestamp);
-- All that sums and percentiles want to know of single calls, so that they never touch the table. By the hour first, since
-- calls arrive in the order of time: what a batch adds is on few pages.
CREATE INDEX IF NOT EXISTS model_usage_calls ON model_usage
    (timestamp / 3600000000, series, timestamp, latency_ms, prompt_tokens, completion_tokens, cost_usd, flags,
     cache_read_tokens, cache_write_tokens, reasoning_tokens);
-- Calls of an earlier version that are in no sums yet.
CREATE INDEX IF NOT EXISTS model_usage_unsummed ON model_usage (seq) WHERE series IS NULL;
-- A session's calls.
CREATE INDEX IF NOT EXISTS model_usage_session ON model_usage (session_key, timestamp) WHERE session_key IS NOT NULL;
-- What failed is rare, and looked for.
CREATE INDEX IF NOT EXISTS model_usage_failed ON model_usage (timestamp) WHERE flags & 3;

CREATE TABLE IF NOT EXISTS costs (
    seq                INTEGER PRIMARY KEY,
    id                 TEXT NOT NULL UNIQUE,
    timestamp          INTEGER NOT NULL,
    agent_name         TEXT NOT NULL,
    model              TEXT NOT NULL,
    input_tokens       INTEGER NOT NULL,
    output_tokens      INTEGER NOT NULL,
    estimated_cost_usd REAL,
    trace_id           TEXT,
    span_id            TEXT,
    metadata           TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS costs_timestamp ON costs (timestamp);

CREATE TABLE IF NOT EXISTS traces (
    id          TEXT PRIMARY KEY,
    agent_name  TEXT NOT NULL,
    name        TEXT NOT NULL,
    status      TEXT NOT NULL,
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    duration_ms REAL,
    metadata    TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS traces_started_at ON traces (started_at);

CREATE TABLE IF NOT EXISTS spans (
    id          TEXT PRIMARY KEY,
    trace_id    TEXT NOT NULL,
    parent_id   TEXT,
    name        TEXT NOT NULL,
    status      TEXT NOT NULL,
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    duration_ms REAL,
    metadata    TEXT NOT NULL,
    error       TEXT
);
CREATE INDEX IF NOT EXISTS spans_trace_id ON spans (trace_id);
-- Model calls of a trace, and those that failed, behind which fallbacks are looked for.
CREATE INDEX IF NOT EXISTS spans_chat ON spans (trace_id, started_at, status, name) WHERE name GLOB 'chat *';
CREATE INDEX IF NOT EXISTS spans_failed_chat ON spans (started_at) WHERE status = 'failed' AND name GLOB 'chat *';

CREATE TABLE IF NOT EXISTS span_events (
    id        TEXT PRIMARY KEY,
    span_id   TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    message   TEXT NOT NULL,
    metadata  TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS span_events_span_id ON span_events (span_id);

CREATE TABLE IF NOT EXISTS logs (
    id         TEXT PRIMARY KEY,
    agent_name TEXT NOT NULL,
    level      TEXT NOT NULL,
    message    TEXT NOT NULL,
    timestamp  INTEGER NOT NULL,
    metadata   TEXT NOT NULL,
    trace_id   TEXT,
    span_id    TEXT
);
CREATE INDEX IF NOT EXISTS logs_timestamp ON logs (timestamp);

-- The log records of alarms and of losses of the cache, which are rare. `cause` is NULL for alarms.
CREATE TABLE IF NOT EXISTS incidents (
    timestamp  INTEGER NOT NULL,
    log        TEXT NOT NULL,
    agent_name TEXT NOT NULL,
    cause      TEXT,
    usd        REAL,
    PRIMARY KEY (timestamp, log)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS health_checks (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL,
    agent_name  TEXT NOT NULL,
    status      TEXT NOT NULL,
    message     TEXT,
    timestamp   INTEGER NOT NULL,
    duration_ms REAL,
    metadata    TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS health_checks_name ON health_checks (name, agent_name, timestamp);

CREATE TABLE IF NOT EXISTS metrics (
    id         TEXT PRIMARY KEY,
    agent_name TEXT NOT NULL,
    name       TEXT NOT NULL,
    value      REAL NOT NULL,
    kind       TEXT NOT NULL,
    tags       TEXT NOT NULL,
    timestamp  INTEGER NOT NULL,
    trace_id   TEXT,
    span_id    TEXT
);
CREATE INDEX IF NOT EXISTS metrics_name ON metrics (name, agent_name, timestamp);
CREATE INDEX IF NOT EXISTS metrics_timestamp ON metrics (timestamp);
-- The last point of the metric `allowance_spent` of each allowance, of the 1,024 allowances with the latest points.
CREATE TABLE IF NOT EXISTS allowances (
    gateway    TEXT NOT NULL,
    agent_name TEXT NOT NULL,
    allowance  TEXT NOT NULL,
    timestamp  INTEGER NOT NULL,
    spent      REAL NOT NULL,
    most       REAL NOT NULL,
    is_tokens  INTEGER NOT NULL,
    stops      INTEGER NOT NULL,
    ends       INTEGER,
    PRIMARY KEY (gateway, agent_name, allowance)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS allowances_timestamp ON allowances (timestamp);
CREATE INDEX IF NOT EXISTS metrics_errors ON metrics (timestamp) WHERE name = 'model_errors';

CREATE TABLE IF NOT EXISTS cron_runs (
    id          TEXT PRIMARY KEY,
    agent_name  TEXT,
    job_name    TEXT NOT NULL,
    status      TEXT NOT NULL,
    duration_ms REAL,
    error       TEXT,
    timestamp   INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS cron_runs_job ON cron_runs (job_name, timestamp);

-- What calls are told apart by. `kind` 0 tells by all of it; 1 to 5 by the model, the agent, the trigger, the source of
-- the cost or the gateway alone, 7 and 8 by the channel or the cron job alone, with the others empty; 6 by nothing. Empty
-- is also what records did not tell. A series of kind 0 has the numbers of those alone.
CREATE TABLE IF NOT EXISTS series (
    id          INTEGER PRIMARY KEY,
    kind        INTEGER NOT NULL,
    model       TEXT NOT NULL,
    agent       TEXT NOT NULL,
    "trigger"   TEXT NOT NULL,
    cost_source TEXT NOT NULL,
    gateway     TEXT NOT NULL,
    channel     TEXT NOT NULL,
    job         TEXT NOT NULL,
    of_model       INTEGER,
    of_agent       INTEGER,
    of_trigger     INTEGER,
    of_cost_source INTEGER,
    of_gateway     INTEGER,
    of_channel     INTEGER,
    of_job         INTEGER,
    UNIQUE (kind, model, agent, "trigger", cost_source, gateway, channel, job)
);

-- Sums of the calls of a session and a series of kind 0, by hour, kept with each change of a call.
CREATE TABLE IF NOT EXISTS session_hour (
    start             INTEGER NOT NULL,
    session           TEXT NOT NULL,
    series            INTEGER NOT NULL,
    calls             INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    unknown_cost      INTEGER NOT NULL,
    cost_usd          REAL NOT NULL,
    PRIMARY KEY (start, session, series)
) WITHOUT ROWID;

-- Sums of the calls of a series, kept with each change of a call. `start` is the hour's or the day's, in UTC.
-- `latencies` is a packed histogram (histogram.rs), in series of kind 0 and 1. In the order of time, since calls arrive in
-- it: what a batch changes is on few pages.
CREATE TABLE IF NOT EXISTS usage_hour (
    kind               INTEGER NOT NULL,
    series             INTEGER NOT NULL,
    start              INTEGER NOT NULL,
    calls              INTEGER NOT NULL,
    prompt_tokens      INTEGER NOT NULL,
    completion_tokens  INTEGER NOT NULL,
    cache_read_tokens  INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    cache_told_tokens  INTEGER NOT NULL,
    reasoning_tokens   INTEGER NOT NULL,
    unknown_cost       INTEGER NOT NULL,
    timed              INTEGER NOT NULL,
    failed             INTEGER NOT NULL,
    aborted            INTEGER NOT NULL,
    missing_usage      INTEGER NOT NULL,
    rerouted           INTEGER NOT NULL,
    cost_usd           REAL NOT NULL,
    latency_ms         REAL NOT NULL,
    latencies          BLOB,
    PRIMARY KEY (kind, start, series)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS usage_day (
    kind               INTEGER NOT NULL,
    series             INTEGER NOT NULL,
    start              INTEGER NOT NULL,
    calls              INTEGER NOT NULL,
    prompt_tokens      INTEGER NOT NULL,
    completion_tokens  INTEGER NOT NULL,
    cache_read_tokens  INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    cache_told_tokens  INTEGER NOT NULL,
    reasoning_tokens   INTEGER NOT NULL,
    unknown_cost       INTEGER NOT NULL,
    timed              INTEGER NOT NULL,
    failed             INTEGER NOT NULL,
    aborted            INTEGER NOT NULL,
    missing_usage      INTEGER NOT NULL,
    rerouted           INTEGER NOT NULL,
    cost_usd           REAL NOT NULL,
    latency_ms         REAL NOT NULL,
    latencies          BLOB,
    PRIMARY KEY (kind, start, series)
) WITHOUT ROWID;

-- The prompts of the calls that told their parts, by whole series and hour: tokens and US dollars of the system prompt, the
-- tool definitions, the messages and others, divided by characters. `unpriced` calls told no cost of the prompt.
CREATE TABLE IF NOT EXISTS prompt_hour (
    start           INTEGER NOT NULL,
    series          INTEGER NOT NULL,
    calls           INTEGER NOT NULL,
    unpriced        INTEGER NOT NULL,
    system_tokens   INTEGER NOT NULL,
    tool_tokens     INTEGER NOT NULL,
    message_tokens  INTEGER NOT NULL,
    other_tokens    INTEGER NOT NULL,
    system_usd      REAL NOT NULL,
    tool_usd        REAL NOT NULL,
    message_usd     REAL NOT NULL,
    other_usd       REAL NOT NULL,
    PRIMARY KEY (start, series)
) WITHOUT ROWID;

-- What the prompt cache saved and cost, of the calls that told it, by whole series and hour.
CREATE TABLE IF NOT EXISTS cache_hour (
    start           INTEGER NOT NULL,
    series          INTEGER NOT NULL,
    calls           INTEGER NOT NULL,
    saved_usd       REAL NOT NULL,
    write_extra_usd REAL NOT NULL,
    PRIMARY KEY (start, series)
) WITHOUT ROWID;

-- The metric `model_errors`: model calls that failed or were stopped, billed or not, by hour.
CREATE TABLE IF NOT EXISTS errors_hour (
    start      INTEGER NOT NULL,
    model      TEXT NOT NULL,
    agent      TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    errors     REAL NOT NULL,
    PRIMARY KEY (start, model, agent, outcome)
) WITHOUT ROWID;

-- How often the sums were changed. One row.
CREATE TABLE IF NOT EXISTS sums_state (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    changes INTEGER NOT NULL
);
INSERT OR IGNORE INTO sums_state VALUES (1, 0);
