//! Cache incidents, the runaway alarm and the webhook through the whole engine: each is reported once, over kills too.

use crate::common::Gateway;
use agentwatch_openclaw::delivery::webhook::MAX_WAITING;
use agentwatch_openclaw::domain::call::CostSource;
use agentwatch_openclaw::journal::{self, Frame, Reader};
use agentwatch_openclaw::pricing::price::Price;
use agentwatch_openclaw::spending::loops::QUIET_MS;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

const START_MS: u64 = 1_795_000_000_000;
const MINUTE_MS: u64 = 60_000;
const SETTINGS: &str = r#"{"url": "http://receiver.test", "identities": "plain", "gateway": "berlin",
    "webhook": {"url": "https://hooks.test/in?key=SECRET", "secret": "shared"}}"#;
const SESSION: &str = "agent:main:chat";

/// A gateway and its clock.
struct World {
    gateway: Gateway,
    now_ms: u64,
    /// Characters of the tools' definitions.
    tool_chars: u64,
}

impl World {
    fn new() -> Self {
        Self::with(SETTINGS)
    }

    fn with(settings: &str) -> Self {
        let mut world = Self {
            gateway: Gateway::with(settings, true),
            now_ms: START_MS,
            tool_chars: 30_000,
        };
        world.price();
        world
    }

