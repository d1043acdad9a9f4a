//! Functions, and which one a call means.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde::Deserialize;

use super::{Catalog, Name, similar};
use crate::gateway::rest::{
    error::{Error, Result},
    parse::media::Media,
};

/// A function.
#[derive(Clone, Debug, Deserialize)]
pub struct Routine {
    /// Its oid.
    pub oid: i64,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its comment.
    pub description: Option<String>,
    /// `i`mmutable, `s`table or `v`olatile.
    pub volatility: char,
    /// Whether it gives a set.
    pub set: bool,
    /// How many rows the planner expects of it.
    pub rows: f32,
    /// Whether its last argument takes any number of values.
    pub variadic: bool,
    /// Its own settings, `name=value`.
    pub settings: Option<Vec<String>>,
    /// Whether it gives nothing.
    pub void: bool,
    /// Whether the columns of its rows are known only to the caller.
    pub record: bool,
    /// Whether it gives rows instead of values.
    pub composite: bool,
    /// The type it gives.
    pub returns: Name,
    /// The oid of the relation whose rows it gives.
    pub relation: Option<i64>,
    /// The media type its value is, by the name of its domain.
    pub media: Option<String>,
    /// The oid of the relation whose row is its only argument.
    pub(super) of: Option<i64>,
    /// What it takes.
    pub arguments: Vec<Argument>,
}

/// What a function takes.
#[derive(Clone, Debug, Deserialize)]
pub struct Argument {
    /// Its name, empty if it has none.
    pub name: String,
    /// Its type, as SQL.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What a value is cast to: the type, or the one like it of any length.
    pub cast: String,
    /// Whether it has no default.
    pub required: bool,
    /// Whether it takes any number of values.
    pub variadic: bool,
}

/// How a body reaches a function without named arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raw {
    /// Not at all: the call is by GET, or the body is a form.
    Never,
    /// As JSON.
    Json,
    /// As one of these types.
    Type(&'static str),
}

impl Raw {
    /// By the body's media type.
    pub fn of(media: &Media) -> Self {
        match media {
            Media::Json => Self::Json,
            Media::Other(name) => match name.as_str() {
                "text/plain" => Self::Type("text"),
                "text/xml" => Self::Type("xml"),
                "application/octet-stream" => Self::Type("bytea"),
                _ => Self::Never,
            },
            _ => Self::Never,
        }
    }
}

/// The function a call means, and whether it takes the body as its only, unnamed argument.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    /// The function.
    pub routine: &'a Routine,
    /// Whether it takes the body as it is.
    pub raw: bool,
}

impl Routine {
    /// The one unnamed argument, if that is all it takes and its type can be a body.
    pub fn unnamed(&self) -> Option<&str> {
        match self.arguments.as_slice() {
            [argument] if argument.name.is_empty() => Some(argument.type_name.as_str())
                .filter(|name| matches!(*name, "json" | "jsonb" | "text" | "xml" | "bytea")),
            _ => None,
        }
    }

    fn takes(&self, names: &BTreeSet<String>) -> bool {
        let known = |name: &String| self.arguments.iter().any(|argument| argument.name == *name);
        let mut required = self.arguments.iter().filter(|argument| argument.required);
        required.all(|argument| names.contains(&argument.name)) && names.iter().all(known)
    }

    /// Where it stands among those of its name: an error that lists them should not depend on when they were made.
    pub(super) fn rank(&self) -> impl Ord + '_ {
        let arguments: Vec<_> = self
            .arguments
            .iter()
            .map(|a| (a.name.as_str(), a.type_name.as_str()))
            .collect();
        (arguments.len(), self.description.as_deref(), arguments)
    }

    /// Whether a request can call it: its arguments have names, or its one argument can be a body.
    pub fn is_callable(&self) -> bool {
        self.arguments.iter().all(|argument| !argument.name.is_empty()) || self.unnamed().is_some()
    }
}

