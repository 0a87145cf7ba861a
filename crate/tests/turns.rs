//! When a turn ends: its events may arrive late, by an amount that depends on the machine and the gateway.

use crate::watched::{Watched, answer, assert_sound, received, sent, tool, user};
use proptest::prelude::*;
use serde_json::{Value, json};

const SESSION: &str = "agent:main:main";

/// Events of a gateway, in order.
#[derive(Clone, Copy, Debug)]
enum Told {
    Received,
    User,
    Answer(&'static str, &'static str),
    Tool(Option<u64>),
    Sent(bool),
    RunStarted,
    RunCompleted,
    State(&'static str, &'static str),
    Delivery(&'static str),
}
use Told::{Answer, Delivery, Received, RunCompleted, RunStarted, Sent, State, Tool, User};

const MESSAGE_BEGINS: Told = State("processing", "message_start");
const MESSAGE_ENDS: Told = State("idle", "message_completed");
const RUN_BEGINS: Told = State("processing", "run_started");
const RUN_ENDS: Told = State("idle", "run_completed");
const TRIED_AGAIN: Told = State("processing", "run_replaced");

impl Told {
    fn event(self, now_ms: u64) -> (String, Value) {
        let run = json!({"event": {"sessionKey": SESSION, "runId": "44822069-6d64-48c5-a25d-b7b4cf2c6b7d"}});
        let (source, args) = match self {
            Received => ("message_received", received(Some(SESSION), "7", "hello")),
            User => ("before_message_write", user(SESSION)),
            Answer(model, stop) => (
                "before_message_write",
                answer(SESSION, model, stop, now_ms - 90),
            ),
            Tool(None) => ("before_tool_call", tool(SESSION, "t1", None)),
            Tool(end) => ("after_tool_call", tool(SESSION, "t1", end)),
            Sent(good) => ("message_sent", sent(Some(SESSION), "7", good)),
            RunStarted => ("run.started", run),
            RunCompleted => ("run.completed", run),
            State(state, reason) => (
                "session.state",
                json!({"event": {"sessionKey": SESSION, "state": state, "reason": reason}}),
            ),
            Delivery(what) => {
                let event = json!({"event": {"sessionKey": SESSION, "channel": "telegram"}});
                return (format!("message.delivery.{what}"), event);
            }
        };
        (source.to_owned(), args)
    }

