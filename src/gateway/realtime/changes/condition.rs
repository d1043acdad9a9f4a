//! Whether a row meets a condition of a filter.
//!
//! What a text comparison decides exactly is decided here. Everything that needs Postgres' own idea of a type
//! (order of text, equality of numerics, regular expressions) is [`Verdict::Ask`]ed of Postgres.

use std::{collections::HashSet, sync::Arc};

use super::{
    filter::{Op, Written},
    pgoutput::{Cell, Relation},
    types::Type,
};

/// A condition checked against a table, its value as Postgres prints it.
#[derive(Clone, Debug)]
pub struct Condition {
    /// As written.
    pub written: Written,
    /// The column's type when the subscription was made.
    pub of: Arc<Type>,
    /// For `in`, the values; else the one value.
    pub values: HashSet<String>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// Postgres knows.
    Ask,
}

impl From<bool> for Verdict {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl Condition {
    /// The value that a row must have here, where the condition is one that an index can answer.
    pub fn equals(&self) -> Option<&str> {
        let indexable = self.written.op == Op::Eq && !self.written.negate && self.of.equal_as_text;
        self.values.iter().next().map(String::as_str).filter(|_| indexable)
    }

    /// The column's value in a row; `None` if the row does not say.
    pub fn cell<'a>(&self, relation: &Relation, row: &'a [Cell]) -> Option<&'a Cell> {
        row.get(relation.position(&self.written.column)?)
            .filter(|cell| **cell != Cell::Unsent)
    }

    /// Whether it holds for a value.
    pub fn holds(&self, cell: &Cell) -> Verdict {
        let op = self.written.op;
        let Some(text) = cell.text() else {
            // Of a null only `is` and `isdistinct` know anything.
            return match op {
                Op::Is => (matches!(&*self.written.value, "null" | "unknown") != self.written.negate).into(),
                Op::IsDistinct => (!self.written.negate).into(),
                _ => Verdict::No,
            };
        };
        let holds = match op {
            Op::Is => match &*self.written.value {
                "true" => text == "t",
                "false" => text == "f",
                _ => false,
            },
            Op::Eq | Op::In if self.of.equal_as_text => self.values.contains(text),
            Op::Neq | Op::IsDistinct if self.of.equal_as_text => !self.values.contains(text),
            Op::Lt | Op::Lte | Op::Gt | Op::Gte => {
                let (Ok(own), Some(Ok(other))) = (
                    text.parse::<i64>(),
                    self.values.iter().next().map(|value| value.parse::<i64>()),
                ) else {
                    return Verdict::Ask;
                };
                if !matches!(&*self.of.name, "int2" | "int4" | "int8") {
                    return Verdict::Ask;
                }
                match op {
                    Op::Lt => own < other,
                    Op::Lte => own <= other,
                    Op::Gt => own > other,
                    _ => own >= other,
                }
            }
            _ => return Verdict::Ask,
        };
        (holds != self.written.negate).into()
    }

    /// The statement that tells which of the texts `$1` satisfy the condition with value `$2`, by their numbers.
    pub fn question(&self) -> String {
        let (of, op) = (&self.of.sql, self.written.op);
        let (left, right) = match op {
            Op::In => (format!("each.value::{of}"), format!("($2::text::{of}[])")),
            _ if op.is_pattern() => ("each.value".to_owned(), "$2::text".to_owned()),
            _ => (format!("each.value::{of}"), format!("$2::text::{of}")),
        };
        let not = if self.written.negate { "not " } else { "" };
        format!(
            "select each.number from unnest($1::text[]) with ordinality as each (value, number) \
             where {not}({left} {} {right})",
            op.sql()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::realtime::changes::{filter::parse, types::Form};

    fn holds(name: &str, equal_as_text: bool, filter: &str, cell: Cell) -> Verdict {
        let of = Type {
            name: name.into(),
            sql: format!("pg_catalog.{name}"),
            form: Form::Text,
            equal_as_text,
        };
        let written = parse(filter).unwrap().remove(0);
        let values = written
            .value
            .trim_matches(['{', '}'])
            .split(',')
            .map(str::to_owned)
            .collect();
        let condition = Condition {
            written,
            of: Arc::new(of),
            values,
        };
        condition.holds(&cell)
    }

    #[test]
    fn conditions_hold_as_in_postgres() {
        let text = |text: &str| Cell::Text(text.to_owned().into());
        assert_eq!(holds("uuid", true, "a=eq.x", text("x")), Verdict::Yes);
        assert_eq!(holds("uuid", true, "a=not.eq.x", text("x")), Verdict::No);
        assert_eq!(holds("uuid", true, "a=not.eq.x", Cell::Null), Verdict::No);
        assert_eq!(holds("uuid", true, "a=neq.x", text("y")), Verdict::Yes);
        assert_eq!(holds("int4", true, "a=in.(1,2)", text("2")), Verdict::Yes);
        assert_eq!(holds("int4", true, "a=not.in.(1,2)", text("3")), Verdict::Yes);
        assert_eq!(holds("int4", true, "a=gt.9", text("10")), Verdict::Yes);
        assert_eq!(holds("int4", true, "a=lte.9", text("10")), Verdict::No);
        assert_eq!(holds("numeric", false, "a=eq.1", text("1.0")), Verdict::Ask);
        assert_eq!(holds("numeric", false, "a=gt.9", text("10")), Verdict::Ask);
        assert_eq!(holds("text", true, "a=gt.b", text("c")), Verdict::Ask);
        assert_eq!(holds("text", true, "a=gt.9", text("10")), Verdict::Ask);
        assert_eq!(holds("text", true, "a=like.x%", text("xy")), Verdict::Ask);
        assert_eq!(holds("text", true, "a=is.null", Cell::Null), Verdict::Yes);
        assert_eq!(holds("text", true, "a=not.is.null", text("x")), Verdict::Yes);
        assert_eq!(holds("bool", true, "a=is.true", text("t")), Verdict::Yes);
        assert_eq!(holds("bool", true, "a=is.unknown", Cell::Null), Verdict::Yes);
        assert_eq!(holds("text", true, "a=isdistinct.x", Cell::Null), Verdict::Yes);
        assert_eq!(holds("text", true, "a=not.isdistinct.x", text("x")), Verdict::Yes);
    }
}
