//! Prices of the settings, and of the table for any names: costs are finite, never negative, and tiers in order.
#![no_main]

use agentwatch_openclaw::domain::call::{Cost, CostSource, Usage};
use agentwatch_openclaw::pricing::{PriceBook, TABLE};
use agentwatch_openclaw_fuzz::scalar;
use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fn play(input: &mut Unstructured) -> arbitrary::Result<()> {
    let (prices, openclaw, by_login) = (scalar(input, 4)?, scalar(input, 4)?, scalar(input, 1)?);
    let (book, problems) = PriceBook::new(&prices, &openclaw, &by_login, TABLE.to_owned());
    assert!(
        problems
            .iter()
            .all(|line| line.starts_with("prices") && line.len() < 2_000)
    );
    for _ in 0..4 {
        let providers = [
            "p",
            "openai",
            "anthropic",
            "google",
            "openrouter",
            "ollama",
            "x",
        ];
        let provider = *input.choose(&providers)?;
        let model: String = match input.ratio(1, 2)? {
            true => input.arbitrary::<&str>()?.chars().take(1_024).collect(),
            false => {
                ["claude-", "gpt-", "m", "gemini-2.5-flash-lite-preview"][input.choose_index(4)?]
                    .to_owned()
                    + input.arbitrary::<&str>()?
            }
        };
        let price = book.find(provider, &model);
        assert!(
            price
                .tiers
                .iter()
                .flatten()
                .all(|rate| rate.is_finite() && *rate >= 0.0)
        );
        assert!(
            price.tiers.is_sorted_by(|a, b| a[0] < b[0]),
            "{:?}",
            price.tiers
        );
        let usage = Usage {
            input: input.arbitrary::<u32>()?.into(),
            output: 7,
            ..Usage::default()
        };
        let unknown = Cost {
            usd: 0.0,
            source: CostSource::Unknown,
        };
        let cost = price.of(unknown, Some(&usage));
        assert!(cost.usd.is_finite() && cost.usd >= 0.0);
        assert_eq!(
            price.of(cost, Some(&usage)),
            cost,
            "a cost that is known stays"
        );
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = play(&mut Unstructured::new(data));
});
