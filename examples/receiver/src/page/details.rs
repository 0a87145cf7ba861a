//! Single calls: the latest ones, their sessions, and one call with all fields.

use super::address::Address;
use super::format::{count, counted, duration, escape, money};
use super::tables::name;
use super::view::{CALLS_FOR_SESSIONS, View, lists_calls};
use crate::clock::{self, Micros};
use crate::store::calls::FIELDS;
use serde_json::Value;
use std::fmt::Write;

/// Maximum number of listed sessions.
const SESSIONS_SHOWN: usize = 20;

/// The section; only a link if calls are not listed.
pub fn details(view: &View, address: &Address) -> String {
    if !lists_calls(address) {
        let href = escape(
            &Address {
                calls: true,
                ..address.clone()
            }
            .query(),
        );
        return format!(
            r#"<p class="note"><a href="{href}#calls">Show single calls and sessions</a></p>"#
        );
    }
    let one = view.call.as_ref().map(call).unwrap_or_default();
    format!("{one}{}{}", calls(view, address), sessions(view, address))
}

fn text<'a>(call: &'a Value, field: &str) -> &'a str {
    call[field].as_str().unwrap_or_default()
}

fn whole(call: &Value, field: &str) -> String {
    call[field].as_i64().map_or_else(|| "–".into(), count)
}

/// `2026-03-01 12:00:00`.
fn time(address: &Address, at: Micros) -> String {
    let text = address.time(at, "%Y-%m-%d %H:%M:%S");
    ["<time>", &text, "</time>"].concat()
}

fn cost(call: &Value) -> String {
    if call["cost_source"] == "unknown" {
        "not known".into()
    } else {
        money(call["cost_usd"].as_f64().unwrap_or(0.0))
    }
}

fn calls(view: &View, address: &Address) -> String {
    let mut rows = String::new();
    for call in &view.calls {
        let id = text(call, "id");
        let href = escape(
            &Address {
                call: Some(id.to_owned()),
                ..address.clone()
            }
            .query(),
        );
        let outcome = text(call, "outcome");
        let class = if matches!(outcome, "failed" | "aborted") {
            " class=warn"
        } else {
            ""
        };
        let _ = writeln!(
            rows,
            r##"<tr{class}><th scope=row><a href="{href}#call">{}</a><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}"##,
            time(
                address,
                clock::parse_iso(text(call, "timestamp")).unwrap_or_default()
            ),
            escape(text(call, "model")),
            escape(text(call, "agent_name")),
            name(text(call, "trigger")),
            whole(call, "prompt_tokens"),
            whole(call, "cache_read_tokens"),
            whole(call, "completion_tokens"),
            cost(call),
            duration(call["latency_ms"].as_f64()),
            name(outcome),
        );
    }
    let of_session = match &address.session {
        None => String::new(),
        Some(session) => {
            let all = Address {
                session: None,
                call: None,
                ..address.clone()
            };
            format!(
                r#"<p class="note">Of session {}. <a href="{}#calls">Show those of all sessions</a></p>"#,
                escape(session),
                escape(&all.query())
            )
        }
    };
    let (what, other) = if address.failed {
        (
            "Latest failed and stopped calls that were billed",
            ("Show all calls", false),
        )
    } else {
        ("Latest calls", ("Show only failed and stopped ones", true))
    };
    let href = escape(
        &Address {
            calls: true,
            failed: other.1,
            call: None,
            ..address.clone()
        }
        .query(),
    );
    let table = if rows.is_empty() {
        "<p class=note>There are none.</p>".to_owned()
    } else {
        format!(
            r#"<div class="wide" tabindex="0" role="group" aria-labelledby="calls"><table class="left"><thead><tr><th scope=col>Ended<th scope=col>Model<th scope=col>Agent<th scope=col>Trigger<th scope=col>Prompt<th scope=col>Cached<th scope=col>Completion<th scope=col>Cost<th scope=col>Latency<th scope=col>Outcome<tbody>{rows}</table></div>"#
        )
    };
    format!(
        r#"<section class="card" aria-labelledby="calls"><h2 id="calls">{what}</h2>{of_session}{table}<p class="note"><a href="{href}#calls">{}</a></p></section>"#,
        other.0
    )
}

/// A link to a session's calls.
pub fn of(address: &Address, session: &str) -> String {
    if session.is_empty() {
        return name(session);
    }
    let address = Address {
        session: Some(session.to_owned()),
        call: None,
        ..address.clone()
    };
    format!(
        r#"<a href="{}#calls">{}</a>"#,
        escape(&address.query()),
        escape(session)
    )
}

fn sessions(view: &View, address: &Address) -> String {
    if view.sessions.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for session in view.sessions.iter().take(SESSIONS_SHOWN) {
        let unknown = match session.unknown_cost {
            0 => String::new(),
            unknown => format!(
                "<small>{} of {} unpriced</small>",
                count(unknown),
                count(session.calls)
            ),
        };
        let _ = writeln!(
            rows,
            "<tr><th scope=row>{}<td>{}<td>{}<td>{}{unknown}<td>{}<td>{}",
            of(address, &session.key),
            count(session.calls),
            count(session.tokens),
            money(session.cost_usd),
            time(address, session.first),
            time(address, session.last),
        );
    }
    let seen: i64 = view.sessions.iter().map(|session| session.calls).sum();
    let scope = if usize::try_from(seen).is_ok_and(|seen| seen >= CALLS_FOR_SESSIONS) {
        format!("the latest {} calls", count(seen))
    } else {
        "these calls".into()
    };
    let more = match view.sessions.len().saturating_sub(SESSIONS_SHOWN) {
        0 => String::new(),
        more => format!(
            "<p class=note>and {}.</p>",
            counted(more as i64, "earlier session", "earlier sessions")
        ),
    };
    format!(
        r#"<section class="card" aria-labelledby="sessions"><h2 id="sessions">Sessions</h2><div class="wide" tabindex="0" role="group" aria-labelledby="sessions"><table><caption>Of {scope}, the session called last first</caption><thead><tr><th scope=col>Session<th scope=col>Requests<th scope=col>Tokens<th scope=col>Cost<th scope=col>First call<th scope=col>Last call<tbody>{rows}</table></div>{more}</section>"#
    )
}

/// Every field that was sent.
fn call(call: &Value) -> String {
    let mut items = String::new();
    for field in FIELDS {
        let shown = match &call[field] {
            Value::Null => continue,
            Value::String(text) => escape(text),
            Value::Number(number) => number.as_i64().map_or_else(|| number.to_string(), count),
            other => escape(&other.to_string()),
        };
        let _ = write!(items, "<div><dt>{field}<dd>{shown}</div>");
    }
    format!(
        r#"<section class="card" aria-labelledby="call"><h2 id="call">One call</h2><dl class="fields">{items}</dl></section>"#
    )
}
