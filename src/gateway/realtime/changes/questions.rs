//! What Postgres is asked about changes: the conditions we cannot decide, and who may see which row, if that is not
//! remembered.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    condition::Condition,
    decisions::{Values, pick},
    due::Due,
    look::Look,
    memory::Memory,
    pgoutput::{Cell, Kind},
    policy::{Policy, Who},
    table::Deleted,
    tables::Tables,
    verdict::{Judged, Verdicts},
    visibility::{Answer, Asker, MAX_ROWS_OF_ONE, Question},
};
use crate::{db::session::Failure, metrics};

/// What is asked of one identity by one statement: the statement's name and the claims.
type Asking<'a> = (&'a str, &'a str);

/// Rows of a condition that only Postgres can decide.
struct Undecided {
    condition: Arc<Condition>,
    role: String,
    texts: Vec<String>,
    /// The places of the rows among the due.
    places: Vec<usize>,
}

/// Lets Postgres decide the conditions we cannot, each once for all its rows; drops what does not hold.
///
/// # Errors
/// When the database does not answer.
pub async fn decide(asker: &mut Asker, due: &mut Vec<Due<'_>>) -> Result<(), Failure> {
    let mut rows: HashMap<usize, Undecided> = HashMap::new();
    for (place, due) in due.iter().enumerate() {
        let row = due.streamed.change.new.as_ref().or(due.streamed.change.old.as_ref());
        for condition in &due.undecided {
            let cell = row.and_then(|row| condition.cell(&due.streamed.relation, row));
            let Some(text) = cell.and_then(Cell::text) else {
                continue;
            };
            let undecided = rows.entry(Arc::as_ptr(condition).addr()).or_insert_with(|| Undecided {
                condition: Arc::clone(condition),
                role: due.subscription.identity.role.clone(),
                texts: Vec::new(),
                places: Vec::new(),
            });
            undecided.texts.push(text.to_owned());
            undecided.places.push(place);
        }
    }
    let mut dropped = HashSet::new();
    for Undecided {
        condition,
        role,
        texts,
        places,
    } in rows.into_values()
    {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let holds = match asker.satisfying(&role, &condition, &texts).await? {
            Ok(holds) => holds,
            Err(reason) => {
                tracing::warn!(
                    error = reason,
                    "a filter cannot be evaluated; its channels have to join again"
                );
                let reason: Arc<str> = reason.into();
                for place in places {
                    due[place].refusal = Some(Arc::clone(&reason));
                }
                continue;
            }
        };
        let failing = places.iter().enumerate().filter(|(at, _)| !holds.contains(at));
        dropped.extend(failing.map(|(_, place)| *place));
    }
    let mut number = 0;
    due.retain(|_| {
        number += 1;
        !dropped.contains(&(number - 1))
    });
    Ok(())
}

/// When somebody has to have the right to see a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// When it was committed, or later.
    Commit,
    /// When he is back.
    Now,
}

/// Finds out who may see what: from memory, else by asking for each identity once about all rows that concern it. Of
/// several rows that policies cannot tell apart one is asked about.
///
/// # Errors
/// When the database does not answer.
pub async fn ask(
    asker: &mut Asker,
    tables: &Tables,
    memory: &mut Memory,
    due: &[Due<'_>],
    as_of: AsOf,
) -> Result<Verdicts, Failure> {
    let mut verdicts = Verdicts {
        judged: vec![Judged::Unasked; due.len()],
        answers: Vec::new(),
    };
    let mut open: Vec<usize> = (0..due.len()).collect();
    let postponing = match as_of {
        AsOf::Commit => [true, false].as_slice(),
        AsOf::Now => &[false],
    };
    for postponing in postponing {
        let mut questions = Questions::default();
        let mut postponed = Vec::new();
        for at in open {
            verdicts.judged[at] = match questions.of(tables, memory, &due[at], as_of, *postponing) {
                Found::Known(judged) => judged,
                Found::Asked(number, place) => Judged::Asked(verdicts.answers.len() + number, place),
                Found::Postponed => {
                    postponed.push(at);
                    continue;
                }
            };
        }
        let answers = if questions.list.is_empty() {
            Vec::new()
        } else {
            asker.ask(&mut memory.since(), &questions.list).await?
        };
        questions.remember(memory, &answers);
        verdicts.answers.extend(answers);
        open = postponed;
    }
    let count = |what: fn(&Judged) -> bool| verdicts.judged.iter().filter(|judged| what(judged)).count() as u64;
    metrics::visibility_checked(
        count(|judged| matches!(judged, Judged::Remembered(_))),
        count(|judged| matches!(judged, Judged::Asked(..))),
    );
    Ok(verdicts)
}

/// What to ask of identities.
#[derive(Default)]
struct Questions<'d> {
    list: Vec<Question>,
    /// The question that takes more rows.
    numbers: HashMap<Asking<'d>, usize>,
    places: HashMap<(usize, usize), usize>,
    /// By question: whose answer can be remembered.
    rememberable: HashMap<usize, (Arc<Policy>, Who)>,
    asked: HashSet<(usize, Who, Values)>,
    looks: HashMap<(u32, usize), Arc<Look>>,
}

