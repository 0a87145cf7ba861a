//! Facts: the declared scalar fields that cross from JavaScript.
//!
//! A source of events is described by a table of field paths. The shim reads the table and copies exactly those
//! scalars, each inside its own `try`, into a fresh array in the table's order; other fields never enter the module. So
//! no getter of a foreign object runs under a Rust frame.

use std::fmt;

use serde::de::{Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Maximum length of a text, in UTF-16 units as the shim counts them.
pub const MAX_TEXT: usize = 1024;

/// One copied value.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Scalar {
    /// Missing, `undefined` or `null`.
    #[default]
    Absent,
    /// A boolean.
    Bool(bool),
    /// A number, `NaN` and infinities included.
    Number(f64),
    /// A text, cut at [`MAX_TEXT`].
    Text(String),
    /// A declared list's entries. Empty for a value that is no scalar, or whose getter threw.
    List(Vec<Scalar>),
}

impl Scalar {
    /// The text, unless it is blank; `None` for other values.
    pub fn text(&self) -> Option<&str> {
        match self {
            Scalar::Text(text) if !text.trim().is_empty() => Some(text),
            _ => None,
        }
    }

    /// The text, owned.
    pub fn owned(&self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    /// The number, if it is finite and not negative.
    pub fn amount(&self) -> Option<f64> {
        match self {
            Scalar::Number(n) if n.is_finite() && *n >= 0.0 => Some(*n),
            _ => None,
        }
    }

    /// The number, whatever it is.
    pub fn number(&self) -> Option<f64> {
        match self {
            Scalar::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The boolean, if this is one.
    pub fn flag(&self) -> Option<bool> {
        match self {
            Scalar::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// A plausible time in ms since 1970 (between 2001 and 2286).
    pub fn time_ms(&self) -> Option<u64> {
        self.amount()
            .filter(|n| (1e12..1e13).contains(n))
            .map(|n| n as u64)
    }

    /// The entries of a list; empty for other values.
    pub fn list(&self) -> &[Scalar] {
        match self {
            Scalar::List(list) => list,
            _ => &[],
        }
    }

    /// Whether the value is missing.
    pub fn is_absent(&self) -> bool {
        matches!(self, Scalar::Absent)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;

        impl<'de> Visitor<'de> for ScalarVisitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a scalar")
            }
            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Absent)
            }
            fn visit_none<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Absent)
            }
            fn visit_some<D: Deserializer<'de>>(self, some: D) -> Result<Scalar, D::Error> {
                some.deserialize_any(self)
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                new: D,
            ) -> Result<Scalar, D::Error> {
                new.deserialize_any(self)
            }
            // A value that is no scalar becomes an empty list. None of these methods fails: the texts of errors would
            // take a tenth of the module.
            fn visit_bytes<E>(self, _: &[u8]) -> Result<Scalar, E> {
                Ok(Scalar::List(Vec::new()))
            }
            fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Scalar, A::Error> {
                Ok(Scalar::List(Vec::new()))
            }
            fn visit_i128<E>(self, v: i128) -> Result<Scalar, E> {
                Ok(Scalar::Number(v as f64))
            }
            fn visit_u128<E>(self, v: u128) -> Result<Scalar, E> {
                Ok(Scalar::Number(v as f64))
            }
            fn visit_bool<E>(self, v: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(v))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Scalar, E> {
                Ok(Scalar::Number(v))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(v as f64))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(v as f64))
            }
            fn visit_str<E>(self, v: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(v.to_owned()))
            }
            fn visit_string<E>(self, v: String) -> Result<Scalar, E> {
                Ok(Scalar::Text(v))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    list.push(entry);
                }
                Ok(Scalar::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::List(Vec::new()))
            }
        }

        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// One declared field: its name, and where the shim finds it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// The path, with dots between its parts; the first part is the handler's argument (`event`, `ctx`). Alternatives
    /// are separated by `|`; the first that is present is taken.
    ///
    /// A prefix changes the value: `noise:` gives a boolean, whether the text is noise (a heartbeat, a blank).
    /// `preview:` gives the text's first 200 characters where the operator asked for previews, else nothing. `time:`
    /// gives ms since 1970, of a number or an ISO text. `usage:` gives the values of the usage object that have one of
    /// the `names`, in the format of [`crate::domain::usage::Reading::of_pairs`].
    pub path: &'static str,
    /// Names below the path; empty for a scalar.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub names: &'static [&'static str],
}

/// The mechanism by which a source's events reach this plugin. The shim derives its subscriptions from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// A typed hook of the plugin.
    Hook,
    /// A diagnostic event of the gateway.
    Diagnostic,
    /// An internal event without an equivalent typed hook: the plugin subscribes to it, and so does the HOOK.md
    /// handler.
    Internal,
    /// An internal event for the HOOK.md handler only: a typed hook is equivalent, or no gateway emits it.
    HookFile,
    /// A file that this plugin reads.
    File,
    /// A request to a server of this plugin.
    Request,
}