    /// Whether the event is queued: diagnostics are, hooks are called at once.
    fn is_queued(self) -> bool {
        matches!(self, RunStarted | RunCompleted | State(..) | Delivery(_))
    }
}

/// Events with their times in ms, as on real gateways on a machine with two busy cores.
type Story = &'static [(u64, Told)];

/// 2026.9.6, a model that fails until the fallback answers.
const FALLBACK: Story = &[
    (405, MESSAGE_BEGINS),
    (412, Received),
    (550, User),
    (755, RunStarted),
    (983, RUN_BEGINS),
    (1_117, User),
    (1_293, Answer("m1", "error")),
    (1_360, RunCompleted),
    (2_176, RunStarted),
    (2_306, TRIED_AGAIN),
    (2_413, User),
    (2_558, Answer("m1", "error")),
    (2_614, RunCompleted),
    (2_809, RunStarted),
    (2_965, TRIED_AGAIN),
    (3_204, User),
    (3_887, Answer("m2", "stop")),
    (3_966, RunCompleted),
    (4_011, RUN_ENDS),
    (4_145, Delivery("started")),
    (4_205, Delivery("completed")),
    (4_209, Sent(true)),
    (5_210, MESSAGE_ENDS),
];

/// 2026.9.6, a delivery that fails: its hook is called when the gateway gives up.
const REFUSED: Story = &[
    (391, MESSAGE_BEGINS),
    (394, Received),
    (1_336, User),
    (2_210, RunStarted),
    (2_384, RUN_BEGINS),
    (2_490, User),
    (2_655, Answer("m1", "stop")),
    (2_674, RunCompleted),
    (2_708, RUN_ENDS),
    (2_814, Delivery("started")),
    (2_864, MESSAGE_ENDS),
    (2_868, Delivery("error")),
    (9_384, Sent(false)),
];

/// 2026.7.1, where the answer is delivered after the message's end, and a hook may precede its diagnostic.
const REFUSED_BEFORE: Story = &[
    (63, MESSAGE_BEGINS),
    (66, Received),
    (212, RunStarted),
    (416, RUN_BEGINS),
    (466, User),
    (628, Answer("m1", "stop")),
    (632, RUN_ENDS),
    (697, RunCompleted),
    (759, MESSAGE_ENDS),
    (1_130, Delivery("started")),
    (2_068, Sent(false)),
    (2_086, Delivery("error")),
];

/// 2026.3.13, whose session is idle between the runs of a message, and whose messages name no session.
const FALLBACK_BEFORE: Story = &[
    (546, MESSAGE_BEGINS),
    (849, RUN_BEGINS),
    (890, User),
    (2_518, Answer("m1", "error")),
    (4_485, Answer("m1", "error")),
    (4_511, RUN_ENDS),
    (4_647, RUN_BEGINS),
    (4_654, User),
    (4_786, Answer("m2", "stop")),
    (4_791, RUN_ENDS),
    (4_866, MESSAGE_ENDS),
];

/// 2026.9.6, a tool, and the answer's delivery.
const TOOLS: Story = &[
    (417, MESSAGE_BEGINS),
    (425, Received),
    (590, User),
    (911, RunStarted),
    (1_261, RUN_BEGINS),
    (1_393, User),
    (1_545, Answer("m1", "toolUse")),
    (1_578, Tool(None)),
    (1_635, Tool(Some(50))),
    (1_807, Answer("m1", "stop")),
    (1_834, RunCompleted),
    (1_868, RUN_ENDS),
    (1_958, Delivery("started")),
    (2_004, Delivery("completed")),
    (2_011, Sent(true)),
    (2_025, MESSAGE_ENDS),
];

/// Each trace as its status and the names of its spans below the root, in alphabetical order.
fn shapes(gateway: &Watched) -> Vec<String> {
    let traces = gateway.sent("traces");
    assert_sound(&traces);
    let mut shapes: Vec<String> = traces
        .iter()
        .map(|trace| {
            let mut names: Vec<&str> = trace["spans"].as_array().unwrap()[1..]
                .iter()
                .map(|span| span["name"].as_str().unwrap())
                .collect();
            names.sort_unstable();
            format!("{} {}", trace["status"].as_str().unwrap(), names.join(", "))
        })
        .collect();
    shapes.sort();
    shapes
}

/// Plays the story `slower` times as slowly and with diagnostics that arrive `lag_ms` later, and again 30 s later.
fn tell(story: Story, slower: u64, lag_ms: u64) -> Vec<String> {
    let mut events: Vec<(u64, usize)> = story
        .iter()
        .enumerate()
        .map(|(index, (at_ms, told))| {
            let lag = if told.is_queued() { lag_ms } else { 0 };
            (at_ms * slower + lag, index)
        })
        .collect();
    events.sort_unstable();
    let mut gateway = Watched::new();
    for _ in 0..2 {
        let start_ms = gateway.now_ms;
        for (at_ms, index) in &events {
            gateway.wait((start_ms + at_ms).saturating_sub(gateway.now_ms));
            let (source, args) = story[*index].1.event(gateway.now_ms);
            gateway.hear(&source, &args);
        }
        gateway.wait(30_000);
    }
    shapes(&gateway)
}

fn twice(shape: &str) -> Vec<String> {
    vec![shape.to_owned(); 2]
}

const CASES: [(Story, &str); 5] = [
    (
        FALLBACK,
        "completed chat m1, chat m1, chat m2, deliver:telegram",
    ),
    (REFUSED, "failed chat m1, deliver:telegram"),
    (REFUSED_BEFORE, "failed chat m1, deliver:telegram"),
    (FALLBACK_BEFORE, "completed chat m1, chat m1, chat m2"),
    (
        TOOLS,
        "completed chat m1, chat m1, deliver:telegram, execute_tool read",
    ),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_turn_is_one_trace_however_slow_the_machine(which in 0..CASES.len(), slower in 1u64..10, lag_ms in 0u64..2_000) {
        let (story, shape) = CASES[which];
        prop_assert_eq!(tell(story, slower, lag_ms), twice(shape));
    }
}

#[test]
fn a_retry_after_half_a_minute_belongs_to_the_same_turn() {
    let mut gateway = Watched::new();
    let mut hear = |wait_ms: u64, told: Told| {
        gateway.wait(wait_ms);
        let (source, args) = told.event(gateway.now_ms);
        gateway.hear(&source, &args);
    };
    hear(0, RUN_BEGINS);
    hear(10, User);
    for _ in 0..7 {
        hear(30_000, Answer("m1", "error"));
        hear(5, TRIED_AGAIN);
    }
    hear(30_000, Answer("m1", "stop"));
    hear(5, RUN_ENDS);
    hear(10_000, RUN_BEGINS);
    assert_eq!(
        shapes(&gateway),
        ["completed chat m1, chat m1, chat m1, chat m1, chat m1, chat m1, chat m1, chat m1"]
    );
}

#[test]
fn without_diagnostics_a_failed_answer_waits_for_a_retry() {
    let mut gateway = Watched::new();
    for (wait_ms, told) in [
        (0, User),
        (100, Answer("m1", "error")),
        (20_000, Answer("m1", "error")),
        (20_000, Answer("m1", "stop")),
    ] {
        gateway.wait(wait_ms);
        let (source, args) = told.event(gateway.now_ms);
        gateway.hear(&source, &args);
    }
    gateway.wait(2_500);
    assert_eq!(shapes(&gateway), ["completed chat m1, chat m1, chat m1"]);
}

#[test]
fn a_failed_answer_without_usage_has_no_zero_tokens() {
    let mut gateway = Watched::new();
    let mut failed = answer(SESSION, "m1", "error", gateway.now_ms - 90);
    failed["event"]["message"]["usage"] =
        json!({"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0});
    gateway.hear("before_message_write", &user(SESSION));
    gateway.hear("before_message_write", &failed);
    gateway.wait(1_000);
    let (source, args) = Answer("m2", "stop").event(gateway.now_ms);
    gateway.hear(&source, &args);
    gateway.wait(5_000);
    let traces = gateway.sent("traces");
    let tokens = |span: &Value| span["metadata"]["gen_ai.usage.input_tokens"].clone();
    let told: Vec<Value> = traces[0]["spans"].as_array().unwrap()[1..]
        .iter()
        .map(tokens)
        .collect();
    assert_eq!(told, [Value::Null, json!(10)]);
}

#[test]
fn a_late_failure_belongs_to_the_turn_before() {
    let mut gateway = Watched::new();
    let next: Story = &[
        (4_000, MESSAGE_BEGINS),
        (4_001, Received),
        (4_002, User),
        (4_300, Answer("m2", "stop")),
        (4_400, Delivery("started")),
        (4_450, Delivery("completed")),
        (4_451, Sent(true)),
        (4_460, MESSAGE_ENDS),
    ];
    let mut events = [REFUSED, next].concat();
    events.sort_by_key(|(at_ms, _)| *at_ms);
    let start_ms = gateway.now_ms;
    for (at_ms, told) in events {
        gateway.wait(start_ms + at_ms - gateway.now_ms);
        let (source, args) = told.event(gateway.now_ms);
        gateway.hear(&source, &args);
    }
    gateway.wait(2_500);
    assert_eq!(
        shapes(&gateway),
        [
            "completed chat m2, deliver:telegram",
            "failed chat m1, deliver:telegram"
        ]
    );
}

#[test]
fn an_undelivered_turn_waits_some_seconds() {
    let mut gateway = Watched::new();
    for told in [
        MESSAGE_BEGINS,
        Received,
        User,
        Answer("m1", "stop"),
        MESSAGE_ENDS,
    ] {
        let (source, args) = told.event(gateway.now_ms);
        gateway.hear(&source, &args);
    }
    gateway.wait(7_000);
    assert_eq!(gateway.sent("traces").len(), 0);
    gateway.wait(1_500);
    assert_eq!(shapes(&gateway), ["completed chat m1"]);
}

#[test]
fn a_lost_end_of_work_does_not_block_a_trace_forever() {
    let mut gateway = Watched::new();
    for told in [RUN_BEGINS, User, Answer("m1", "stop")] {
        let (source, args) = told.event(gateway.now_ms);
        gateway.hear(&source, &args);
    }
    gateway.wait(60_000);
    assert_eq!(gateway.sent("traces").len(), 0);
    gateway.wait(600_000);
    assert_eq!(shapes(&gateway), ["completed chat m1"]);
}
