-- Instants are microseconds since 1970, money is US dollars, durations are milliseconds.
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
    outcome            TEXT,
    ttfb_ms            REAL,
    ttft_ms            REAL,
    request_id         TEXT,
    response_model     TEXT
);
-- Everything the Models page asks for, so that its sweep over a time range never touches the table.
CREATE INDEX IF NOT EXISTS model_usage_stats ON model_usage
    (timestamp, model, prompt_tokens, completion_tokens, cost_usd, latency_ms, cost_source);

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
