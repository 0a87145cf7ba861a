//! Reads the providers' reports: usage and costs, by UTC day and model.
//!
//! OpenAI, "Usage" and "Costs" of the API reference (platform.openai.com/docs/api-reference/usage): pages of buckets
//! with `has_more` and `next_page`; `start_time` in seconds, UTC days; `bucket_width=1d` gives at most 31 buckets of
//! usage and 180 of costs. `input_tokens` includes cached tokens. Costs have no field for the model: `line_item` is
//! `gpt-4o-2024-08-06, cached input`. `amount.value` is a number, or a string with thirty decimals.
//!
//! Anthropic, "Usage and Cost API" (platform.claude.com/docs/en/manage-claude/usage-cost-api): pages of buckets with
//! `has_more` and `next_page`; times as RFC 3339; at most 31 buckets. `uncached_input_tokens` excludes cached tokens.
//! `amount` is cents, as a string: `"123.45"` is 1.23 USD. No report has the costs of Priority Tier or the number of
//! requests. Its successor, `/v1/organizations/analytics/usage`, is a beta of August 2026.
//!
//! OpenRouter, "Get user activity" (openrouter.ai/docs/api/api-reference/analytics/get-user-activity): the last 30 UTC
//! days that have ended, in one page. `byok_usage_inference` is the cost, at the other provider, of calls with the
//! user's own key; `usage` excludes it. Our figure of such a call includes both.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Provider;
use super::figures::{Sum, Usd, count, count_or_0, day_of, number, parse_day};
use crate::domain::time::parse_iso;
use crate::sources::facts::Scalar;

/// One of a provider's reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Usage,
    Costs,
    /// OpenRouter's activity: usage and costs in one report.
    Activity,
}

/// Content of a provider's reports.
#[derive(Debug, Default)]
pub struct Theirs {
    pub models: BTreeMap<(Date, String), Sum>,
    /// Charges that belong to no model, by day and the provider's description.
    pub charges: BTreeMap<(Date, String), Usd>,
    /// OpenRouter's `model_permaslug`, mapped to its `model`.
    pub aliases: BTreeMap<String, String>,
    /// Number of rows that cannot be read.
    pub unreadable: u64,
    /// Number of cost rows in a currency other than USD.
    pub foreign_currency: u64,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    #[serde(default)]
    has_more: bool,
    next_page: Option<String>,
}

#[derive(Deserialize)]
struct Bucket<'a> {
    start_time: Option<f64>,
    starting_at: Option<String>,
    // OpenAI's API description names this field `result`; its answers have `results`.
    #[serde(borrow, alias = "result")]
    results: Vec<&'a RawValue>,
}

/// A row of any report.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Row<'a> {
    model: Option<String>,
    // OpenAI's usage
    input_tokens: Scalar,
    input_cached_tokens: Scalar,
    output_tokens: Scalar,
    num_model_requests: Scalar,
    // OpenAI's costs; Anthropic's, where it is a text
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
    currency: Option<String>,
    line_item: Option<String>,
    // Anthropic's usage
    uncached_input_tokens: Scalar,
    cache_read_input_tokens: Scalar,
    cache_creation: Option<CacheCreation>,
    // Anthropic's costs
    description: Option<String>,
    cost_type: Option<String>,
    // OpenRouter
    date: Option<String>,
    model_permaslug: Option<String>,
    usage: Scalar,
    byok_usage_inference: Scalar,
    requests: Scalar,
    prompt_tokens: Scalar,
    completion_tokens: Scalar,
}

#[derive(Deserialize)]
struct Amount {
    value: Scalar,
    currency: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Scalar,
    ephemeral_5m_input_tokens: Scalar,
}

