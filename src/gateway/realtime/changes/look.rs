//! The values that rows have in the snapshot of an answer, whoever may see them.

use std::collections::HashMap;

use super::{
    decisions::Values,
    pgoutput::Cell,
    visibility::{Question, place},
};
use crate::db::session::Row;

/// A statement that reads values of rows, whoever may see them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Look {
    /// One parameter, the questions (a jsonb list); their number and the values come back.
    pub sql: String,
    /// How many values.
    pub width: usize,
}

/// The rows whose values are wanted, each once, by the statements that read them.
pub struct Looks<'q>(pub HashMap<&'q Look, (HashMap<&'q str, usize>, Vec<&'q str>)>);

impl<'q> Looks<'q> {
    /// Those of questions.
    pub fn of(questions: impl Iterator<Item = &'q Question>) -> Self {
        let mut looks: HashMap<&Look, (HashMap<&str, usize>, Vec<&str>)> = HashMap::new();
        for question in questions {
            let Some(look) = &question.look else { continue };
            let (places, rows) = looks.entry(look).or_default();
            for row in &question.rows {
                places.entry(row).or_insert_with(|| {
                    rows.push(row);
                    rows.len() - 1
                });
            }
        }
        Self(looks)
    }

    /// The values of a question's rows, by their places.
    pub fn values(&self, question: &Question, answers: &[Vec<Row>]) -> HashMap<usize, Values> {
        let mut values = HashMap::new();
        let Some(look) = question.look.as_deref() else {
            return values;
        };
        let number = self.0.keys().position(|each| *each == look);
        let Some(((places, _), rows)) = self.0.get(look).zip(number.and_then(|number| answers.get(number))) else {
            return values;
        };
        let found: HashMap<usize, &Row> = rows
            .iter()
            .filter_map(|row| Some((place(row.text(0)?)?, row)))
            .collect();
        for (at, row) in question.rows.iter().enumerate() {
            let Some(row) = places.get(row.as_str()).and_then(|place| found.get(place)) else {
                continue;
            };
            let cell = |column| row.bytes(column).map_or(Cell::Null, |bytes| Cell::Text(bytes.clone()));
            values.insert(at, (1..=look.width).map(cell).collect());
        }
        values
    }
}
