//! Reads typed, bounded fields of a JSON object, with faults that name the field.

use crate::clock::{self, Micros};
use crate::json::{Json, Object, Text};

/// Longest name, model or id, in bytes.
pub const NAME_MAX: usize = 512;
/// Longest message or error text, in bytes.
pub const MESSAGE_MAX: usize = 64 * 1024;
/// Longest metadata or tags, in bytes of JSON.
pub const OBJECT_MAX: usize = 64 * 1024;
/// Largest count. The sum of a million such counts fits in 64 bits.
pub const COUNT_MAX: i64 = 1_000_000_000_000;
/// Largest amount of money or duration.
pub const AMOUNT_MAX: f64 = 1e12;

/// A field that breaks the contract.
#[derive(Debug)]
pub struct Fault {
    /// Path of the field within the record.
    pub field: String,
    /// Its valid values.
    pub message: String,
}

/// A field's value; `None` where it is absent or null.
pub type Taken<T> = Result<Option<T>, Fault>;

/// A JSON object whose fields are read.
pub struct Fields<'a, 'p> {
    object: Object<'a>,
    path: &'p str,
}

impl<'a, 'p> Fields<'a, 'p> {
    /// Opens a value that must be an object. `path` precedes each field's name in faults.
    pub fn open(value: Json<'a>, path: &'p str) -> Result<Self, Fault> {
        match value {
            Json::Object(object) => Ok(Self { object, path }),
            other => Err(Fault {
                field: path.trim_end_matches('.').to_owned(),
                message: format!("a record is a JSON object, this is {}", other.kind()),
            }),
        }
    }

    /// A fault of the field `name`.
    pub fn fault(&self, name: &str, message: impl Into<String>) -> Fault {
        Fault {
            field: format!("{}{name}", self.path),
            message: format!("{name} {}", message.into()),
        }
    }

    /// Refuses a field that is null instead of absent.
    pub fn refuse_null(&self, name: &str) -> Result<(), Fault> {
        match self.object.get(name) {
            Some(Json::Null) => Err(self.fault(name, "is null: give a value or leave it out")),
            _ => Ok(()),
        }
    }

    /// Text of up to `max` bytes.
    pub fn text(&mut self, name: &str, max: usize) -> Taken<Text<'a>> {
        match self.object.take(name) {
            None => Ok(None),
            Some(Json::Text(text)) if text.len() <= max => Ok(Some(text)),
            Some(Json::Text(text)) => Err(self.fault(
                name,
                format!("is {} bytes long: at most {max} are taken", text.len()),
            )),
            Some(other) => Err(self.fault(
                name,
                format!("has to be a string, this is {}", other.kind()),
            )),
        }
    }

    /// Text of 1 to [`NAME_MAX`] bytes.
    pub fn name(&mut self, name: &str) -> Taken<Text<'a>> {
        match self.text(name, NAME_MAX)? {
            Some(text) if text.is_empty() => Err(self.fault(name, "is empty")),
            text => Ok(text),
        }
    }

    /// Optional text of up to [`NAME_MAX`] bytes; an empty text counts as absent.
    pub fn label(&mut self, name: &str) -> Taken<Text<'a>> {
        Ok(self.text(name, NAME_MAX)?.filter(|text| !text.is_empty()))
    }

    /// One of the `allowed` words, in any case where `fold` is set.
    pub fn word(&mut self, name: &str, allowed: &[&str], fold: bool) -> Taken<Text<'a>> {
        let Some(mut text) = self.text(name, NAME_MAX)? else {
            return Ok(None);
        };
        if fold {
            text.to_mut().make_ascii_lowercase();
        }
        if allowed.contains(&&*text) {
            return Ok(Some(text));
        }
        Err(self.fault(name, format!("has to be one of {}", allowed.join(", "))))
    }

    /// A whole number from 0 to [`COUNT_MAX`].
    pub fn count(&mut self, name: &str) -> Taken<i64> {
        match self.object.take(name) {
            None => Ok(None),
            Some(Json::Number(number)) => match number.as_i64() {
                Some(count) if (0..=COUNT_MAX).contains(&count) => Ok(Some(count)),
                _ => Err(self.fault(
                    name,
                    format!("has to be a whole number from 0 to {COUNT_MAX}"),
                )),
            },
            Some(other) => Err(self.fault(
                name,
                format!("has to be a whole number, this is {}", other.kind()),
            )),
        }
    }

    /// A finite number.
    pub fn number(&mut self, name: &str) -> Taken<f64> {
        match self.object.take(name) {
            None => Ok(None),
            Some(Json::Number(number)) => match number.as_f64() {
                Some(number) if number.is_finite() => Ok(Some(number)),
                _ => Err(self.fault(name, "has to be a finite number")),
            },
            Some(other) => Err(self.fault(
                name,
                format!("has to be a number, this is {}", other.kind()),
            )),
        }
    }

    /// A finite number from 0 to [`AMOUNT_MAX`].
    pub fn amount(&mut self, name: &str) -> Taken<f64> {
        match self.number(name)? {
            Some(amount) if !(0.0..=AMOUNT_MAX).contains(&amount) => {
                Err(self.fault(name, format!("has to be from 0 to {AMOUNT_MAX:e}")))
            }
            amount => Ok(amount),
        }
    }

    /// An instant: ISO 8601 text, or milliseconds since 1970. One after now is now: the sender's clock is ahead, and its
    /// records would be the latest until that time comes.
    pub fn instant(&mut self, name: &str) -> Taken<Micros> {
        const RANGE: std::ops::Range<i64> = 0..253_402_300_800_000_000; // 1970 to 9999
        let instant = match self.object.take(name) {
            None => return Ok(None),
            Some(Json::Text(text)) => clock::parse_iso(&text),
            // A float's cast saturates, so values out of range stay out of range.
            Some(Json::Number(ms)) => ms.as_f64().map(|ms| (ms * 1000.0).round() as Micros),
            Some(_) => None,
        };
        match instant {
            Some(instant) if RANGE.contains(&instant) => Ok(Some(instant.min(clock::now()))),
            _ => Err(self.fault(name, "has to be ISO 8601 text, or milliseconds since 1970")),
        }
    }

    /// A JSON object, as text.
    pub fn object(&mut self, name: &str) -> Taken<String> {
        match self.object.take(name) {
            None => Ok(None),
            Some(value @ Json::Object(_)) => {
                let text =
                    serde_json::to_string(&value).map_err(|e| self.fault(name, e.to_string()))?;
                if text.len() <= OBJECT_MAX {
                    return Ok(Some(text));
                }
                Err(self.fault(
                    name,
                    format!("is {} bytes of JSON: at most {OBJECT_MAX}", text.len()),
                ))
            }
            Some(other) => Err(self.fault(
                name,
                format!("has to be an object, this is {}", other.kind()),
            )),
        }
    }

    /// Reads an object's fields by `read`; the default if absent.
    pub fn nested<T: Default>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Fields<'a, '_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let Some(value) = self.object.take(name) else {
            return Ok(T::default());
        };
        read(&mut Fields::open(value, &format!("{}{name}.", self.path))?)
    }

    /// An array; empty if absent.
    pub fn array(&mut self, name: &str) -> Result<Vec<Json<'a>>, Fault> {
        match self.object.take(name) {
            None => Ok(Vec::new()),
            Some(Json::Array(items)) => Ok(items),
            Some(other) => Err(self.fault(
                name,
                format!("has to be an array, this is {}", other.kind()),
            )),
        }
    }
}
