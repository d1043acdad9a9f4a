//! Statements. One request is one statement: it reads or writes, counts, and makes the body.
//!
//! Two rules keep clients out of the SQL. What they wrote as a name goes through [`Sql::name`], and what they wrote
//! as a value through [`Sql::value`], which makes it a parameter of no declared type, so that Postgres reads it as it
//! reads a literal. The exceptions are few and checked where they are parsed: operators and functions come from
//! tables of ours, casts have no character that could end a type's name, and steps into JSON are quoted literals,
//! because expressions to group by must be the same text twice.
//!
//! - [`read`] selects rows of a [`Node`](super::plan::read::Node)
//! - [`embed`] joins what is embedded to them
//! - [`keys`] names what a row has
//! - [`condition`] writes filters
//! - [`write`] and [`call`] write the source of rows for the other methods
//! - [`answer`] wraps rows into the one row of an answer
//! - [`settings`] is what goes before it in the same transaction

use std::fmt::Write;

use bytes::Bytes;

use super::catalog::Name;

pub mod answer;
pub mod call;
pub mod condition;
mod embed;
mod keys;
pub mod read;
pub mod settings;
pub mod write;

/// The name of what a write or call gave.
pub const RESULT: &str = "pgrst_source";

/// A statement being written. It says which values it takes and not what they are, except for those that every request
/// of its shape has: so it can be kept for the next one.
#[derive(Clone, Debug, Default)]
pub struct Sql {
    text: String,
    params: Vec<Param>,
}

/// A value that a statement takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Param {
    /// One that belongs to the statement.
    Fixed(Bytes),
    /// What the query string's filter of this number compares with.
    Operand(usize),
    /// The payload's rows.
    Rows,
    /// The mark of the guard of this number.
    Mark(usize),
}

/// The values of one request, for the statement of all requests of its shape.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// What the query string's filters compare with.
    pub operands: Vec<Bytes>,
    /// The payload's rows, a JSON array.
    pub rows: Bytes,
    /// The marks of the guards.
    pub marks: Vec<String>,
}

impl Sql {
    /// Adds text of ours.
    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a name.
    pub fn name(&mut self, name: &str) -> &mut Self {
        write_quoted(&mut self.text, name);
        self
    }

    /// Adds a qualified name; one without a schema is left to the search path.
    pub fn qualified(&mut self, name: &Name) -> &mut Self {
        if !name.schema.is_empty() {
            self.name(&name.schema).push(".");
        }
        self.name(&name.name)
    }

    /// Adds a column of something in the statement.
    pub fn column(&mut self, of: &str, column: &str) -> &mut Self {
        self.name(of).push(".").name(column)
    }

    /// Adds a value that belongs to the statement.
    pub fn value(&mut self, value: impl Into<Bytes>) -> &mut Self {
        self.param(Param::Fixed(value.into()))
    }

    /// Adds a value.
    pub fn param(&mut self, param: Param) -> &mut Self {
        self.params.push(param);
        // Writing to a string cannot fail.
        let _ = write!(self.text, "${}", self.params.len());
        self
    }

    /// Adds a quoted literal, where a parameter will not do.
    pub fn literal(&mut self, text: &str) -> &mut Self {
        self.text.push_str(&quote_literal(text));
        self
    }

    /// Adds each of some things, with text of ours between.
    pub fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        separator: &str,
        mut write: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.push(separator);
            }
            write(self, item);
        }
        self
    }

    /// The same statement behind text of ours.
    #[must_use]
    pub fn prefixed(mut self, text: &str) -> Self {
        self.text.insert_str(0, text);
        self
    }

    /// The statement's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its parameters for a request with these values.
    pub fn bound<'a>(&'a self, values: &'a Values) -> Vec<Option<&'a [u8]>> {
        let bind = |param: &'a Param| match param {
            Param::Fixed(value) => Some(value.as_ref()),
            Param::Operand(number) => values.operands.get(*number).map(Bytes::as_ref),
            Param::Rows => Some(values.rows.as_ref()),
            Param::Mark(number) => values.marks.get(*number).map(String::as_bytes),
        };
        self.params.iter().map(bind).collect()
    }
}

/// A name as SQL writes it. A NUL cannot be in a name and would end it.
pub fn quote(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    write_quoted(&mut quoted, name);
    quoted
}

fn write_quoted(text: &mut String, name: &str) {
    let name = name.split('\0').next().unwrap_or_default();
    text.push('"');
    for (index, part) in name.split('"').enumerate() {
        text.push_str(if index > 0 { "\"\"" } else { "" });
        text.push_str(part);
    }
    text.push('"');
}

/// A text as SQL writes it, whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &str) -> String {
    let text = text.replace('\0', "");
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// An array as a literal of an array type, every element quoted.
pub fn array(elements: &[String]) -> String {
    let quoted: Vec<_> = elements
        .iter()
        .map(|element| format!("\"{}\"", element.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    format!("{{{}}}", quoted.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_literals_cannot_be_left() {
        assert_eq!(quote(r#"a"; drop table x; --"#), r#""a""; drop table x; --""#);
        assert_eq!(quote("a\0\"b"), "\"a\"");
        assert_eq!(quote_literal(r"it's \' x"), r"E'it''s \\'' x'");
        assert_eq!(
            array(&["a\"b".into(), "c\\".into(), String::new()]),
            r#"{"a\"b","c\\",""}"#
        );
    }
}
