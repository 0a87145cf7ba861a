//! The sequence of requests, and the handling of their answers.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::figures::{later, start_of};
use super::names::base;
use super::theirs::Report;
use super::{Invoice, MOST_BYTES, Provider};
use crate::formats::json_stream::Values;

/// Maximum number of tries of one request that fails temporarily.
const MOST_TRIES: u32 = 6;
/// Maximum sum of the pauses between the tries, in ms.
const MOST_PAUSES_MS: u64 = 300_000;
/// Maximum number of pages of the reports.
const MOST_PAGES: usize = 1_000;
/// Maximum number of records that AgentWatch 0.1.0 lists.
const STOCK_PAGE: u64 = 1_000;
/// Maximum number of calls that agentwatch-receiver lists.
const DOWNLOAD: u64 = 1_000_000;
/// Maximum number of models, and of agents per model, whose lists are requested from AgentWatch 0.1.0.
const MOST_LISTS: usize = 2_000;

/// A step of the comparison: a request, or a check without one.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A page of a provider's report, with its cursor.
    Report(Report, Option<String>),
    /// AgentWatch's capabilities: whether it lists single calls.
    Kind,
    /// Our calls of one day.
    Day(Date),
    /// The models that AgentWatch 0.1.0 has.
    Models,
    /// AgentWatch 0.1.0's records of a model, or of one agent's calls to the model. `count` is the model's number of
    /// records.
    Costs {
        model: String,
        agent: Option<String>,
        count: u64,
    },
    /// Checks, after all agents' lists, whether they contain `count` records. If not, days up to `oldest` are
    /// incomplete: `oldest` is the day of the oldest record in the model's list.
    Judge {
        model: String,
        count: u64,
        oldest: Date,
    },
}

impl Step {
    pub fn report(report: Report) -> Self {
        Self::Report(report, None)
    }
}

