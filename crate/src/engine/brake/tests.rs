//! Recovery of spend.

use super::*;
use crate::domain::call::{Cost, CostSource};
use crate::spending::window::Per;

/// A kill between the spend and the call's entry, of a call that was closed before its usage came.
#[test]
fn spend_counts_where_its_call_became_final_behind_it() {
    let allowance = Allowance {
        limit: Limit::Usd(Nano::of_usd(5.0)),
        per: Per::Day,
        agent: None,
        channel: None,
        trigger: None,
        job: None,
        then: Then::Warn,
        zone: ("UTC".to_owned(), jiff::tz::TimeZone::UTC),
        names_zone: false,
    };
    for (closes, counted) in [([false, true], 1), ([true, false], 0), ([true, true], 1)] {
        let mut braking = Braking::new(vec![allowance.clone()]);
        let now = Now {
            wall_ms: 1_000_000,
            mono_ms: 1,
        };
        let who = Who::default();
        let ended = Ended {
            who: &who,
            model: "p/m",
            cost: Cost {
                usd: 1.0,
                source: CostSource::Provider,
            },
            usage: None,
            ended_ms: now.wall_ms,
        };
        let id = CallId(7);
        let spent = match braking.brake.spent(&ended, now) {
            Entry::Spent(spent) => Some(Frame::Spent(id, Box::new(spent))),
            Entry::Lift(_) => None,
        };
        if closes[0] {
            braking.is_final(id);
        }
        spent.into_iter().for_each(|spent| braking.recover(spent));
        if closes[1] {
            braking.is_final(id);
        }
        braking.recovered();
        let calls: u64 = braking
            .brake
            .allowances()
            .map(|(_, meter)| meter.calls)
            .sum();
        assert_eq!(calls, counted, "{closes:?}");
    }
}
