//! Attribution of calls, by session keys of all shapes and by context fields.

use agentwatch_openclaw::domain::identity::Identities;
use agentwatch_openclaw::spending::who::{Told, Who, job_id};
use proptest::prelude::*;

const UUID: &str = "c8c9d972-ae8e-41e7-9580-0d36263fd249";

fn identities() -> Identities {
    Identities::new([7; 16], false)
}

fn of_key(key: &str) -> Who {
    let told = Told {
        session_key: Some(key),
        ..Told::default()
    };
    Who::of(&told, &identities())
}

/// Agent, channel, trigger and job; `-` for `None`.
fn words(who: &Who) -> [&str; 4] {
    [&who.agent, &who.channel, &who.trigger, &who.job].map(|word| word.as_deref().unwrap_or("-"))
}

#[test]
fn each_shape_of_session_key_is_read() {
    let cron = format!("agent:main:cron:{UUID}");
    let run = format!("agent:main:cron:{UUID}:run:{UUID}");
    let nested = format!("agent:main:subagent:{UUID}:subagent:{UUID}");
    for (key, expected) in [
        ("agent:main:main", ["main", "-", "-", "-"]),
        ("agent:research:global", ["research", "-", "-", "-"]),
        ("agent:main:incident-42", ["main", "-", "-", "-"]),
        (
            "agent:main:telegram:direct:123",
            ["main", "telegram", "-", "-"],
        ),
        (
            "agent:main:whatsapp:dm:+15555550123",
            ["main", "whatsapp", "-", "-"],
        ),
        (
            "agent:main:whatsapp:work:direct:+1555",
            ["main", "whatsapp", "-", "-"],
        ),
        ("agent:main:direct:+15555550123", ["main", "-", "-", "-"]),
        (
            "agent:alfred:whatsapp:group:120363@g.us",
            ["alfred", "whatsapp", "-", "-"],
        ),
        (
            "agent:zu:telegram:group:-100123:topic:3",
            ["zu", "telegram", "-", "-"],
        ),
        (
            "agent:main:discord:channel:1:thread:9",
            ["main", "discord", "-", "-"],
        ),
        (
            "agent:main:slack:direct:U1:thread:1777.7",
            ["main", "slack", "-", "-"],
        ),
        (
            "agent:main:main:thread:1777244748.777299",
            ["main", "-", "-", "-"],
        ),
        ("agent:main:discord:slash:42", ["main", "discord", "-", "-"]),
        ("agent:main:ourchat:group:7", ["main", "ourchat", "-", "-"]),
        ("agent:main:telegram:12345", ["main", "telegram", "-", "-"]),
        ("agent:main:my-plugin:task-1", ["main", "-", "-", "-"]),
        ("agent:main:hook:automation", ["main", "-", "-", "-"]),
        ("agent:main:acp:codex", ["main", "-", "-", "-"]),
        (cron.as_str(), ["main", "-", "cron", UUID]),
        (run.as_str(), ["main", "-", "cron", UUID]),
        (
            "agent:main:cron:nightly:run:8821",
            ["main", "-", "cron", "nightly"],
        ),
        ("cron:nightly", ["-", "-", "cron", "nightly"]),
        (nested.as_str(), ["main", "-", "subagent", "-"]),
        ("agent:main:main:heartbeat", ["main", "-", "heartbeat", "-"]),
        ("agent:main:heartbeat", ["main", "-", "heartbeat", "-"]),
        (
            "agent:main:telegram:direct:1:heartbeat",
            ["main", "telegram", "heartbeat", "-"],
        ),
        (
            "AGENT:Main:Telegram:Group:5",
            ["Main", "telegram", "-", "-"],
        ),
        ("telegram:group:5", ["-", "telegram", "-", "-"]),
        ("temp:slug-generator", ["-", "-", "-", "-"]),
        ("main", ["-", "-", "-", "-"]),
        // Names that are keywords elsewhere in the grammar.
        ("agent:cron:main", ["cron", "-", "-", "-"]),
        (
            "agent:heartbeat:telegram:direct:1",
            ["heartbeat", "telegram", "-", "-"],
        ),
        ("agent:main:irc:channel:cron", ["main", "irc", "-", "-"]),
        (
            "agent:main:irc:channel:heartbeat",
            ["main", "irc", "-", "-"],
        ),
        (
            "agent:main:cron:heartbeat",
            ["main", "-", "cron", "heartbeat"],
        ),
        (
            "agent:main:slack:group:subagent",
            ["main", "slack", "-", "-"],
        ),
        // Incomplete keys.
        ("agent:main", ["-", "-", "-", "-"]),
        ("agent::main", ["-", "-", "-", "-"]),
        ("agent:main:", ["-", "-", "-", "-"]),
        ("agent:main:telegram:group:", ["main", "telegram", "-", "-"]),
        ("agent:main:ourchat:group:", ["main", "-", "-", "-"]),
        ("", ["-", "-", "-", "-"]),
        (":::", ["-", "-", "-", "-"]),
    ] {
        assert_eq!(words(&of_key(key)), expected, "{key}");
    }
}

