//! Reads a request's path: the API, the model, and the path's shape for the log.

use crate::domain::call::Operation;
use std::borrow::Cow;

use super::answer::Api;
use crate::sources::facts::cut;

/// Maximum length of a path's shape, in characters.
const MAX_SHAPE: usize = 96;
/// Maximum length of a path's part that counts as a word, in characters.
const MAX_WORD: usize = 24;
/// Parts of paths that precede an id or a user's own name.
const BEFORE_IDS: [&str; 18] = [
    "accounts",
    "agents",
    "apps",
    "assistants",
    "deployments",
    "engines",
    "locations",
    "model",
    "models",
    "organizations",
    "projects",
    "regions",
    "serving-endpoints",
    "teams",
    "tenants",
    "threads",
    "users",
    "workspaces",
];

/// A request that calls a model, or fetches the result of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The API.
    pub api: Api,
    /// The model, where the path has it.
    pub model: Option<String>,
    /// What the request asks.
    pub operation: Operation,
    /// Whether it fetches or cancels a background response that an earlier request made.
    pub is_retrieval: bool,
}

impl Target {
    /// The target of a request; `None` where it is not a counted call of a model.
    pub fn of(method: &str, path: &str) -> Option<Self> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let parts: Vec<Cow<str>> = path.trim_end_matches('/').split('/').map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        let target = match (method, &parts[..]) {
            ("GET", [.., "responses", id]) | ("POST", [.., "responses", id, "cancel"])
                if !id.is_empty() =>
            {
                Self {
                    is_retrieval: true,
                    ..Self::from(Api::Responses)
                }
            }
            ("POST", [.., last]) => match last.split_once(':') {
                Some((model, action)) => Self::of_google(&parts, model, action)?,
                None => Self::of_words(&parts)?,
            },
            _ => return None,
        };
        Some(target)
    }

    fn of_words(parts: &[&str]) -> Option<Self> {
        let (api, model) = match parts {
            // Messages in threads of OpenAI's Assistants call no model.
            [.., "threads", _, "messages"] => return None,
            [.., "chat", "completions"] => (Api::Chat, None),
            [.., "completions"] => {
                return Some(Self {
                    operation: Operation::TextCompletion,
                    ..Self::from(Api::Chat)
                });
            }
            [.., "responses"] | [.., "responses", "compact"] => (Api::Responses, None),
            [.., "messages"] => (Api::Messages, None),
            [.., "api", "chat" | "generate"] => (Api::Ollama, None),
            [.., "model", model, "converse" | "converse-stream"] => (Api::Converse, Some(*model)),
            [.., "model", model, "invoke" | "invoke-with-response-stream"] => {
                (Api::Invoke, Some(*model))
            }
            _ => return None,
        };
        Some(Self {
            model: model.map(|model| cut(model).to_owned()),
            ..Self::from(api)
        })
    }

    /// Google's paths end with `model:action`. For models of others, the publisher is before the model.
    fn of_google(parts: &[&str], model: &str, action: &str) -> Option<Self> {
        let publisher = match parts {
            [.., "publishers", publisher, "models", _] => *publisher,
            _ => "google",
        };
        let api = match (action, publisher) {
            ("generateContent" | "streamGenerateContent", _) => Api::Gemini,
            ("rawPredict" | "streamRawPredict", "anthropic") if model != "count-tokens" => {
                Api::Messages
            }
            ("rawPredict" | "streamRawPredict", "mistralai") => Api::Chat,
            _ => return None,
        };
        // Without `models/` this part is the API's version, and the model is in the body.
        let is_model = matches!(parts, [.., "models" | "tunedModels" | "endpoints", _]);
        Some(Self {
            model: is_model.then(|| cut(model).to_owned()),
            ..Self::from(api)
        })
    }
}

impl From<Api> for Target {
    fn from(api: Api) -> Self {
        Self {
            api,
            model: None,
            operation: Operation::Chat,
            is_retrieval: false,
        }
    }
}

