//! Finds declared scalars in JSON that comes in pieces, and holds nothing else of it.
//!
//! An answer of a model is read while it passes, so its text must cost neither memory nor time. This
//! reader keeps a stack as deep as its declaration and one scalar; what nobody asked for is passed over
//! byte by byte. Cut anywhere, the same document gives the same findings.
//!
//! It is strict where it looks and lenient where it does not: inside what is passed over, only texts and
//! brackets are told apart.

mod number;
mod scanner;
mod text;

pub use self::scanner::Scanner;

/// What of a document is wanted.
#[derive(Debug)]
pub enum Shape<F: 'static> {
    /// This value: a scalar as it is, of anything else that it is there.
    Leaf(F),
    /// Only that there is something: a text with a character in it, `true`, a number, an object, a list.
    Mark(F),
    /// These members of an object.
    Object(&'static [(&'static str, Shape<F>)]),
    /// The same, and where the object begins and ends; also its value where it is a scalar.
    Record(F, &'static [(&'static str, Shape<F>)]),
    /// Each entry of a list; a value that is no list is its own only entry.
    Each(&'static Shape<F>),
}

/// One finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found<'a> {
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number, as it is written; it follows JSON's grammar.
    Number(&'a str),
    /// A text, cut at [`MAX_TEXT`](crate::facts::MAX_TEXT) bytes.
    Text(&'a str),
    /// Something is there.
    Present,
    /// A record begins.
    Begin,
    /// A record ends.
    End {
        /// Whether it had no member at all.
        is_empty: bool,
    },
}

/// Who is told of findings: the field, the finding, and the offset in the document at which it begins
/// (at which it ends, for [`Found::End`]).
pub type Tell<'t, F> = &'t mut dyn FnMut(F, Found<'_>, usize);

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