/// How one of the due is judged.
enum Found {
    Known(Judged),
    /// By the question of this number, and the row's place in it.
    Asked(usize, usize),
    /// By the answer to another.
    Postponed,
}

impl<'d> Questions<'d> {
    /// `postponing` leaves aside what an answer under way may decide.
    fn of(
        &mut self,
        tables: &'d Tables,
        memory: &mut Memory,
        due: &'d Due<'_>,
        as_of: AsOf,
        postponing: bool,
    ) -> Found {
        let unasked = Found::Known(Judged::Unasked);
        let Some((table, access)) = tables.known(due).filter(|_| due.refusal.is_none()) else {
            return unasked;
        };
        let change = &due.streamed.change;
        let (statement, row, new) = match (change.kind, &change.new, &change.old) {
            (Kind::Delete, _, Some(old)) => match &access.deleted {
                Deleted::Asked(statement) => (statement, Some(table.old_row(old)), None),
                Deleted::Unasked => return unasked,
            },
            (_, Some(new), _) => match &access.by_key {
                Some(statement) => (statement, table.key(new), Some(new)),
                None => return unasked,
            },
            _ => return unasked,
        };
        let Some(row) = row else { return unasked };
        let identity = &due.subscription.identity;
        let asking = (statement.name(), identity.claims.raw());
        let row_of = std::ptr::from_ref(due.streamed).addr();
        let open = self.numbers.get(&asking).copied();
        if let Some((number, place)) = open.and_then(|number| Some((number, self.places.get(&(number, row_of))?))) {
            return Found::Asked(number, *place);
        }
        let relation = &due.streamed.relation;
        let mut rememberable = None;
        if let Some(policy) = new.and_then(|_| memory.policy(relation.oid, &identity.role)) {
            let who = memory.who(&policy, identity);
            // A value that was not sent cannot be compared.
            if let Some(values) = new.and_then(|new| pick(relation, new, &policy.columns)) {
                if let (AsOf::Commit, Some(visible)) = (as_of, memory.get(&policy, &values, &who)) {
                    return Found::Known(Judged::Remembered(visible));
                }
                if !self.asked.insert((policy.id, who, values)) && postponing {
                    return Found::Postponed;
                }
            }
            rememberable = Some((policy, who));
        }
        let number = open
            .filter(|number| self.list[*number].rows.len() < MAX_ROWS_OF_ONE)
            .unwrap_or_else(|| {
                let number = self.list.len();
                let look = rememberable.map(|(policy, who)| {
                    let key = (relation.oid, policy.id);
                    let look = self
                        .looks
                        .entry(key)
                        .or_insert_with(|| Arc::new(table.look(&policy.columns)));
                    let look = Arc::clone(look);
                    self.rememberable.insert(number, (policy, who));
                    look
                });
                self.list.push(Question {
                    statement: Arc::clone(statement),
                    identity: Arc::clone(identity),
                    rows: Vec::new(),
                    look,
                });
                self.numbers.insert(asking, number);
                number
            });
        let rows = &mut self.list[number].rows;
        rows.push(row);
        self.places.insert((number, row_of), rows.len() - 1);
        Found::Asked(number, rows.len() - 1)
    }

    /// Errors, and rows that are gone, are not remembered.
    fn remember(self, memory: &mut Memory, answers: &[Answer]) {
        for (number, (policy, who)) in self.rememberable {
            if let Some(Answer::Visible(visible, values)) = answers.get(number) {
                for (place, values) in values {
                    memory.remember(&policy, values.clone(), who, visible.contains(place));
                }
            }
        }
    }
}
