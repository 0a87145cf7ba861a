//! Factors on list prices for service tiers, fast modes and regions, and fees that the table of list prices lacks:
//! named constants, each with its source and the day on which it was read.

use crate::domain::usage::{Bill, Tier};
use crate::pricing::price::Fees;

/// OpenAI, Gemini and Amazon Bedrock: factor for flex processing and batches. Source: their pages on flex processing
/// and batches, 2026-11-29; OpenClaw 2026.9.6 computes OpenAI's flex alike.
const LATER: f64 = 0.5;

/// OpenAI: factors for priority processing, by prefix of the model's name; the first match counts. Source: its page on
/// priority processing, 2026-11-29; GPT-5.5 from OpenClaw 2026.9.6.
const OPENAI_PRIORITY: &[(&str, f64)] = &[
    ("gpt-4.1-nano", 2.0),
    ("gpt-4.1", 1.75),
    ("gpt-4o-mini", 0.25 / 0.15),
    ("gpt-4o-2024-05-13", 1.75),
    ("gpt-4o", 1.7),
    ("o3", 1.75),
    ("o4-mini", 2.0 / 1.1),
    ("gpt-5-mini", 1.8),
    ("gpt-5.5", 2.5),
    ("", 2.0),
];

/// Gemini: factor for the priority tier. Its page on inference tiers (2026-11-29) has 75 % to 100 % more, its price
/// list 80 % more.
const GEMINI_PRIORITY: f64 = 1.8;

/// Amazon Bedrock: factor for the priority tier. Source: its page on service tiers, 2026-11-29.
const BEDROCK_PRIORITY: f64 = 1.75;

/// Anthropic: factors for the fast mode, by part of the model's name; the first match counts. Source: its pages on the
/// fast mode, for Opus 4.6 and 4.7 OpenRouter's prices of their fast variants, for Fable 5.2 Google Cloud's page,
/// 2026-11-30.
const FAST: &[(&str, f64)] = &[
    ("opus-4-6", 6.0),
    ("opus-4.6", 6.0),
    ("4-6-opus", 6.0),
    ("4.6-opus", 6.0),
    ("opus-4-7", 6.0),
    ("opus-4.7", 6.0),
    ("4-7-opus", 6.0),
    ("4.7-opus", 6.0),
    ("claude", 2.0),
];

/// Anthropic: factor for requests that are restricted to the United States. Source: its price list, 2026-11-29.
const IN_THE_US: f64 = 1.1;

/// Fees in USD per 1,000 for models without fees in the table of list prices: a part of the model's name, web searches,
/// searches in stored files. Source: price lists of Anthropic, OpenAI, xAI and Mistral, 2026-11-29.
const FEES: &[(&str, Fees)] = &[
    ("claude", fees_of(10.0, 0.0)),
    ("gpt-", fees_of(10.0, 2.5)),
    ("grok", fees_of(5.0, 2.5)),
    ("mistral", fees_of(30.0, 0.0)),
];

/// xAI: fee for code runs, in USD per 1,000. Source: its price list, 2026-11-29.
const CODE_RUNS: f64 = 5.0;
/// xAI: fee for sources that its earlier search returned, in USD per 1,000. Source: its price list, 2026-11-29.
const SOURCES: f64 = 25.0;

const fn fees_of(web_searches: f64, file_searches: f64) -> Fees {
    Fees {
        web_searches,
        file_searches,
    }
}

/// A model's fees: those of the table, else those of [`FEES`].
pub fn fees(model: &str, listed: Fees) -> Fees {
    let known = FEES.iter().find(|(part, _)| model.contains(part));
    let known = known.map(|(_, fees)| *fees).unwrap_or_default();
    let or = |listed: f64, known: f64| if listed > 0.0 { listed } else { known };
    Fees {
        web_searches: or(listed.web_searches, known.web_searches),
        file_searches: or(listed.file_searches, known.file_searches),
    }
}

/// Factor on the usual price of a call's tokens.
pub fn factor(provider: &str, model: &str, bill: &Bill) -> f64 {
    // Routers put the maker before a model's name, and Bedrock a region.
    let name = model.rsplit('/').next().unwrap_or_default();
    let is_claude = name.contains("claude");
    let tier = match bill.tier {
        None | Some(Tier::Standard) => 1.0,
        // Groq's flex tier has the usual price.
        Some(Tier::Flex) if provider == "groq" => 1.0,
        Some(Tier::Flex | Tier::Batch) => LATER,
        Some(Tier::Priority) if provider.contains("bedrock") => BEDROCK_PRIORITY,
        // Anthropic sells priority as a commitment, without a public price.
        Some(Tier::Priority) if is_claude => 1.0,
        Some(Tier::Priority) if name.contains("gemini") => GEMINI_PRIORITY,
        Some(Tier::Priority) if is_openai(name) => {
            let known = OPENAI_PRIORITY.iter();
            let mut known = known.filter(|(prefix, _)| name.starts_with(prefix));
            known.next().map_or(1.0, |(_, factor)| *factor)
        }
        Some(Tier::Priority) => 1.0,
    };
    let fast = FAST
        .iter()
        .find(|(part, _)| bill.is_fast && name.contains(part));
    let fast = fast.map_or(1.0, |(_, factor)| *factor);
    let region = if bill.is_us && is_claude {
        IN_THE_US
    } else {
        1.0
    };
    tier * fast * region
}

fn is_openai(name: &str) -> bool {
    let families = ["gpt-", "o1", "o3", "o4", "codex", "chatgpt"];
    families.iter().any(|family| name.starts_with(family))
}

/// Fees of a bill, in USD.
pub fn charges(fees: Fees, bill: &Bill) -> f64 {
    let charges = [
        (bill.web_searches, fees.web_searches),
        (bill.file_searches, fees.file_searches),
        (bill.code_runs, CODE_RUNS),
        (bill.sources, SOURCES),
    ];
    let charges = charges.iter().map(|(count, fee)| *count as f64 * fee);
    charges.sum::<f64>() / 1e3
}
