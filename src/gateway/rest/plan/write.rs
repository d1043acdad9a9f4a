//! What a write writes.

use std::collections::BTreeSet;

use axum::http::StatusCode;

use super::super::{
    catalog::{Column, Relation},
    error::{Error, Result},
    parse::{
        filter::Condition,
        operation::Operator,
        payload::Payload,
        prefer::{Prefer, Resolution},
        query::Query,
    },
};

/// What happens to rows that are there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What to do.
    pub resolution: Resolution,
    /// The columns of the conflict.
    pub columns: Vec<String>,
}

/// The columns that a payload's keys name.
///
/// # Errors
/// PGRST204.
pub fn columns<'c>(relation: &'c Relation, payload: &Payload) -> Result<Vec<&'c Column>> {
    let named = |key: &String| {
        relation.column(key).ok_or_else(|| {
            let message = format!(
                "Could not find the '{key}' column of '{}' in the schema cache",
                relation.name
            );
            Box::new(Error::bad("PGRST204", message))
        })
    };
    payload.keys.iter().map(named).collect()
}

/// What the client wants done about conflicts; `None` for a plain insert.
pub fn conflict(relation: &Relation, query: &Query, prefer: &Prefer) -> Option<Conflict> {
    let resolution = prefer.resolution?;
    let columns = query.on_conflict.clone().unwrap_or_else(|| relation.key.clone());
    (!columns.is_empty()).then_some(Conflict { resolution, columns })
}

/// Makes sure that a PUT names one row by its whole key, and nothing else.
///
/// # Errors
/// PGRST105, PGRST114.
pub fn check_put(relation: &Relation, query: &Query) -> Result<()> {
    if query.window().is_given() {
        let message = "limit/offset querystring parameters are not allowed for PUT";
        return Err(Error::bad("PGRST114", message).into());
    }
    let mut named = BTreeSet::new();
    let plain = query.conditions.iter().all(|(path, condition)| match condition {
        Condition::Test(test) => {
            named.insert(test.field.name.as_str());
            let equals = matches!(
                &test.operation.operator,
                Operator::Binary {
                    name: "eq",
                    quantifier: None,
                    ..
                }
            );
            path.is_empty() && equals && !test.operation.negated && test.field.path.is_empty()
        }
        Condition::Group(_) => false,
    });
    let key: BTreeSet<&str> = relation.key.iter().map(String::as_str).collect();
    if !plain || key.is_empty() || named != key {
        let message = "Filters must include all and only primary key columns with 'eq' operators";
        return Err(Error::new(StatusCode::METHOD_NOT_ALLOWED, "PGRST105", message).into());
    }
    Ok(())
}