#[test]
fn what_is_told_of_the_run_and_what_the_key_tells_have_an_order() {
    let told = Told {
        session_key: Some("agent:main:telegram:group:5"),
        agent: Some("work"),
        channel: Some("discord"),
        trigger: Some("cron"),
        job: Some("nightly"),
        skill: Some("weather"),
        tool: Some("exec"),
        ..Told::default()
    };
    let who = Who::of(&told, &identities());
    assert_eq!(words(&who), ["work", "discord", "cron", "nightly"]);
    assert_eq!(
        (who.skill.as_deref(), who.tool.as_deref()),
        (Some("weather"), Some("exec"))
    );
    // A gateway calls a subagent's run `user`.
    let told = Told {
        session_key: Some("agent:main:subagent:7"),
        trigger: Some("user"),
        ..Told::default()
    };
    assert_eq!(
        words(&Who::of(&told, &identities())),
        ["main", "-", "subagent", "-"]
    );
    // For a cron job that wakes another session, only the context has the trigger.
    let told = Told {
        session_key: Some("agent:main:main"),
        trigger: Some("cron"),
        job: Some(UUID),
        ..Told::default()
    };
    assert_eq!(
        words(&Who::of(&told, &identities())),
        ["main", "-", "cron", UUID]
    );
}

#[test]
fn a_conversation_is_no_channel() {
    for (channel_id, expected) in [
        ("telegram", Some("telegram")),
        ("webchat", Some("webchat")),
        ("C0123TEAM", None),
        ("1234567890", None),
        ("+4915112345678", None),
        ("somebody", None),
    ] {
        let told = Told {
            channel_id: Some(channel_id),
            ..Told::default()
        };
        assert_eq!(
            Who::of(&told, &identities()).channel.as_deref(),
            expected,
            "{channel_id}"
        );
    }
    // Gateways write triggers into this field.
    for channel in ["cron", "heartbeat", "subagent", "4915112345678", "a b", ""] {
        let told = Told {
            channel: Some(channel),
            ..Told::default()
        };
        assert_eq!(Who::of(&told, &identities()).channel, None, "{channel}");
    }
}

#[test]
fn a_job_that_may_be_a_person_is_hashed() {
    let identities = identities();
    assert_eq!(job_id(UUID, &identities), UUID);
    assert_eq!(job_id("nightly_report-2", &identities), "nightly_report-2");
    for hidden in [
        "+4915112345678",
        "4915112345678",
        "me@example.org",
        "call mum",
    ] {
        let id = job_id(hidden, &identities);
        assert!(id.starts_with('#') && !id.contains(hidden), "{id}");
    }
}

proptest! {
    #[test]
    fn no_key_panics_or_lets_a_number_out(
        // An agent's id is the operator's own name for it, and stays as it is.
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "agent", "main", "cron", "run", "subagent", "heartbeat", "telegram", "direct", "dm",
                "group", "channel", "thread", "topic", "slash", "", "acp", "4915112345678",
                "+4915112345678",
            ]), 0..9),
    ) {
        prop_assume!(parts.first() != Some(&"agent") || !parts.get(1).is_some_and(|id| id.contains("491")));
        let who = of_key(&parts.join(":"));
        let Who { channel, trigger, job, session, .. } = &who;
        for word in [channel, trigger, job, session].into_iter().flatten() {
            prop_assert!(!word.contains("4915112345678"), "{:?}", who);
        }
    }

    #[test]
    fn a_key_that_was_built_is_read_again(
        agent in "[a-z][a-z0-9-]{0,12}",
        channel in "[a-z][a-z0-9-]{1,12}",
        account in prop::option::of("[a-z0-9]{1,8}"),
        kind in prop::sample::select(vec!["direct", "dm", "group", "channel"]),
        peer in "[A-Za-z0-9@+.-]{1,16}",
        thread in prop::option::of("[0-9.]{1,8}"),
        heartbeat in any::<bool>(),
    ) {
        let account = account.filter(|_| kind == "direct" || kind == "dm");
        let mut key = format!("agent:{agent}:{channel}:");
        key.extend(account.map(|account| format!("{account}:")));
        key += &format!("{kind}:{peer}");
        key.extend(thread.map(|thread| format!(":thread:{thread}")));
        key += if heartbeat { ":heartbeat" } else { "" };
        let who = of_key(&key);
        let trigger = if heartbeat { "heartbeat" } else { "-" };
        if !["cron", "subagent", "heartbeat"].contains(&channel.as_str()) {
            prop_assert_eq!(words(&who), [agent.as_str(), channel.as_str(), trigger, "-"]);
        }
    }

    #[test]
    fn any_text_is_read(text in ".*") {
        let told = Told {
            session_key: Some(&text),
            agent: Some(&text),
            channel: Some(&text),
            channel_id: Some(&text),
            trigger: Some(&text),
            job: Some(&text),
            skill: Some(&text),
            tool: Some(&text),
        };
        let who = Who::of(&told, &identities());
        prop_assert!(who.agent.unwrap_or_default().len() <= 480);
    }
}
