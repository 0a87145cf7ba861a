//! Maps a model's names on both sides to one base: aliases (`gpt-4o`) and dated versions (`gpt-4o-2024-08-06`), with or
//! without a provider prefix.

use super::Provider;

/// The common base of a model's names: lower case, without provider, variant and date.
pub fn base(provider: Provider, name: &str) -> String {
    let mut text = name.trim().to_lowercase();
    let prefix = [provider.name(), "/"].concat();
    // The prefix names the provider. `openrouter/auto` is a model of OpenRouter itself.
    if let Some(rest) = text.strip_prefix(&prefix) {
        text = rest.to_owned();
    }
    match provider {
        // Usage has a fine-tuned model as `ft:gpt-4o-2024-08-06:company::id`; cost items have `ft-gpt-4o-2024-08-06`.
        Provider::OpenAi => {
            if let Some(rest) = text.strip_prefix("ft:") {
                let model = rest.split(':').next().unwrap_or_default();
                text = ["ft-", model].concat();
            }
        }
        Provider::Anthropic => {
            text = text.trim_end_matches("[1m]").replace('.', "-");
        }
        // Variants: `vendor/model:free`.
        Provider::OpenRouter => {
            if let Some((model, _)) = text.split_once(':') {
                text = model.to_owned();
            }
        }
    }
    undated(provider, &text).to_owned()
}

/// Strips the part of a name that marks a version.
fn undated(provider: Provider, name: &str) -> &str {
    if let Some(rest) = name.strip_suffix("-latest") {
        return rest;
    }
    if let Some((rest, version)) = name.rsplit_once('@')
        && is_date(version)
    {
        return rest;
    }
    let Some((rest, last)) = name.rsplit_once('-') else {
        return name;
    };
    if is_date(last) || (last.len() == 4 && is_month_day(last)) {
        return rest;
    }
    // `claude-sonnet-4-0` is the first version of `claude-sonnet-4`.
    if provider == Provider::Anthropic && last == "0" {
        return rest;
    }
    // `-2024-08-06`
    let mut parts = name.rsplitn(4, '-');
    let (day, month, year) = (parts.next(), parts.next(), parts.next());
    if let (Some(day), Some(month), Some(year), Some(rest)) = (day, month, year, parts.next())
        && is_date(&[year, month, day].concat())
        && day.len() == 2
        && month.len() == 2
    {
        return rest;
    }
    name
}

/// `20240806`
fn is_date(text: &str) -> bool {
    text.len() == 8 && text.starts_with("20") && text.get(4..).is_some_and(is_month_day)
}

/// `0806`
fn is_month_day(text: &str) -> bool {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u8>().ok());
    text.bytes().all(|byte| byte.is_ascii_digit())
        && number(text.get(..2)).is_some_and(|month| (1..=12).contains(&month))
        && number(text.get(2..)).is_some_and(|day| (1..=31).contains(&day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_model_have_one_base() {
        use Provider::{Anthropic, OpenAi, OpenRouter};
        for (provider, base_name, names) in [
            (
                OpenAi,
                "gpt-4o-mini",
                &[
                    "gpt-4o-mini",
                    "openai/gpt-4o-mini",
                    "gpt-4o-mini-2024-07-18",
                    "GPT-4o-mini",
                ][..],
            ),
            (
                OpenAi,
                "gpt-3.5-turbo",
                &["gpt-3.5-turbo-0125", "gpt-3.5-turbo"],
            ),
            (
                OpenAi,
                "ft-gpt-4o",
                &["ft:gpt-4o-2024-08-06:acme:name:id", "ft-gpt-4o-2024-08-06"],
            ),
            (OpenAi, "chatgpt-4o", &["chatgpt-4o-latest"]),
            (OpenAi, "gpt-5.1-codex-max", &["gpt-5.1-codex-max"]),
            (
                Anthropic,
                "claude-sonnet-4-5",
                &[
                    "claude-sonnet-4-5",
                    "claude-sonnet-4-5-20250929",
                    "anthropic/claude-sonnet-4.5",
                    "claude-sonnet-4-5@20250929",
                    "claude-sonnet-4-5[1m]",
                ],
            ),
            (
                Anthropic,
                "claude-opus-4",
                &["claude-opus-4-0", "claude-opus-4-20250514"],
            ),
            (
                Anthropic,
                "claude-3-7-sonnet",
                &["claude-3-7-sonnet-latest", "claude-3-7-sonnet-20250219"],
            ),
            (
                OpenRouter,
                "openai/gpt-4.1",
                &[
                    "openai/gpt-4.1",
                    "openrouter/openai/gpt-4.1",
                    "openai/gpt-4.1-2025-04-14",
                    "openai/gpt-4.1:nitro",
                ],
            ),
            (OpenRouter, "auto", &["auto", "openrouter/auto"]),
        ] {
            for name in names {
                assert_eq!(base(provider, name), base_name, "{name}");
            }
        }
    }

    #[test]
    fn other_models_keep_their_names() {
        for name in [
            "gpt-4o",
            "o1",
            "gpt-4-32k",
            "gpt-4-1106-preview",
            "text-embedding-3-small",
            "gpt-5-9999",
            "m-1999-01-01",
            "é-20-é",
            "",
            "-",
        ] {
            assert_eq!(base(Provider::OpenAi, name), name, "{name}");
        }
        assert_ne!(
            base(Provider::Anthropic, "claude-opus-4-1-20250805"),
            base(Provider::Anthropic, "claude-opus-4-20250514")
        );
    }

    #[test]
    fn any_text_has_a_base_that_is_its_own() {
        proptest::proptest!(|(name in "\\PC{0,40}")| {
            for provider in [Provider::OpenAi, Provider::Anthropic, Provider::OpenRouter] {
                let first = base(provider, &name);
                proptest::prop_assert!(first.len() <= name.to_lowercase().len() + 3);
            }
        });
    }
}
