//! Which of the accepted media types an answer has, and how its body is made.

use axum::http::StatusCode;

use super::{
    Settings,
    catalog::{Catalog, Handler, Name, Relation, Routine},
    error::{Error, Result},
    parse::media::{Media, Plan},
    sql::{answer::Body, call},
};

/// The form of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// What it says it is.
    pub content_type: String,
    /// How its body is made.
    pub body: Body,
    /// Whether it must be exactly one row.
    pub single: bool,
    /// Explained instead of made.
    pub plan: Option<Plan>,
}

/// What an answer is made of.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'c> {
    /// Its rows' relation.
    pub relation: Option<&'c Relation>,
    /// The function that gives them.
    pub routine: Option<&'c Routine>,
    /// Whether all columns and nothing else are selected, which is what handlers of rows take.
    pub whole: bool,
}

/// The first of the accepted forms that can be had.
///
/// # Errors
/// PGRST107.
pub fn choose(accepted: &[Media], subject: Subject<'_>, catalog: &Catalog, settings: &Settings) -> Result<Form> {
    let found = accepted
        .iter()
        .find_map(|media| form(media, subject, catalog, settings));
    found.ok_or_else(|| {
        let listed: Vec<_> = accepted.iter().map(ToString::to_string).collect();
        let message = format!("None of these media types are available: {}", listed.join(", "));
        Box::new(Error::new(StatusCode::NOT_ACCEPTABLE, "PGRST107", message))
    })
}

fn form(media: &Media, subject: Subject<'_>, catalog: &Catalog, settings: &Settings) -> Option<Form> {
    let plain = |body| Form {
        content_type: media.content_type(),
        body,
        single: false,
        plan: None,
    };
    let array = |strip_nulls| match subject.routine {
        Some(routine) if !call::returns_rows(routine) && routine.set => Body::Values,
        Some(routine) if !call::returns_rows(routine) => Body::Value,
        Some(routine) if !routine.set => Body::First { strip_nulls },
        _ => Body::Array { strip_nulls },
    };
    if let Some(form) = custom(media, subject, catalog) {
        return Some(form);
    }
    match media {
        Media::Any => Some(Form {
            content_type: Media::Json.content_type(),
            ..plain(array(false))
        }),
        Media::Json => Some(plain(array(false))),
        Media::Array { strip_nulls } => Some(plain(array(*strip_nulls))),
        Media::Object { strip_nulls } => {
            let scalar = subject.routine.is_some_and(|routine| !call::returns_rows(routine));
            let body = match scalar {
                true => Body::Value,
                false => Body::First {
                    strip_nulls: *strip_nulls,
                },
            };
            Some(Form {
                single: true,
                ..plain(body)
            })
        }
        Media::Csv => Some(plain(Body::Csv)),
        Media::GeoJson => Some(plain(Body::GeoJson)),
        Media::Plan(plan) if settings.db_plan_enabled => Some(Form {
            plan: Some(plan.clone()),
            content_type: media.content_type(),
            ..form(&plan.of, subject, catalog, settings)?
        }),
        Media::Plan(_) | Media::OpenApi | Media::Form | Media::Other(_) => None,
    }
}

/// A form that the database defines: a function whose value is a media type, or an aggregate that makes one of rows.
/// One that is for `*/*` answers whatever is accepted; one that is not does not answer `*/*`, which means JSON.
fn custom(media: &Media, subject: Subject<'_>, catalog: &Catalog) -> Option<Form> {
    let name = match media {
        Media::Object { .. } | Media::Array { .. } | Media::Plan(_) => return None,
        media => media.to_string(),
    };
    let made = |own: &str, body: Body| Form {
        content_type: Media::parse(if own == "*/*" { "application/octet-stream" } else { own }).content_type(),
        body,
        single: false,
        plan: None,
    };
    if let Some(routine) = subject.routine
        && !routine.set
        && let Some(own) = routine.media.as_ref().filter(|own| **own == name || *own == "*/*")
    {
        return Some(made(own, Body::Raw));
    }
    let relation = subject.relation?;
    let of_relation = |handler: &&Handler| {
        handler.relation == Some(relation.oid) && (handler.media == name || handler.media == "*/*")
    };
    let of_any = |handler: &&Handler| handler.relation.is_none() && handler.media == name;
    let own = catalog.handlers.iter().filter(|_| subject.whole).find(of_relation);
    let handler = own.or_else(|| catalog.handlers.iter().find(of_any))?;
    let body = Body::Aggregate {
        function: Name::new(&handler.schema, &handler.name),
        of: handler.relation.map(|_| relation.qualified()),
    };
    Some(made(&handler.media, body))
}
