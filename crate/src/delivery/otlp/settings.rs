//! The setting `otlp`, validated: `{url, headers, protocol, compression}`, or `true` to use OpenTelemetry's own
//! environment variables.

use serde::Serialize;

use super::{Conventions, Form};
use crate::domain::identity;
use crate::engine::address::{check_url, complaint};
use crate::sources::facts::Scalar;

/// The validated setting. Not for logs: headers hold keys.
#[derive(Default, Serialize)]
pub struct Target {
    /// The collector's address, to which `/v1/traces` and `/v1/metrics` are added.
    pub url: Option<String>,
    /// Headers for each request.
    pub headers: Vec<(String, String)>,
    /// Form of each request.
    pub form: Form,
    /// Problems, one line each. If there are any, `url` is `None` and nothing is sent.
    pub problems: Vec<String>,
}

/// Headers that the plugin sets itself.
const OURS: [&str; 5] = [
    "content-type",
    "content-encoding",
    "content-length",
    "host",
    "user-agent",
];

/// Validates the setting; an object comes as a list of pairs. `environment` is a list of the values of
/// `OTEL_SEMCONV_STABILITY_OPT_IN`, which holds for each setting, and `OTEL_EXPORTER_OTLP_ENDPOINT`, `…_HEADERS`,
/// `…_PROTOCOL` and `…_COMPRESSION`, which hold for `true` alone.
pub fn read(setting: &Scalar, environment: &Scalar) -> Target {
    let mut target = Target::default();
    match setting {
        Scalar::Absent | Scalar::Bool(false) => return target,
        Scalar::Bool(true) => target.read_environment(environment),
        Scalar::List(_) => target.read_object(setting),
        _ => target.complain("otlp is no object; set it to {\"url\": \"http://localhost:4318\"}"),
    }
    let opt_in = environment.list().first().and_then(Scalar::text);
    target.form.conventions = conventions(opt_in.unwrap_or_default());
    if !target.problems.is_empty() {
        target.url = None;
        target.headers.clear();
    }
    target
}

impl Target {
    fn complain(&mut self, text: &str) {
        self.problems
            .push([text, "; nothing goes to a collector"].concat());
    }

    fn read_object(&mut self, setting: &Scalar) {
        for entry in setting.list() {
            match entry.list() {
                [Scalar::Text(name), value] if name == "url" => self.take_url("otlp.url", value),
                [Scalar::Text(name), Scalar::List(pairs)] if name == "headers" => {
                    for pair in pairs {
                        match pair.list() {
                            [Scalar::Text(name), Scalar::Text(value)] => {
                                self.take_header("otlp.headers", name, value.clone());
                            }
                            _ => self.complain("otlp.headers has one that is no text; quote it"),
                        }
                    }
                }
                [Scalar::Text(name), value] if name == "protocol" => {
                    self.take_protocol("otlp.protocol", value);
                }
                [Scalar::Text(name), value] if name == "compression" => {
                    self.take_compression("otlp.compression", value);
                }
                [Scalar::Text(name), _] => {
                    let name = identity::name(name);
                    self.complain(&format!(
                        "otlp.{name} is no setting of otlp; give url and headers, protocol, compression"
                    ));
                }
                _ => self.complain("otlp is no object; give url and headers"),
            }
        }
        if self.url.is_none() && self.problems.is_empty() {
            self.complain(
                "otlp.url is missing; set it to an address such as http://localhost:4318",
            );
        }
    }

    fn read_environment(&mut self, environment: &Scalar) {
        let [_, url, headers, protocol, compression] = environment.list() else {
            return self.complain(UNSET);
        };
        if url.text().is_none() {
            return self.complain(UNSET);
        }
        self.take_url("OTEL_EXPORTER_OTLP_ENDPOINT", url);
        if protocol.text().is_some() {
            self.take_protocol("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        }
        if compression.text().is_some() {
            self.take_compression("OTEL_EXPORTER_OTLP_COMPRESSION", compression);
        }
        let pairs = headers.text().unwrap_or_default().split(',');
        for pair in pairs.filter(|pair| !pair.trim().is_empty()) {
            let name = "OTEL_EXPORTER_OTLP_HEADERS";
            match pair.split_once('=') {
                Some((key, value)) => self.take_header(name, key.trim(), decoded(value.trim())),
                None => self.complain(
                    "OTEL_EXPORTER_OTLP_HEADERS has a part without \"=\"; write name=value",
                ),
            }
        }
    }

    fn take_protocol(&mut self, setting: &str, value: &Scalar) {
        let mend = "set it to http/protobuf or http/json";
        match value.text().map(str::trim) {
            Some("http/protobuf") => self.form.protobuf = true,
            Some("http/json") => self.form.protobuf = false,
            _ => self.refuse(setting, value, mend),
        }
    }

    fn take_compression(&mut self, setting: &str, value: &Scalar) {
        match value.text().map(str::trim) {
            Some("gzip") => self.form.gzip = true,
            Some("none") => self.form.gzip = false,
            _ => self.refuse(setting, value, "set it to gzip or none"),
        }
    }

    fn refuse(&mut self, setting: &str, value: &Scalar, mend: &str) {
        match value.text() {
            Some(text) => {
                let text = identity::name(text);
                self.complain(&format!("{setting} is \"{text}\"; {mend}"));
            }
            None => self.complain(&format!("{setting} is no text; {mend}")),
        }
    }

    fn take_url(&mut self, setting: &str, value: &Scalar) {
        match value.text().map(str::trim).map(check_url) {
            Some(Ok(url)) => self.url = Some(url),
            Some(Err(why)) => {
                let text = value.text().unwrap_or_default();
                self.complain(&complaint(setting, text, why, "http://localhost:4318"));
            }
            None => self.complain(&format!(
                "{setting} is no text; set it to an address such as http://localhost:4318"
            )),
        }
    }

    /// Problems never contain the header's value.
    fn take_header(&mut self, setting: &str, name: &str, value: String) {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_good = !name.is_empty() && name.bytes().all(is_name);
        let lower = name.to_ascii_lowercase();
        if !is_good || OURS.contains(&lower.as_str()) {
            let name = identity::name(name);
            self.complain(&format!(
                "{setting} has \"{name}\", which cannot be set; leave it out"
            ));
        } else if !value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
            self.complain(&format!(
                "{setting}.{name} holds characters that no header takes; copy it again"
            ));
        } else {
            self.headers.push((lower, value));
        }
    }
}

const UNSET: &str = "otlp is true, and OTEL_EXPORTER_OTLP_ENDPOINT is not set; set it, or otlp.url";

/// The conventions that `OTEL_SEMCONV_STABILITY_OPT_IN` asks for: a list for all instrumentations, of which `/dup` wins.
fn conventions(opt_in: &str) -> Conventions {
    let has = |word: &str| opt_in.split(',').any(|one| one.trim() == word);
    if has("gen_ai_latest_experimental/dup") {
        Conventions::Both
    } else if has("gen_ai_latest_experimental") {
        Conventions::Latest
    } else {
        Conventions::Released
    }
}

/// Decodes percent-encoding: the variable is in the format of W3C baggage.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
