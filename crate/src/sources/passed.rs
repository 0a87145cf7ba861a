//! `passed`: a POST that reached a provider through the proxy and was not counted as a call.

use super::{Event, Reject, Source, path};
use crate::domain::identity;
use crate::sources::facts::facts;

facts! {
    /// Facts of the request. The field names are those of `Passed` in the shim.
    PassedFacts = Request "passed" {
        provider: "event.provider",
        path: "event.path",
    }
}

pub(crate) const SOURCES: &[Source] = &[Source::new(PassedFacts::TABLE, |facts, table, _| {
    let facts = PassedFacts::new(facts);
    match (facts.provider().text(), facts.path().text()) {
        (Some(provider), Some(path)) => Ok(Event::Passed(format!(
            "{} {}",
            identity::name(provider),
            path::shape(path)
        ))),
        _ => Err(Reject::new(table.source, "no_path")),
    }
})];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::facts::Scalar;

    fn passed(facts: [Scalar; 2]) -> Result<Event, Reject> {
        (SOURCES[0].read)(facts.to_vec(), SOURCES[0].table, 1)
    }

    #[test]
    fn a_request_is_named_by_its_provider_and_its_shape() {
        let text = |text: &str| Scalar::Text(text.to_owned());
        let path = "/v1/threads/thread_1/messages?key=secret";
        let name = "openai /v1/threads/{id}/messages".to_owned();
        assert_eq!(
            passed([text("openai"), text(path)]),
            Ok(Event::Passed(name))
        );
        assert!(passed([text("openai"), Scalar::Absent]).is_err());
    }
}