impl Catalog {
    /// The function that a call by these names means.
    ///
    /// # Errors
    /// PGRST202, PGRST203.
    pub fn find_routine(&self, name: &Name, names: &BTreeSet<String>, raw: Raw) -> Result<Match<'_>> {
        let overloads = self.routines.get(name).map_or(&[] as &[Routine], Vec::as_slice);
        let unnamed = |fits: &dyn Fn(&str) -> bool| -> Vec<&Routine> {
            let fits = |routine: &&Routine| routine.unnamed().is_some_and(fits);
            overloads.iter().filter(fits).collect()
        };
        let mut candidates: Vec<&Routine> = match raw {
            Raw::Type(_) => Vec::new(),
            Raw::Never | Raw::Json => overloads.iter().filter(|routine| routine.takes(names)).collect(),
        };
        if candidates.is_empty() {
            candidates = match raw {
                Raw::Never => Vec::new(),
                Raw::Json => unnamed(&|name| matches!(name, "json" | "jsonb")),
                Raw::Type(wanted) => unnamed(&|name| name == wanted),
            };
        }
        match candidates.as_slice() {
            // Nothing else can reach an argument without a name.
            [routine] => Ok(Match {
                routine,
                raw: routine.unnamed().is_some(),
            }),
            [] => Err(self.no_routine(name, names, raw, overloads).into()),
            several => Err(ambiguous(several).into()),
        }
    }

    fn no_routine(&self, name: &Name, names: &BTreeSet<String>, raw: Raw, overloads: &[Routine]) -> Error {
        let Name { schema, name } = name;
        let listed = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let (shown, searched) = match raw {
            Raw::Type(type_name) => (String::new(), format!(" with a single unnamed {type_name} parameter")),
            _ if names.is_empty() => (" without parameters".to_owned(), " without parameters".to_owned()),
            _ => {
                let word = if names.len() == 1 { "parameter" } else { "parameters" };
                (format!("({listed})"), format!(" with {word} {listed}"))
            }
        };
        let or_body = if raw == Raw::Json {
            " or with a single unnamed json/jsonb parameter"
        } else {
            ""
        };
        let hint = if matches!(raw, Raw::Type(_)) {
            // Its names say nothing of what takes such a body.
            None
        } else if overloads.is_empty() {
            let functions = self.routines.keys().filter(|known| known.schema == *schema);
            similar::closest(name, functions.map(|known| known.name.as_str()), 0.33)
                .map(|known| format!("{schema}.{known}"))
        } else {
            let signatures: Vec<String> = overloads.iter().map(signature).collect();
            similar::closest(&format!("({listed})"), signatures.iter().map(String::as_str), 0.33)
                .map(|signature| format!("{schema}.{name}{signature}"))
        };
        Error::new(
            StatusCode::NOT_FOUND,
            "PGRST202",
            format!("Could not find the function {schema}.{name}{shown} in the schema cache"),
        )
        .details(format!(
            "Searched for the function {schema}.{name}{searched}{or_body}, but no matches were found in the schema \
             cache."
        ))
        .hint(hint.map(|hint| format!("Perhaps you meant to call the function {hint}")))
    }
}

fn signature(routine: &Routine) -> String {
    let mut names: Vec<_> = routine
        .arguments
        .iter()
        .map(|argument| argument.name.as_str())
        .collect();
    names.sort_unstable();
    format!("({})", names.join(", "))
}

fn ambiguous(candidates: &[&Routine]) -> Error {
    let shown: Vec<String> = candidates
        .iter()
        .map(|routine| {
            let arguments: Vec<String> = routine
                .arguments
                .iter()
                .map(|argument| format!("{} => {}", argument.name, argument.type_name))
                .collect();
            format!("{}.{}({})", routine.schema, routine.name, arguments.join(", "))
        })
        .collect();
    let message = format!(
        "Could not choose the best candidate function between: {}",
        shown.join(", ")
    );
    Error::new(StatusCode::MULTIPLE_CHOICES, "PGRST203", message).hint(
        "Try renaming the parameters or the function itself in the database so function overloading can be resolved",
    )
}
