//! What becomes of a change for one subscriber: what Postgres answered, and what needed no question.

use super::{
    pgoutput::Kind,
    table::{Access, Table},
    visibility::Answer,
};

/// How one of the due is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Not at all.
    Unasked,
    /// As it was before.
    Remembered(bool),
    /// By an answer: the question's number, and the row's place in it.
    Asked(usize, usize),
}

/// How all of the due are judged.
pub struct Verdicts {
    /// In their order.
    pub judged: Vec<Judged>,
    /// What Postgres said, by the question's number.
    pub answers: Vec<Answer>,
}

/// Whether a change is shown to a subscriber.
pub enum Verdict<'a> {
    /// It is.
    Visible,
    /// It is not.
    Hidden,
    /// His role, claims or policies failed, with Postgres' words.
    Failed(&'a str),
    /// Postgres refuses to tell what the table, or a condition on it, needs, with its words.
    Refused(&'a str),
    /// His policies take too long.
    TooSlow,
    /// Told as an event without the row.
    Error(&'static str),
}

impl Verdicts {
    /// The verdict on one of the due.
    pub fn of(&self, at: usize, table: &Table, access: &Access, kind: Kind) -> Verdict<'_> {
        let key_readable = table.primary_key.iter().all(|position| access.columns[*position]);
        let nothing_readable = !access.columns.contains(&true);
        if kind != Kind::Delete {
            if nothing_readable || !key_readable {
                return Verdict::Error("Error 401: Unauthorized");
            }
            if access.by_key.is_some() && table.primary_key.is_empty() {
                return Verdict::Error("Error 400: Bad Request, no primary key");
            }
        } else if nothing_readable {
            return Verdict::Hidden;
        }
        let (number, place) = match self.judged[at] {
            Judged::Unasked | Judged::Remembered(true) => return Verdict::Visible,
            Judged::Remembered(false) => return Verdict::Hidden,
            Judged::Asked(number, place) => (number, place),
        };
        match &self.answers[number] {
            Answer::Visible(rows, _) if rows.contains(&place) => Verdict::Visible,
            Answer::Visible(..) => Verdict::Hidden,
            Answer::Failed(reason) => Verdict::Failed(reason),
            Answer::TooSlow => Verdict::TooSlow,
        }
    }
}
