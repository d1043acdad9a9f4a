//! What Postgres is asked about a batch: the conditions we cannot decide, and who may see which row.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    condition::Condition,
    due::Due,
    pgoutput::{Cell, Kind},
    table::Deleted,
    tables::Tables,
    verdict::{Asked, Verdicts},
    visibility::{Asker, Question},
};
use crate::db::session::Failure;

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

/// Asks for each identity once about all rows that concern it.
///
/// # Errors
/// When the database does not answer.
pub async fn ask(asker: &mut Asker, tables: &Tables, due: &[Due<'_>]) -> Result<Verdicts, Failure> {
    let (questions, asked, transactions) = questions(tables, due);
    let answers = if questions.is_empty() {
        Vec::new()
    } else {
        asker.ask(&transactions, &questions).await?
    };
    Ok(Verdicts { asked, answers })
}

/// What to ask, where each of the due finds its answer, and the transactions an answer has to know of.
fn questions(tables: &Tables, due: &[Due<'_>]) -> (Vec<Question>, Asked, Vec<u32>) {
    let (mut questions, mut numbers): (Vec<Question>, HashMap<Asking<'_>, usize>) = Default::default();
    let mut places: HashMap<(usize, usize), usize> = HashMap::new();
    let (mut asked, mut transactions) = (HashMap::new(), HashSet::new());
    for (at, due) in due.iter().enumerate() {
        if due.refusal.is_some() {
            continue;
        }
        let Some((table, access)) = tables.known(due) else {
            continue;
        };
        let change = &due.streamed.change;
        let (statement, row) = match (change.kind, &change.new, &change.old) {
            (Kind::Delete, _, Some(old)) => match &access.deleted {
                Deleted::Asked(statement) => (statement, Some(table.old_row(old))),
                Deleted::Unasked => continue,
            },
            (_, Some(new), _) => match &access.by_key {
                Some(statement) => (statement, table.key(new)),
                None => continue,
            },
            _ => continue,
        };
        let Some(row) = row else { continue };
        let identity = &due.subscription.identity;
        let asking = (statement.name(), identity.claims.raw());
        let number = *numbers.entry(asking).or_insert_with(|| {
            questions.push(Question {
                statement: Arc::clone(statement),
                identity: Arc::clone(identity),
                rows: Vec::new(),
            });
            questions.len() - 1
        });
        let place = *places
            .entry((number, std::ptr::from_ref(due.streamed).addr()))
            .or_insert_with(|| {
                questions[number].rows.push(row);
                questions[number].rows.len() - 1
            });
        asked.insert(at, (number, place));
        transactions.insert(due.streamed.xid);
    }
    (questions, asked, transactions.into_iter().collect())
}