    fn price(&mut self) {
        for model in ["claude", "opus"] {
            let price = Price {
                source: CostSource::Table,
                tiers: vec![[0.0, 3.0, 15.0, 0.3, 3.75]],
                ..Price::UNKNOWN
            };
            self.gateway.engine.set_price("anthropic", model, price);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.gateway.run_until(self.now_ms, self.now_ms + ms);
        self.now_ms += ms;
    }

    /// The notices that the webhook accepted, with their signatures checked.
    fn notices(&self) -> Vec<Value> {
        let checked = self.gateway.notices.iter().map(|request| {
            assert_eq!(request.url, "https://hooks.test/in?key=SECRET");
            let mut mac = Hmac::<Sha256>::new_from_slice(b"shared").unwrap();
            mac.update(request.body.as_bytes());
            let digits = mac.finalize().into_bytes();
            let digits: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
            let body: Value = serde_json::from_str(&request.body).unwrap();
            let [signature, timestamp] = &request.headers;
            assert_eq!(signature.1, format!("sha256={digits}"));
            assert_eq!(body["sent"], *timestamp.1);
            body
        });
        checked.collect()
    }

    /// The process is killed; another one continues.
    fn kill(&mut self) {
        self.now_ms += 1_000;
        self.gateway.restart(self.now_ms);
        self.price();
    }

    fn hear(&mut self, source: &str, args: &Value) {
        self.gateway.hear(source, args, self.now_ms);
    }

    /// A call as 2026.9.6 reports it: a message, and a moment later the diagnostic.
    fn call(&mut self, model: &str, usage: [u64; 3]) {
        let [input, read, write] = usage;
        let began = self.now_ms;
        self.pass(5_000);
        let usage = json!({"input": input, "output": 200, "cacheRead": read, "cacheWrite": write});
        self.hear(
            "before_message_write",
            &json!({
                "event": {"message": {"role": "assistant", "provider": "anthropic", "model": model, "api": "anthropic-messages",
                    "stopReason": "stop", "timestamp": began, "usage": usage}},
                "ctx": {"agentId": "main", "sessionKey": SESSION},
            }),
        );
        self.pass(20);
        let span = format!("{:016x}", self.now_ms);
        self.hear(
            "model.call.completed",
            &json!({"event": {
                "type": "model.call.completed", "ts": self.now_ms - 20, "runId": "r", "sessionKey": SESSION, "provider": "anthropic",
                "model": model, "durationMs": 5_000, "usage": usage, "trace": {"spanId": span},
                "promptStats": {"systemPromptChars": 20_000, "toolDefinitionsChars": self.tool_chars, "inputMessagesChars": 9_000,
                    "totalChars": 29_000 + self.tool_chars},
            }}),
        );
    }

    fn warm_up(&mut self) {
        self.call("claude", [10, 0, 38_000]);
        self.pass(10_000);
        self.call("claude", [10, 38_000, 2_000]);
        self.pass(10_000);
    }

    /// A call that reads nothing and writes the whole prompt again.
    fn lose(&mut self, model: &str) {
        self.call(model, [10, 0, 42_000]);
        self.pass(10_000);
    }

    fn tool(&mut self, name: &str, has_failed: bool) {
        self.pass(2_000);
        let mut event = json!({"toolName": name, "toolCallId": "t", "durationMs": 3, "result": {"content": []}});
        if has_failed {
            event["error"] = json!("File not found: /home/user/SECRET.txt");
        }
        let args = json!({"event": event, "ctx": {"agentId": "main", "sessionKey": SESSION, "toolName": name}});
        self.hear("after_tool_call", &args);
    }

    /// The model calls a tool, which fails.
    fn fail(&mut self) {
        self.call("claude", [100, 0, 0]);
        self.tool("exec", true);
    }

    fn status(&self) -> Value {
        self.gateway.status()
    }

    /// The records of a list that the receiver has, of one type.
    fn records(&self, list: &str, kind: &str) -> Vec<Value> {
        let all = self.gateway.receiver.records(list);
        let is_it = |record: &&Value| record["metadata"]["type"] == kind;
        all.iter().filter(is_it).cloned().collect()
    }

    fn logged(&self, text: &str) -> usize {
        let lines = self.gateway.log.iter();
        lines.filter(|line| line.contains(text)).count()
    }

    fn kinds(&self) -> Vec<String> {
        let kinds = self.notices().into_iter();
        kinds
            .map(|notice| notice["type"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn each_cause_of_a_cache_incident_has_its_name() {
    let session_end = |reason: &str| json!({"event": {"sessionKey": SESSION, "reason": reason}, "ctx": {"sessionKey": SESSION, "agentId": "main"}});
    let of_context =
        json!({"event": {"messageCount": 40}, "ctx": {"sessionKey": SESSION, "agentId": "main"}});
    let internal =
        |action: &str| json!({"event": {"action": action, "sessionKey": SESSION, "context": {}}});
    let cases: [(&str, &str, Value); 12] = [
        ("unknown", "", Value::Null),
        ("unknown", "session_end", session_end("shutdown")),
        ("reset", "session_end", session_end("new")),
        ("reset", "session_end", session_end("daily")),
        ("reset", "before_reset", of_context.clone()),
        ("reset", "command", internal("new")),
        ("reset", "command", internal("reset")),
        ("unknown", "command", internal("stop")),
        ("compaction", "before_compaction", of_context.clone()),
        ("compaction", "after_compaction", of_context),
        ("compaction", "session_end", session_end("compaction")),
        ("compaction", "session", internal("compact:after")),
    ];
    for (cause, source, args) in cases {
        let mut world = World::new();
        world.warm_up();
        if !source.is_empty() {
            world.hear(source, &args);
        }
        world.lose("claude");
        world.pass(MINUTE_MS);
        let records = world.records("logs", "cache_incident");
        assert_eq!(records.len(), 1, "{cause} by {source}");
        assert_eq!(records[0]["metadata"]["cause"], cause, "{source}");
    }
    let mut idle = World::new();
    idle.warm_up();
    idle.pass(6 * MINUTE_MS);
    idle.lose("claude");
    let mut model = World::new();
    model.warm_up();
    model.lose("opus");
    let mut tools = World::new();
    tools.warm_up();
    tools.tool_chars += 500;
    tools.lose("claude");
    let others = [
        (&mut idle, "idle"),
        (&mut model, "model"),
        (&mut tools, "fixed_prompt"),
    ];
    for (world, cause) in others {
        world.pass(MINUTE_MS);
        assert_eq!(
            world.records("logs", "cache_incident")[0]["metadata"]["cause"],
            cause
        );
    }
}

#[test]
fn a_reset_right_after_a_call_explains_the_next_one() {
    let mut world = World::new();
    world.call("claude", [10, 0, 38_000]);
    // The call is not final yet.
    world.now_ms += 30;
    let args =
        json!({"event": {"reason": "new"}, "ctx": {"sessionKey": SESSION, "agentId": "main"}});
    world.hear("before_reset", &args);
    world.pass(10_000);
    world.lose("claude");
    world.pass(MINUTE_MS);
    let records = world.records("logs", "cache_incident");
    assert_eq!(records[0]["metadata"]["cause"], "reset");
}

#[test]
fn a_cache_incident_is_reported_once_with_its_price() {
    let mut world = World::new();
    world.warm_up();
    world.lose("claude");
    // 40,000 tokens at 3.75 USD instead of 0.30 USD per million.
    let text = "agent main, session agent:main:chat lost 40000 cached tokens (0.138 USD more than reading them): \
                the provider dropped it, or the history was changed";
    for _ in 0..3 {
        world.kill();
        world.pass(MINUTE_MS);
    }
    assert_eq!(world.logged(text), 1, "{:?}", world.gateway.log);
    let records = world.records("logs", "cache_incident");
    assert_eq!(records.len(), 1);
    assert_eq!(
        (&records[0]["level"], &records[0]["message"]),
        (&json!("warn"), &json!(text))
    );
    assert_eq!(records[0]["metadata"]["extra_usd"], 0.138);
    // Each call tells what its reads saved and its writes cost extra: 38,000 tokens at 2.70 and 2,000 at 0.75 USD.
    let told = |field: &str| -> Vec<Option<f64>> {
        let calls = world.gateway.receiver.calls.iter();
        calls.map(|call| call[field].as_f64()).collect()
    };
    assert_eq!(
        told("cache_saved_usd"),
        [0.0, 0.102_6, 0.0].map(Some),
        "after kills, too"
    );
    assert_eq!(
        told("cache_write_extra_usd")[..2],
        [0.028_5, 0.001_5].map(Some)
    );
    assert_eq!(world.kinds(), ["cache_incident"]);
    let notice = &world.notices()[0].clone();
    assert_eq!(notice["gateway"], "berlin");
    assert_eq!(notice["agent"], "main");
    assert_eq!(notice["session"], SESSION);
    assert_eq!(notice["message"], text);
    let status = world.status();
    assert_eq!(status["cache"]["incidents"], 1);
    assert_eq!(status["cache"]["lost_usd"], 0.138);
    assert_eq!(status["cache"]["last"][0]["text"], text);
    assert_eq!(status["webhook"]["origin"], "https://hooks.test");
    assert!(!status.to_string().contains("SECRET"), "{status}");
    // A cheap one is no notice, and no warning.
    let mut world = World::new();
    world.call("claude", [10, 0, 6_000]);
    world.pass(1_000);
    world.call("claude", [10, 0, 6_000]);
    world.pass(MINUTE_MS);
    assert_eq!(world.records("logs", "cache_incident")[0]["level"], "info");
    assert!(world.notices().is_empty());
}

/// The state is large, and a provider that never reads what it wrote makes an incident of each call.
#[test]
fn a_cache_incident_without_a_webhook_writes_no_state_of_its_own() {
    let mut world = World::with(r#"{"url": "http://receiver.test", "identities": "plain"}"#);
    world.warm_up();
    for _ in 0..5 {
        world.lose("claude");
        world.pass(1_000);
    }
    assert!(world.records("logs", "cache_incident").len() > 2);
    let files = world.gateway.disk.files();
    let frames = files
        .values()
        .filter_map(|file| Reader::open(file).ok())
        .flatten();
    let is_state = |frame: &Option<Frame>| matches!(frame, Some(Frame::Incidents(_)));
    let frames = frames.map(|(_, payload)| journal::format_v1::frame(payload));
    assert!(frames.filter(is_state).count() <= 1);
}

#[test]
fn the_next_owner_knows_what_a_cache_held_when_this_one_ended() {
    let mut world = World::new();
    world.warm_up();
    let now = world.gateway.now(world.now_ms);
    world.gateway.engine.close(true, now);
    world.gateway.write();
    world.kill();
    world.lose("claude");
    world.pass(MINUTE_MS);
    let records = world.records("logs", "cache_incident");
    assert_eq!(records.len(), 1);
}

#[test]
fn a_loop_is_alarmed_within_ten_calls_and_once() {
    let mut world = World::new();
    let mut calls = 0;
    while world.status()["alarm"]["count"] == 0 {
        world.fail();
        calls += 1;
        assert!(calls <= 10);
    }
    let text = "tool exec of agent main, session agent:main:chat has failed 8 times in a row";
    for _ in 0..30 {
        world.fail();
        world.kill();
    }
    world.pass(1_000);
    let open = &world.status()["alarm"]["open"];
    assert_eq!(open.as_array().unwrap().len(), 1, "{open}");
    assert!(
        open[0]["text"]
            .as_str()
            .unwrap()
            .starts_with("tool exec of agent main")
    );
    assert_eq!(world.logged(text), 1, "{:?}", world.gateway.log);
    assert_eq!(world.kinds(), ["alarm_began"]);
    assert_eq!(world.records("logs", "alarm_began").len(), 1);
    assert_eq!(
        world.records("logs", "alarm_began")[0]["metadata"]["tool"],
        "exec"
    );
    let health = |world: &World| {
        let all = world.gateway.receiver.records("health");
        let of_spending = all.iter().filter(|record| record["name"] == "spending");
        let words = of_spending.map(|record| record["status"].as_str().unwrap().to_owned());
        words.collect::<Vec<String>>()
    };
    assert_eq!(health(&world), ["warn"]);
    // Nothing happens any more: the end comes by time alone.
    world.pass(QUIET_MS + 2 * MINUTE_MS);
    assert_eq!(world.kinds(), ["alarm_began", "alarm_ended"]);
    assert_eq!(
        world.notices()[0]["incident"],
        world.notices()[1]["incident"]
    );
    assert_ne!(world.notices()[0]["id"], world.notices()[1]["id"]);
    assert_eq!(world.records("logs", "alarm_ended").len(), 1);
    assert_eq!(health(&world), ["warn", "ok"]);
    assert_eq!(world.status()["alarm"]["open"], json!([]));
    assert_eq!(world.status()["alarm"]["count"], 1);
    world.kill();
    world.pass(MINUTE_MS);
    assert_eq!(world.kinds().len(), 2);
    let all = format!(
        "{:?}{:?}{}",
        world.notices(),
        world.gateway.log,
        world.status()
    );
    assert!(!all.contains("SECRET"), "{all}");
}

#[test]
fn the_gateways_own_detector_and_failed_calls_raise_the_alarm() {
    let mut world = World::new();
    let found = json!({"event": {"type": "tool.loop", "sessionKey": SESSION, "toolName": "exec", "level": "critical",
        "detector": "generic_repeat", "count": 20, "action": "block", "message": "SECRET"}});
    world.hear("tool.loop", &found);
    world.hear("tool.loop", &found);
    world.pass(1_000);
    assert_eq!(world.kinds(), ["alarm_began"]);
    assert_eq!(world.notices()[0]["count"], 20);
    let mut world = World::new();
    for _ in 0..25 {
        world.pass(3_000);
        let span = format!("{:016x}", world.now_ms);
        world.hear(
            "model.call.error",
            &json!({"event": {"type": "model.call.error", "ts": world.now_ms, "sessionKey": SESSION, "provider": "anthropic",
                "model": "claude", "durationMs": 40, "errorCategory": "server_error", "trace": {"spanId": span}}}),
        );
    }
    world.pass(MINUTE_MS);
    assert_eq!(world.kinds(), ["alarm_began"]);
    assert_eq!(world.notices()[0]["kind"], "retries");
}

#[test]
fn an_alarm_that_is_switched_off_is_silent() {
    let mut world = World::with(&SETTINGS.replacen('{', r#"{"alarm": false, "#, 1));
    (0..12).for_each(|_| world.fail());
    world.pass(MINUTE_MS);
    assert_eq!(world.status()["alarm"]["count"], 0);
    assert_eq!(world.status()["alarm"]["on"], false);
}

#[test]
fn a_notice_is_sent_until_it_is_accepted_over_a_kill_with_the_same_id() {
    let mut world = World::new();
    world.gateway.webhook_answers = vec![0, 500, 302, 401];
    (0..8).for_each(|_| world.fail());
    world.pass(1_000);
    assert!(world.notices().is_empty());
    assert_eq!(world.status()["webhook"]["waiting"], 1);
    world.kill();
    assert_eq!(world.status()["webhook"]["waiting"], 1);
    for _ in 0..10 {
        world.pass(MINUTE_MS);
    }
    assert_eq!(world.kinds()[0], "alarm_began");
    assert_eq!(world.status()["webhook"]["waiting"], 0);
    assert_eq!(world.status()["webhook"]["last_error"], Value::Null);
    // It was accepted, and the process was killed before that was on disk.
    let mut world = World::new();
    (0..8).for_each(|_| world.fail());
    let files = world.gateway.disk.files().clone();
    world.pass(1_000);
    *world.gateway.disk.files() = files;
    world.kill();
    world.pass(MINUTE_MS);
    assert_eq!(world.kinds(), ["alarm_began", "alarm_began"]);
    assert_eq!(world.notices()[0]["id"], world.notices()[1]["id"]);
}

#[test]
fn a_refused_notice_is_dropped_and_the_queue_is_bounded() {
    let mut world = World::new();
    world.gateway.webhook_answers = vec![422];
    world.warm_up();
    world.lose("claude");
    world.pass(MINUTE_MS);
    let webhook = &world.status()["webhook"];
    assert_eq!(
        (&webhook["waiting"], &webhook["dropped"]),
        (&json!(0), &json!({"refused": 1}))
    );
    world.gateway.webhook_answers = vec![503; 10_000];
    for _ in 0..MAX_WAITING + 10 {
        world.lose("claude");
    }
    let webhook = &world.status()["webhook"];
    assert_eq!(webhook["waiting"], MAX_WAITING);
    assert_eq!(webhook["dropped"]["queue_full"], 10);
    // Older than a day.
    world.pass(25 * 60 * MINUTE_MS);
    assert_eq!(world.status()["webhook"]["waiting"], 0);
}

#[test]
fn a_wrong_webhook_is_named_and_never_called() {
    for webhook in [
        r#""https://h""#,
        r#"{"url": "http://elsewhere.test/", "secret": "s"}"#,
        r#"{"url": "https://h/"}"#,
        r#"{"url": "https://h/", "secret": "s", "headers": {}}"#,
    ] {
        let settings = format!(r#"{{"webhook": {webhook}}}"#);
        let mut world = World::with(&settings);
        world.pass(1_000);
        assert_eq!(world.logged("webhook"), 1, "{:?}", world.gateway.log);
        assert_eq!(world.logged("no webhook is called"), 1);
        assert_eq!(world.status()["webhook"], Value::Null);
    }
}

#[test]
fn a_state_that_was_written_once_is_read() {
    let path = std::path::Path::new("../tests/fixtures/journal/incidents-v1.awj");
    let mut world = World::new();
    world.gateway.webhook_answers = vec![503; 9];
    world.warm_up();
    world.lose("claude");
    (0..8).for_each(|_| world.fail());
    world.pass(1_000);
    let status = |world: &World| {
        let all = world.status();
        let webhook = all["webhook"]["waiting"].clone();
        json!([all["cache"], all["alarm"], webhook])
    };
    let is_state = |frame: &Option<Frame>| matches!(frame, Some(Frame::Incidents(_)));
    if !path.exists() && std::env::var("WRITE_GOLDEN").is_ok() {
        world.gateway.engine.compact();
        world.gateway.write();
        let mut bytes = journal::begin_file();
        for (_, file) in world.gateway.disk.files().iter() {
            let payloads = Reader::open(file).unwrap().map(|(_, payload)| payload);
            let found = payloads.map(journal::format_v1::frame).find(is_state);
            if let Some(Some(frame)) = found {
                journal::append_frame(&mut bytes, &frame);
            }
        }
        std::fs::write(path, bytes).unwrap();
    }
    let expected = status(&world);
    assert_eq!(
        (&expected[0]["incidents"], &expected[2]),
        (&json!(1), &json!(2))
    );
    let other = World::new();
    let golden = std::fs::read(path).unwrap();
    other
        .gateway
        .disk
        .files()
        .insert("ledger-0000000001.awj".to_owned(), golden);
    let mut other = other;
    other.now_ms = world.now_ms;
    other.kill();
    assert_eq!(status(&other), expected);
    assert_eq!(other.status()["journal_corrupt"], 0);
}

#[test]
fn a_state_that_cannot_be_read_is_counted_and_replaced() {
    let mut bytes = journal::begin_file();
    journal::append_frame(&mut bytes, &Frame::Incidents(vec![0xff; 40]));
    let mut world = World::new();
    world
        .gateway
        .disk
        .files()
        .insert("ledger-0000000001.awj".to_owned(), bytes);
    world.kill();
    assert_eq!(world.status()["journal_corrupt"], 1);
    (0..8).for_each(|_| world.fail());
    world.pass(1_000);
    assert_eq!(world.kinds(), ["alarm_began"]);
}

#[test]
fn warnings_of_an_allowance_reach_the_webhook_once() {
    let allowance =
        r#"{"allowance": [{"usd": 0.36, "per": "day", "agent": "main", "then": "warn"}], "#;
    let mut world = World::with(&SETTINGS.replacen('{', allowance, 1));
    // 0.153 USD each.
    for _ in 0..3 {
        world.call("claude", [50_000, 0, 0]);
        world.pass(10_000);
        world.kill();
    }
    world.pass(MINUTE_MS);
    assert_eq!(
        world.kinds(),
        ["allowance", "allowance"],
        "{:?}",
        world.gateway.log
    );
    let percents: Vec<Value> = world
        .notices()
        .iter()
        .map(|one| one["percent"].clone())
        .collect();
    assert_eq!(percents, [80, 100]);
    assert_eq!(world.notices()[0]["then"], "warn");
}

#[test]
fn the_night_is_that_of_the_zone() {
    // 02:00 in UTC; the machine is five hours behind, and the other zone three hours ahead.
    let zones = r#"{"zones": [["Here", -18000], ["There", 10800]], "#;
    for (zone, is_night) in [
        ("", false),
        (r#""zone": "there", "#, true),
        (r#""zone": "Nowhere", "#, false),
    ] {
        let settings = SETTINGS.replacen('{', &format!("{zones}{zone}"), 1);
        let mut world = World::with(&settings);
        world.now_ms = START_MS - START_MS % (24 * 60 * MINUTE_MS) + 120 * MINUTE_MS;
        world.pass(10);
        assert_eq!(
            world.logged("zone \"Nowhere\" is unknown"),
            usize::from(zone.contains("Nowhere"))
        );
        // 12 USD: more than a job without a past may spend in an hour of the night.
        for _ in 0..8 {
            let began = world.now_ms;
            world.pass(4_000);
            world.hear(
                "before_message_write",
                &json!({
                    "event": {"message": {"role": "assistant", "provider": "anthropic", "model": "claude", "stopReason": "stop",
                        "timestamp": began, "usage": {"input": 500_000, "output": began % 100_000}}},
                    "ctx": {"agentId": "main", "sessionKey": "agent:main:cron:report"},
                }),
            );
            world.pass(10_000);
        }
        let kinds: Vec<Value> = world
            .notices()
            .iter()
            .map(|one| one["kind"].clone())
            .collect();
        let expected: &[&str] = if is_night { &["night_spend"] } else { &[] };
        assert_eq!(kinds, expected, "{zone}");
    }
}