/// A GET request.
#[derive(Debug, Serialize, PartialEq)]
pub struct Ask {
    /// Whether the request goes to the provider; otherwise to AgentWatch.
    pub of_provider: bool,
    /// Path and query.
    pub path: String,
    /// Name of the header for the key, and the text before the key in its value.
    pub key_header: [&'static str; 2],
    pub headers: Vec<[&'static str; 2]>,
}

impl Ask {
    /// A request to AgentWatch.
    pub(crate) fn of_agentwatch(path: String) -> Self {
        Self {
            of_provider: false,
            path,
            key_header: ["authorization", "Bearer "],
            headers: Vec::new(),
        }
    }
}

/// What the caller does after an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// Make the next request.
    Next,
    /// Make the same request again after this pause, in ms.
    Wait(u64),
}

/// Tries of the current request.
#[derive(Debug, Default)]
pub struct Patience {
    tries: u32,
    paused_ms: u64,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Capabilities {
    features: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Summary {
    by_model: Vec<ModelCount>,
}

#[derive(Deserialize)]
struct ModelCount {
    model: String,
    count: u64,
}

#[derive(Deserialize)]
struct Refusal {
    error: Option<RefusalError>,
}

#[derive(Deserialize)]
struct RefusalError {
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Invoice {
    /// The next request; `None` once all answers are there.
    pub fn next_ask(&mut self) -> Option<Ask> {
        while let Some(Step::Judge { .. }) = self.steps.front() {
            if let Some(Step::Judge {
                model,
                count,
                oldest,
            }) = self.steps.pop_front()
                && std::mem::take(&mut self.fresh) < count
            {
                self.not_whole.insert(base(self.provider, &model), oldest);
            }
        }
        let path = self.path(self.steps.front()?);
        let of_provider = matches!(self.steps.front(), Some(Step::Report(..)));
        let key_header = match (of_provider, self.provider) {
            (true, Provider::Anthropic) => ["x-api-key", ""],
            _ => ["authorization", "Bearer "],
        };
        let headers = match (of_provider, self.provider) {
            (true, Provider::Anthropic) => vec![["anthropic-version", "2023-06-01"]],
            _ => Vec::new(),
        };
        Some(Ask {
            of_provider,
            path,
            key_header,
            headers,
        })
    }

    fn path(&self, step: &Step) -> String {
        let (first, last) = self.days;
        let end = later(last, 1);
        let (from, to) = (start_of(first) / 1_000, start_of(end) / 1_000);
        let hours = (self.now_ms / 1_000).saturating_sub(from) / 3_600 + 2;
        match step {
            Step::Report(report, page) => {
                let path = match (self.provider, report) {
                    (Provider::OpenRouter, _) => "/api/v1/activity".to_owned(),
                    (Provider::OpenAi, Report::Costs) => format!(
                        "/v1/organization/costs?start_time={from}&end_time={to}&bucket_width=1d&group_by=line_item&limit=180"
                    ),
                    (Provider::OpenAi, _) => format!(
                        "/v1/organization/usage/completions?start_time={from}&end_time={to}&bucket_width=1d&group_by=model&limit=31"
                    ),
                    (Provider::Anthropic, report) => {
                        let (report, by) = match report {
                            Report::Costs => ("cost_report", "description"),
                            _ => ("usage_report/messages", "model"),
                        };
                        format!(
                            "/v1/organizations/{report}?starting_at={first}T00:00:00Z&ending_at={end}T00:00:00Z&bucket_width=1d&group_by%5B%5D={by}&limit=31"
                        )
                    }
                };
                match page {
                    Some(page) => format!("{path}&page={}", encode(page)),
                    None => path,
                }
            }
            Step::Kind => "/api/v1/ingest/capabilities".to_owned(),
            Step::Day(day) => {
                let next = later(*day, 1);
                format!("/models/calls.json?from={day}T00:00:00Z&to={next}T00:00:00Z")
            }
            Step::Models => format!("/api/costs?hours={hours}"),
            Step::Costs { model, agent, .. } => {
                let agent = agent
                    .as_deref()
                    .map(|agent| format!("&agent={}", encode(agent)));
                format!(
                    "/api/costs/usage?model={}{}&hours={hours}&limit={STOCK_PAGE}",
                    encode(model),
                    agent.unwrap_or_default()
                )
            }
            Step::Judge { .. } => String::new(),
        }
    }

    /// Takes a piece of the body of an answer with status 200. Pieces may end anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        match self.steps.front() {
            Some(Step::Day(_)) => self
                .ours
                .feed(&mut self.values, bytes, false, &mut self.listed),
            Some(Step::Costs { .. }) => {
                self.ours
                    .feed(&mut self.values, bytes, true, &mut self.listed)
            }
            _ if self.body.len() + bytes.len() > MOST_BYTES => self.is_too_long = true,
            _ => self.body.extend_from_slice(bytes),
        }
    }

    /// Handles the end of an answer. `status` is 0 if there was no answer or it broke off; `why` then has the reason.
    ///
    /// # Errors
    /// A sentence with the obstacle and the mend.
    pub fn answered(
        &mut self,
        status: u16,
        retry_after_ms: Option<u64>,
        why: &str,
    ) -> Result<Said, String> {
        let body = String::from_utf8_lossy(&std::mem::take(&mut self.body)).into_owned();
        let is_too_long = std::mem::take(&mut self.is_too_long);
        let Some(step) = self.steps.front().cloned() else {
            return Ok(Said::Next);
        };
        let is_report = matches!(step, Step::Report(..));
        let who = if is_report {
            self.provider.title()
        } else {
            "AgentWatch"
        };
        if matches!(status, 0 | 408 | 429 | 500 | 502..=504 | 529)
            && !(status == 0 && self.has_read())
        {
            // A list that broke off is requested again from its beginning.
            self.values = Values::default();
            return self
                .patience
                .pause(who, status, retry_after_ms, why)
                .map(Said::Wait);
        }
        if status == 0 {
            return Err(format!("{who}'s answer broke off ({why}): try again"));
        }
        self.patience = Patience::default();
        if is_report && status != 200 {
            return Err(self.refusal(status, &body));
        }
        if is_too_long {
            return Err(format!(
                "{who} answered more than {MOST_BYTES} bytes: ask for fewer days"
            ));
        }
        self.steps.pop_front();
        match step {
            Step::Report(report, _) => self.take_page(report, &body)?,
            Step::Kind => self.take_kind(status, &body)?,
            _ if status != 200 => return Err(refused(status)),
            Step::Day(day) => {
                let listed = std::mem::take(&mut self.listed);
                self.end_list()?;
                if listed.records >= DOWNLOAD {
                    return Err(format!(
                        "there are more than {DOWNLOAD} calls on {day}, and AgentWatch lists no more: leave that day out"
                    ));
                }
            }
            Step::Models => self.take_models(&body)?,
            Step::Costs {
                model,
                agent,
                count,
            } => self.take_costs(model, agent, count)?,
            Step::Judge { .. } => {}
        }
        Ok(Said::Next)
    }

    /// Whether records of a day's list were counted already: only AgentWatch 0.1.0's lists are checked for repeated
    /// records.
    fn has_read(&self) -> bool {
        self.listed.records > 0 && matches!(self.steps.front(), Some(Step::Day(_)))
    }

    fn end_list(&mut self) -> Result<(), String> {
        match std::mem::take(&mut self.values).is_whole_list() {
            true => Ok(()),
            false => Err("AgentWatch's list breaks off: try again".to_owned()),
        }
    }

    fn take_page(&mut self, report: Report, body: &str) -> Result<(), String> {
        let who = self.provider.title();
        let next = self
            .theirs
            .read(self.provider, report, body)
            .map_err(|what| format!("{who} {what}: see --api, and what stands between"))?;
        let Some(cursor) = next else {
            return Ok(());
        };
        let is_new = self.cursors.insert(format!("{report:?} {cursor}"));
        if !is_new || self.cursors.len() > MOST_PAGES {
            return Err(format!("{who}'s pages have no end: ask for fewer days"));
        }
        self.steps.push_front(Step::Report(report, Some(cursor)));
        Ok(())
    }

    fn take_kind(&mut self, status: u16, body: &str) -> Result<(), String> {
        if !matches!(status, 200 | 404 | 405) {
            return Err(refused(status));
        }
        let told: Capabilities = serde_json::from_str(body).unwrap_or_default();
        if status == 200 && told.features.is_some() {
            let mut day = self.days.0;
            while day <= self.days.1 {
                self.steps.push_back(Step::Day(day));
                day = later(day, 1);
            }
        } else {
            self.is_stock = true;
            self.steps.push_back(Step::Models);
        }
        Ok(())
    }

    fn take_models(&mut self, body: &str) -> Result<(), String> {
        let summary: Summary = serde_json::from_str(body).map_err(|_| {
            "what answers at --url is not AgentWatch (/api/costs has no by_model): see url"
                .to_owned()
        })?;
        if summary.by_model.len() > MOST_LISTS {
            return Err(format!(
                "AgentWatch has more than {MOST_LISTS} models: ask for fewer days"
            ));
        }
        for ModelCount { model, count } in summary.by_model {
            self.steps.push_back(Step::Costs {
                model,
                agent: None,
                count,
            });
        }
        Ok(())
    }

    /// Handles a list of AgentWatch 0.1.0, which has the newest records only. If the list is incomplete, requests the
    /// list of each agent.
    fn take_costs(
        &mut self,
        model: String,
        agent: Option<String>,
        count: u64,
    ) -> Result<(), String> {
        self.end_list()?;
        let listed = std::mem::take(&mut self.listed);
        self.fresh += listed.fresh;
        if agent.is_some() {
            return Ok(());
        }
        let (true, Some(oldest)) = (self.fresh < count, listed.oldest) else {
            self.fresh = 0;
            return Ok(());
        };
        let agents = listed.agents.into_iter().take(MOST_LISTS);
        let of_agent = |agent| Step::Costs {
            model: model.clone(),
            agent: Some(agent),
            count,
        };
        let lists: Vec<Step> = agents.map(of_agent).collect();
        self.steps.push_front(Step::Judge {
            model,
            count,
            oldest,
        });
        for list in lists {
            self.steps.push_front(list);
        }
        Ok(())
    }

    fn refusal(&self, status: u16, body: &str) -> String {
        let who = self.provider.title();
        let (variable, kind, at) = match self.provider {
            Provider::OpenAi => (
                "OPENAI_ADMIN_KEY",
                "an admin key (sk-admin-…)",
                "platform.openai.com/settings/organization/admin-keys",
            ),
            Provider::Anthropic => (
                "ANTHROPIC_ADMIN_KEY",
                "an Admin API key (sk-ant-admin…)",
                "platform.claude.com/settings/admin-keys",
            ),
            Provider::OpenRouter => (
                "OPENROUTER_MANAGEMENT_KEY",
                "a management key",
                "openrouter.ai/settings/management-keys",
            ),
        };
        // Only this word of the answer is shown: other text may repeat the key.
        let word = serde_json::from_str::<Refusal>(body).ok();
        let word = word.and_then(|refusal| refusal.error?.kind);
        let word = word.filter(|word| {
            word.len() <= 40
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        });
        let says = match word {
            Some(word) => format!("HTTP {status}, {word}"),
            None => format!("HTTP {status}"),
        };
        match status {
            401 => format!(
                "{who} does not know the key ({says}): {variable} has to be {kind}, made at {at}"
            ),
            403 => format!(
                "{who} knows the key, and it may not read the organisation's usage ({says}): {variable} has to be {kind}, made at {at} by an owner or admin"
            ),
            300..=399 => {
                format!("{who} sends elsewhere ({says}): redirects are not followed; see --api")
            }
            404 => format!(
                "{who} has no such report ({says}): see --api, and for a newer version of this program"
            ),
            _ => format!("{who} refuses the request ({says}): see --since, --until and --api"),
        }
    }
}

/// Explains AgentWatch's refusals.
pub(crate) fn refused(status: u16) -> String {
    match status {
        403 => "AgentWatch refuses the host name in the address (HTTP 403): start it with --allow-host and that name, and look \
             whether a proxy before it refuses this machine"
            .to_owned(),
        300..=399 | 401 => {
            format!("AgentWatch refuses the token (HTTP {status}): set AGENTWATCH_TOKEN for this command")
        }
        404 => "this AgentWatch lists no calls (HTTP 404): it needs agentwatch-receiver, or AgentWatch 0.1.0; update it".to_owned(),
        _ => format!("AgentWatch answers HTTP {status}: see its log, and url"),
    }
}

impl Patience {
    /// The pause before the next try of the same request, in ms; an error after too many tries.
    pub(crate) fn pause(
        &mut self,
        who: &str,
        status: u16,
        retry_after_ms: Option<u64>,
        why: &str,
    ) -> Result<u64, String> {
        let says = match status {
            0 => format!("does not answer ({why})"),
            429 => "answers too many requests (HTTP 429)".to_owned(),
            _ => format!("answers HTTP {status}"),
        };
        self.tries += 1;
        let wait = retry_after_ms.unwrap_or(500 << self.tries.min(6));
        let most = if status == 0 {
            MOST_TRIES / 2
        } else {
            MOST_TRIES
        };
        if self.tries >= most {
            return Err(format!("{who} {says}, {most} times: try again later"));
        }
        self.paused_ms = self.paused_ms.saturating_add(wait);
        if self.paused_ms > MOST_PAUSES_MS {
            return Err(format!(
                "{who} {says} and wants a pause of {} s: try again then",
                wait.div_ceil(1_000)
            ));
        }
        Ok(wait)
    }
}

/// Percent-encodes a query value.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for half in [byte >> 4, byte & 15] {
                out.extend(
                    char::from_digit(u32::from(half), 16).map(|digit| digit.to_ascii_uppercase()),
                );
            }
        }
    }
    out
}