/// The gateways on which the shim subscribes to a source. A gateway logs a warning for each unknown hook. Only hooks are
/// for [`Gateways::Older`] or [`Gateways::Newer`]: the shim has one list of diagnostics and one of internal events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gateways {
    /// All of them.
    Every,
    /// Versions without a registration mode: 2026.3.13.
    Older,
    /// Versions with a registration mode.
    Newer,
    /// None: no gateway emits it yet, or it needs no subscription.
    None,
}

/// One source of events: its name, its mechanism, and its fields.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct SourceTable {
    /// OpenClaw's own name of the hook or event.
    pub source: &'static str,
    /// Its mechanism.
    pub mechanism: Mechanism,
    /// The gateways on which the shim subscribes to it.
    pub gateways: Gateways,
    /// Path and value: other events are skipped (`None`: no filter).
    pub only: Option<(&'static str, &'static str)>,
    /// The declared fields.
    pub fields: &'static [Field],
    /// A list of records whose fields cross after the others, each record as an array.
    pub list: Option<ListTable>,
}

/// A list inside an event.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ListTable {
    /// The list's path.
    pub path: &'static str,
    /// Maximum number of entries.
    pub max: usize,
    /// The fields of an entry; paths start at the entry.
    pub fields: &'static [Field],
}

impl SourceTable {
    /// The same fields under the name of another source.
    pub const fn renamed(self, source: &'static str) -> Self {
        Self { source, ..self }
    }

    /// The same with another mechanism.
    pub const fn by(self, mechanism: Mechanism) -> Self {
        Self { mechanism, ..self }
    }

    /// The same for these gateways only.
    pub const fn on(self, gateways: Gateways) -> Self {
        Self { gateways, ..self }
    }
}

/// Index of a field in its table, computed at compile time.
pub(crate) const fn index_of(fields: &[Field], name: &str) -> usize {
    let mut index = 0;
    while index < fields.len() {
        if is_same(fields[index].name.as_bytes(), name.as_bytes()) {
            return index;
        }
        index += 1;
    }
    index
}

/// Index of a name in a list, computed at compile time.
pub(crate) const fn index_in(names: &[&str], name: &str) -> usize {
    let mut index = 0;
    while index < names.len() {
        if is_same(names[index].as_bytes(), name.as_bytes()) {
            return index;
        }
        index += 1;
    }
    index
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

/// A text cut at [`MAX_TEXT`].
pub(crate) fn cut(text: &str) -> &str {
    let mut units = 0;
    let end = text.char_indices().find(|(_, letter)| {
        units += letter.len_utf16();
        units > MAX_TEXT
    });
    end.map_or(text, |(end, _)| &text[..end])
}

/// The fact at an index; `Absent` beyond the end.
pub(crate) fn at(facts: &[Scalar], index: usize) -> &Scalar {
    facts.get(index).unwrap_or(&Scalar::Absent)
}

/// Declares a source's facts: generates the struct and the table that the shim reads. The [`Mechanism`] precedes the
/// source's name.
macro_rules! facts {
    ($(#[$doc:meta])* $name:ident = $mechanism:ident $source:literal $(where $path:literal is $value:literal)? {
        $($field:ident : $from:literal),* $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default)]
        pub struct $name(Vec<$crate::sources::facts::Scalar>);

        impl $name {
            /// Facts in the table's order. Missing ones at the end are absent.
            pub fn new(facts: Vec<$crate::sources::facts::Scalar>) -> Self {
                Self(facts)
            }

            $(
                #[doc = concat!("From `", $from, "`.")]
                pub fn $field(&self) -> &$crate::sources::facts::Scalar {
                    const INDEX: usize =
                        $crate::sources::facts::index_of($name::TABLE.fields, stringify!($field));
                    $crate::sources::facts::at(&self.0, INDEX)
                }
            )*

            /// The table that the shim reads.
            pub const TABLE: $crate::sources::facts::SourceTable = $crate::sources::facts::SourceTable {
                source: $source,
                mechanism: $crate::sources::facts::Mechanism::$mechanism,
                gateways: $crate::sources::facts::Gateways::Every,
                only: $crate::sources::facts::only!($($path, $value)?),
                fields: &[$($crate::sources::facts::Field {
                    name: stringify!($field),
                    path: $from,
                    names: $crate::domain::usage::names_of($from),
                }),*],
                list: None,
            };
        }
    };
}

macro_rules! only {
    () => {
        None
    };
    ($path:literal, $value:literal) => {
        Some(($path, $value))
    };
}

pub(crate) use {facts, only};