impl Theirs {
    /// Reads a page of a report. Returns the cursor of the next page.
    ///
    /// # Errors
    /// If the answer is not such a report.
    pub fn read(
        &mut self,
        provider: Provider,
        report: Report,
        body: &str,
    ) -> Result<Option<String>, &'static str> {
        let page: Page = serde_json::from_str(body).map_err(|_| match body.trim_start() {
            text if text.starts_with('<') => "answered a page of HTML instead of its report",
            _ => "answered something else than its report",
        })?;
        for item in page.data {
            match (provider, serde_json::from_str::<Bucket>(item.get())) {
                (Provider::OpenRouter, _) => self.row(provider, report, None, item),
                (_, Ok(bucket)) => match bucket.day() {
                    Some(day) => {
                        for row in bucket.results {
                            self.row(provider, report, Some(day), row);
                        }
                    }
                    None => self.unreadable += 1,
                },
                (_, Err(_)) => self.unreadable += 1,
            }
        }
        match (page.has_more, page.next_page) {
            (false, _) => Ok(None),
            (true, Some(cursor)) if !cursor.is_empty() => Ok(Some(cursor)),
            (true, _) => Err("says that there are more pages, and not where"),
        }
    }

    fn row(&mut self, provider: Provider, report: Report, day: Option<Date>, row: &RawValue) {
        let read =
            serde_json::from_str::<Row>(row.get())
                .ok()
                .and_then(|row| match (provider, report) {
                    (Provider::OpenRouter, _) => self.activity(row),
                    (_, Report::Costs) => self.cost(provider, day?, row),
                    (Provider::OpenAi, _) => self.openai(day?, row),
                    (Provider::Anthropic, _) => self.anthropic(day?, row),
                });
        if read.is_none() {
            self.unreadable += 1;
        }
    }

    fn add(&mut self, day: Date, model: String, sum: &Sum) {
        *self.models.entry((day, model)).or_default() += sum;
    }

    fn openai(&mut self, day: Date, row: Row<'_>) -> Option<()> {
        let sum = Sum {
            calls: count(&row.num_model_requests)?,
            input_tokens: count(&row.input_tokens)??,
            output_tokens: count_or_0(&row.output_tokens)?,
            cache_read_tokens: count(&row.input_cached_tokens)?,
            ..Sum::default()
        };
        self.add(day, row.model?, &sum);
        Some(())
    }

    fn anthropic(&mut self, day: Date, row: Row<'_>) -> Option<()> {
        let read = count_or_0(&row.cache_read_input_tokens)?;
        let created = row.cache_creation.unwrap_or_default();
        let write = count_or_0(&created.ephemeral_1h_input_tokens)?
            .saturating_add(count_or_0(&created.ephemeral_5m_input_tokens)?);
        let uncached = count(&row.uncached_input_tokens)??;
        let sum = Sum {
            input_tokens: uncached.saturating_add(read).saturating_add(write),
            output_tokens: count_or_0(&row.output_tokens)?,
            cache_read_tokens: Some(read),
            cache_write_tokens: Some(write),
            ..Sum::default()
        };
        self.add(day, row.model?, &sum);
        Some(())
    }

    fn activity(&mut self, row: Row<'_>) -> Option<()> {
        // A date such as `2025-08-24`, optionally followed by a time.
        let day = parse_day(&row.date?)?;
        let model = row.model?;
        let mut cost = Usd::of(number(&row.usage)?)?;
        if !row.byok_usage_inference.is_absent() {
            cost += Usd::of(number(&row.byok_usage_inference)?)?;
        }
        let sum = Sum {
            calls: count(&row.requests)?,
            input_tokens: count(&row.prompt_tokens)??,
            output_tokens: count(&row.completion_tokens)??,
            cost_usd: Some(cost),
            ..Sum::default()
        };
        if let Some(longer) = row.model_permaslug {
            self.aliases.insert(longer, model.clone());
        }
        self.add(day, model, &sum);
        Some(())
    }

    fn cost(&mut self, provider: Provider, day: Date, row: Row<'_>) -> Option<()> {
        let told = row.amount?.get();
        let (amount, currency) = if told.starts_with('{') {
            let Amount { value, currency } = serde_json::from_str(told).ok()?;
            (number(&value)?, currency)
        } else {
            let cents: Scalar = serde_json::from_str(told).ok()?;
            (number(&cents)? / 100.0, row.currency)
        };
        if currency.is_some_and(|currency| !currency.eq_ignore_ascii_case("usd")) {
            self.foreign_currency += 1;
            return Some(());
        }
        let cost = Usd::of(amount)?;
        let (model, words) = match provider {
            Provider::OpenAi => (
                row.line_item.as_deref().and_then(model_of_item),
                row.line_item,
            ),
            _ => {
                let words = row.description.or(row.cost_type);
                (row.model.filter(|model| !model.is_empty()), words)
            }
        };
        match model {
            Some(model) => {
                let sum = Sum {
                    cost_usd: Some(cost),
                    ..Sum::default()
                };
                self.add(day, model, &sum);
            }
            None => {
                let words = words.unwrap_or_else(|| "no description".to_owned());
                *self.charges.entry((day, words)).or_default() += cost;
            }
        }
        Some(())
    }
}

impl Bucket<'_> {
    fn day(&self) -> Option<Date> {
        let ms = match (self.start_time, &self.starting_at) {
            (Some(seconds), _) if seconds >= 0.0 => (seconds * 1e3) as u64,
            (None, Some(text)) => parse_iso(text)?,
            _ => return None,
        };
        Some(day_of(ms))
    }
}

/// The model of a line item such as `gpt-4o-2024-08-06, cached input`. `None` for an item without a model, or of
/// another product (`evals | gpt-4o, input`, `web search tool calls | gpt-4o`).
fn model_of_item(item: &str) -> Option<String> {
    let (model, kind) = item.rsplit_once(", ")?;
    // Image items: `gpt-image-2-2026-04-21 text, input`.
    let model = model.split(' ').next().unwrap_or_default();
    let is_model = !model.is_empty() && !item.contains('|');
    (is_model && (kind.ends_with("input") || kind.ends_with("output"))).then(|| model.to_owned())
}