/// Decodes percent escapes in a part of a path.
fn decoded(part: &str) -> Cow<'_, str> {
    if !part.contains('%') {
        return Cow::Borrowed(part);
    }
    let bytes = part.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = part.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// A path without its query, with `{id}` for each part that may be an id or a user's own name. For the status and the
/// log.
pub fn shape(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut shape = String::new();
    let mut before = "";
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let (name, action) = part.split_once(':').unwrap_or((part, ""));
        let is_named = is_word(name) && (!BEFORE_IDS.contains(&before) || name == "runs");
        shape.push('/');
        shape.push_str(if is_named { name } else { "{id}" });
        if !action.is_empty() && action.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            shape.push(':');
            shape.push_str(cut_word(action));
        }
        before = name;
        if shape.len() > MAX_SHAPE {
            shape.truncate(MAX_SHAPE);
            shape.push('…');
            break;
        }
    }
    if shape.is_empty() {
        shape.push('/');
    }
    shape
}

fn cut_word(word: &str) -> &str {
    &word[..word.len().min(MAX_WORD)]
}

/// Whether a part of a path is a word of an API: lower-case letters, `_`, `-` and `.`, or a version such as `v1beta2`.
fn is_word(part: &str) -> bool {
    let is_version = part.strip_prefix('v').is_some_and(|rest| {
        rest.len() <= 12
            && rest.starts_with(|first: char| first.is_ascii_digit())
            && rest.chars().all(|letter| letter.is_ascii_alphanumeric())
    });
    let is_plain = |letter: char| letter.is_ascii_lowercase() || "_-.".contains(letter);
    is_version || (part.len() <= MAX_WORD && part.chars().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &str, path: &str) -> Option<(Api, Option<String>, bool)> {
        Target::of(method, path).map(|target| (target.api, target.model, target.is_retrieval))
    }

    #[test]
    fn completions_that_are_no_chat_continue_a_text() {
        for (path, operation) in [
            ("/v1/completions", Operation::TextCompletion),
            ("/v1/completions/?x=1", Operation::TextCompletion),
            (
                "/openai/deployments/x/completions",
                Operation::TextCompletion,
            ),
            ("/v1/fim/completions", Operation::TextCompletion),
            ("/v1/chat/completions", Operation::Chat),
            ("/openai/deployments/x/chat/completions", Operation::Chat),
            ("/v1/responses", Operation::Chat),
            ("/v1/messages", Operation::Chat),
            ("/v1beta/models/m:generateContent", Operation::Chat),
        ] {
            let target = Target::of("POST", path).map(|target| target.operation);
            assert_eq!(target, Some(operation), "{path}");
        }
    }

    #[test]
    fn the_path_names_the_api_and_the_model() {
        let some = |model: &str| Some(model.to_owned());
        for (path, expected) in [
            ("/v1/chat/completions", Some((Api::Chat, None))),
            ("/v1/completions", Some((Api::Chat, None))),
            ("/v1/fim/completions", Some((Api::Chat, None))),
            (
                "/openai/deployments/x/chat/completions?api-version=1",
                Some((Api::Chat, None)),
            ),
            ("/v1/responses/", Some((Api::Responses, None))),
            ("/v1/responses/compact", Some((Api::Responses, None))),
            ("/v1/messages?beta=true", Some((Api::Messages, None))),
            (
                "/v1beta/models/gemini-3-pro:generateContent?key=secret",
                Some((Api::Gemini, some("gemini-3-pro"))),
            ),
            (
                "/v1beta/models/gemini-3-pro%3AstreamGenerateContent?alt=sse",
                Some((Api::Gemini, some("gemini-3-pro"))),
            ),
            (
                "/v1/projects/p/locations/eu/publishers/google/models/gemini-3-pro:streamGenerateContent",
                Some((Api::Gemini, some("gemini-3-pro"))),
            ),
            (
                "/v1internal:streamGenerateContent?alt=sse",
                Some((Api::Gemini, None)),
            ),
            (
                "/v1/projects/p/locations/eu/publishers/anthropic/models/claude-x@20260101:streamRawPredict",
                Some((Api::Messages, some("claude-x@20260101"))),
            ),
            (
                "/v1/projects/p/locations/eu/publishers/mistralai/models/m:rawPredict",
                Some((Api::Chat, some("m"))),
            ),
            ("/api/chat", Some((Api::Ollama, None))),
            ("/api/generate", Some((Api::Ollama, None))),
            (
                "/model/us.anthropic.claude-x-v1%3A0/converse-stream",
                Some((Api::Converse, some("us.anthropic.claude-x-v1:0"))),
            ),
            (
                "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Fx/invoke",
                Some((
                    Api::Invoke,
                    some("arn:aws:bedrock:eu-west-1:1:inference-profile/x"),
                )),
            ),
            (
                "/model/a/invoke-with-response-stream",
                Some((Api::Invoke, some("a"))),
            ),
            ("/v1/threads/thread_1/messages", None),
            ("/v1/messages/count_tokens", None),
            ("/v1/messages/batches", None),
            ("/v1/responses/input_tokens", None),
            ("/v1beta/models/gemini-3-pro:countTokens", None),
            ("/v1beta/models/gemini-3-pro:embedContent", None),
            (
                "/v1/projects/p/publishers/anthropic/models/count-tokens:rawPredict",
                None,
            ),
            ("/v1/projects/p/publishers/google/models/x:predict", None),
            ("/model/a/count-tokens", None),
            ("/api/embed", None),
            ("/chat", None),
            ("/v1/embeddings", None),
            ("/v1/models", None),
            ("/", None),
            ("", None),
        ] {
            let expected = expected.map(|(api, model)| (api, model, false));
            assert_eq!(target("POST", path), expected, "{path}");
            assert_eq!(target("GET", path).filter(|found| !found.2), None, "{path}");
        }
    }

    #[test]
    fn fetching_a_response_is_not_a_call() {
        let fetched = Some((Api::Responses, None, true));
        assert_eq!(target("GET", "/v1/responses/resp_1?stream=true"), fetched);
        assert_eq!(target("POST", "/v1/responses/resp_1/cancel"), fetched);
        for path in ["/v1/responses", "/v1/responses/resp_1/input_items"] {
            assert_eq!(target("GET", path), None, "{path}");
        }
        assert_eq!(target("DELETE", "/v1/responses/resp_1"), None);
        assert_eq!(target("POST", "/v1/responses/resp_1"), None);
    }

    #[test]
    fn a_shape_omits_ids_names_and_the_query() {
        for (path, expected) in [
            ("/v1/embeddings?key=secret", "/v1/embeddings"),
            (
                "/v1/threads/thread_aBc1/messages",
                "/v1/threads/{id}/messages",
            ),
            ("/v1/threads/runs", "/v1/threads/runs"),
            (
                "/v1beta/models/gemini-3-pro:countTokens#x",
                "/v1beta/models/{id}:countTokens",
            ),
            (
                "/v1/projects/acme/locations/eu/publishers/google/models/x:predict",
                "/v1/projects/{id}/locations/{id}/publishers/google/models/{id}:predict",
            ),
            (
                "/openai/deployments/our-own-name/images/generations",
                "/openai/deployments/{id}/images/generations",
            ),
            ("/v1/files/file-8f3a/content", "/v1/files/{id}/content"),
            ("/v1/responses/resp_9/cancel", "/v1/responses/{id}/cancel"),
            ("/a%20b/ABC/é", "/{id}/{id}/{id}"),
            ("//", "/"),
            ("", "/"),
        ] {
            assert_eq!(shape(path), expected, "{path}");
        }
        let long = shape(&"/word".repeat(100));
        assert!(long.chars().count() <= MAX_SHAPE + 1, "{long}");
        assert!(shape(&format!("/x:{}", "a".repeat(500))).len() < 40);
    }
}
