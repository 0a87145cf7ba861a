//! JSON of a request's body, borrowed: a text is copied only if it has escapes.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Number;
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

/// A text, borrowed or owned.
pub type Text<'a> = Cow<'a, str>;

/// A JSON value.
#[derive(Clone, Debug)]
pub enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Text<'a>),
    Array(Vec<Self>),
    Object(Object<'a>),
}

/// The fields of a JSON object, in order. Of two with one name the last counts.
#[derive(Clone, Debug, Default)]
pub struct Object<'a>(Vec<(Text<'a>, Json<'a>)>);

/// Error of reading a text.
#[derive(Debug)]
pub enum Unreadable {
    /// It is not JSON.
    NotJson(serde_json::Error),
    /// It has more values than the limit.
    TooManyValues,
}

/// Reads one JSON text of at most `most` values. Each value takes memory, even if it is two bytes of text.
///
/// # Errors
/// See [`Unread`].
pub fn parse(text: &[u8], most: usize) -> Result<Json<'_>, Unreadable> {
    let left = Cell::new(most.saturating_add(1));
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Reader(&left)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| match left.get() {
        0 => Unreadable::TooManyValues,
        _ => Unreadable::NotJson(error),
    })
}

impl Json<'_> {
    /// Name of its type, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

impl<'a> Object<'a> {
    /// The values of all fields.
    pub fn values(&self) -> impl Iterator<Item = &Json<'a>> {
        self.0.iter().map(|(_, value)| value)
    }

    /// A field's value, null too.
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.0
            .iter()
            .rev()
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// Takes a field's value and leaves null; `None` if it is absent or null.
    pub fn take(&mut self, name: &str) -> Option<Json<'a>> {
        let (_, value) = self.0.iter_mut().rev().find(|(key, _)| key == name)?;
        match std::mem::replace(value, Json::Null) {
            Json::Null => None,
            value => Some(value),
        }
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(flag) => serializer.serialize_bool(*flag),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(object) => object.serialize(serializer),
        }
    }
}

/// Sorted by name, without repetitions.
impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The last one of a name first, since `dedup` keeps the first.
        let mut fields: Vec<_> = self.0.iter().rev().collect();
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        fields.dedup_by(|(a, _), (b, _)| a == b);
        serializer.collect_map(fields.into_iter().map(|(name, value)| (name, value)))
    }
}

/// Reads a value. The cell has the number of values that may still come, plus one: 0 means one too many.
#[derive(Clone, Copy)]
struct Reader<'b>(&'b Cell<usize>);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        self.0.set(self.0.get().saturating_sub(1));
        if self.0.get() == 0 {
            return Err(D::Error::custom("too many values"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Json<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(Json::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Number::from_f64(number)
            .map(Json::Number)
            .ok_or_else(|| E::custom("a number has to be finite"))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut object = Vec::new();
        while let Some(Name(name)) = fields.next_key()? {
            object.push((name, fields.next_value_seed(self)?));
        }
        Ok(Json::Object(Object(object)))
    }
}

/// A field's name. serde's own `Cow` always copies.
struct Name<'a>(Text<'a>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Name<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("the name of a field")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn read(text: &str) -> Json<'_> {
        parse(text.as_bytes(), usize::MAX).unwrap_or(Json::Null)
    }

    #[test]
    fn values_are_written_as_by_serde_json() {
        for text in [
            r#"{"b":1,"a":{"y":[true,null,-3,1.5e300],"x":"ü\n\"\u0000"},"b":"again"}"#,
            r#"[18446744073709551615,-9223372036854775808,0.1,1e2,-0.0,"\ud83d\ude00"]"#,
            r#"{"":{"":[]},"é\t":{}}"#,
        ] {
            let value: Value = serde_json::from_str(text).unwrap_or_default();
            let json = read(text);
            assert_eq!(
                serde_json::to_string(&json).unwrap_or_default(),
                value.to_string()
            );
        }
    }

    #[test]
    fn invalid_json_is_refused_with_serde_jsons_message() {
        for text in [
            "",
            "{",
            r#"{"a":1e400}"#,
            "[1,]",
            r#"{1:2}"#,
            "\"\\ud800\"",
            "nul",
            "{} {}",
        ] {
            let ours = match parse(text.as_bytes(), usize::MAX) {
                Err(Unreadable::NotJson(error)) => error.to_string(),
                other => format!("{other:?}"),
            };
            let theirs = serde_json::from_str::<Value>(text).err();
            assert_eq!(Some(ours), theirs.map(|error| error.to_string()), "{text}");
        }
    }

    #[test]
    fn the_last_field_of_a_name_counts() {
        let json = read(r#"{"a":1,"a":null}"#);
        let Json::Object(mut object) = json else {
            return assert!(matches!(json, Json::Object(_)));
        };
        assert!(matches!(object.get("a"), Some(Json::Null)));
        assert!(object.take("a").is_none());
    }

    #[test]
    fn values_are_counted_at_every_depth() {
        for (text, values) in [
            ("1", 1),
            ("[]", 1),
            ("[1,2,3]", 4),
            (r#"{"a":1,"a":2,"b":{}}"#, 4),
            ("[[[[]]],{}]", 5),
            (r#"[{"spans":[{},{}]},{}]"#, 6),
        ] {
            assert!(parse(text.as_bytes(), values).is_ok(), "{text}");
            let refused = parse(text.as_bytes(), values - 1);
            assert!(
                matches!(refused, Err(Unreadable::TooManyValues)),
                "{text}: {refused:?}"
            );
        }
    }
}
