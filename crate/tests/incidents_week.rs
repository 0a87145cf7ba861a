//! Weeks of ordinary gateways through the whole engine, with a kill each day: not one alarm. The same weeks with a runaway
//! at the end: one.

use crate::common::Gateway;
use crate::spending_life::{Event, Life, MINUTE_MS, What, session};
use agentwatch_openclaw::spending::who::Who;
use agentwatch_openclaw::spending::window::DAY_MS;
use serde_json::{Value, json};

/// The session's key as OpenClaw makes it.
fn key_of(who: &Who) -> String {
    let agent = who.agent.as_deref().unwrap();
    let own = who.session.as_deref().unwrap();
    let number = own.rsplit('#').next().unwrap();
    match (who.trigger.as_deref().unwrap(), &who.job) {
        ("cron", Some(job)) => format!("agent:{agent}:cron:{job}:run:{number}"),
        ("subagent", _) => format!("agent:{agent}:subagent:{number}"),
        // Heartbeats run in the agent's main session.
        ("heartbeat", _) => format!("agent:{agent}:main"),
        _ => format!("agent:{agent}:{number}"),
    }
}

struct Player {
    gateway: Gateway,
    now_ms: u64,
    /// Calls so far; a call's output is their number.
    calls: u64,
}

impl Player {
    fn new(life: &Life) -> Self {
        let settings = r#"{"url": false, "webhook": {"url": "https://hooks.test", "secret": "s"}}"#;
        Self {
            gateway: Gateway::with(settings, false),
            now_ms: life.begins_ms,
            calls: 0,
        }
    }

    fn hear(&mut self, source: &str, args: &Value) {
        self.gateway.hear(source, args, self.now_ms);
    }

    fn play(&mut self, life: &Life) {
        let mut day = self.now_ms / DAY_MS;
        for Event { at_ms, who, what } in &life.events {
            let at_ms = (*at_ms).max(self.now_ms);
            self.gateway.run_until(self.now_ms, at_ms);
            self.now_ms = at_ms;
            if at_ms / DAY_MS > day {
                day = at_ms / DAY_MS;
                self.gateway.restart(at_ms);
            }
            let key = key_of(who);
            let trigger = who.trigger.as_deref().unwrap();
            let ctx = json!({"agentId": who.agent, "sessionKey": key});
            let run_id = format!("run-{at_ms}");
            let run = json!({"event": {"sessionKey": key, "runId": run_id, "trigger": trigger}});
            match what {
                What::Person => {
                    self.hear("run.started", &run);
                    let message = json!({"role": "user", "timestamp": at_ms});
                    let args = json!({"event": {"message": message}, "ctx": ctx});
                    self.hear("before_message_write", &args);
                }
                What::Retry | What::Answer(_) => {
                    if trigger != "user" {
                        self.hear("run.started", &run);
                    }
                    self.calls += 1;
                    let (reason, usage) = match what {
                        What::Answer(usd) => (
                            "stop",
                            json!({"input": 1_000, "output": self.calls, "cost": {"total": usd}}),
                        ),
                        _ => ("error", Value::Null),
                    };
                    let message = json!({"role": "assistant", "provider": "p", "model": "m", "stopReason": reason,
                        "timestamp": at_ms - 900, "usage": usage});
                    let args = json!({"event": {"message": message}, "ctx": ctx});
                    self.hear("before_message_write", &args);
                }
                What::Tool(name, has_failed) => {
                    let mut event = json!({"toolName": name, "toolCallId": "t", "durationMs": 3});
                    if *has_failed {
                        event["error"] = json!("it failed");
                    }
                    self.hear("after_tool_call", &json!({"event": event, "ctx": ctx}));
                }
            }
        }
        let ends_ms = self.now_ms + 2 * MINUTE_MS;
        self.gateway.run_until(self.now_ms, ends_ms);
        self.now_ms = ends_ms;
    }

    fn alarms(&self) -> Vec<String> {
        let lines = self.gateway.log.iter().cloned();
        lines
            .filter(|line| line.contains("has spent") || line.contains("in a row"))
            .collect()
    }
}

#[test]
fn ordinary_weeks_raise_no_alarm_and_a_runaway_raises_one() {
    // A week of chats, coding, cron jobs and heartbeats; `SEEDS=20` plays more weeks, of all kinds.
    let more = std::env::var("SEEDS").ok();
    let more = more.and_then(|seeds| seeds.parse().ok()).unwrap_or(0);
    for seed in (4..5).chain(5..more) {
        let life = Life::gateway(seed);
        let mut player = Player::new(&life);
        player.play(&life);
        assert!(
            player.alarms().is_empty(),
            "seed {seed}: {:?}",
            player.alarms()
        );
        assert_eq!(player.gateway.status()["alarm"]["count"], 0);
        assert!(player.gateway.notices.is_empty());
        assert!(player.calls > 100, "seed {seed}: {} calls", player.calls);
        // 754 calls for 70 USD by a cron job, at night.
        let mut runaway = Life::new(seed);
        runaway.begins_ms += 7 * DAY_MS + 90 * MINUTE_MS;
        let job = session("main", "cron", Some(9), 1);
        for call in 0..754 {
            let at_ms = runaway.begins_ms + call * 12_000;
            runaway.add(at_ms, &job, What::Answer(70.0 / 754.0));
        }
        player.play(&runaway);
        let alarms = player.alarms();
        assert_eq!(alarms.len(), 1, "seed {seed}: {alarms:?}");
        assert!(alarms[0].contains("at night"), "{alarms:?}");
        assert_eq!(player.gateway.notices.len(), 1);
    }
}
