//! Which relationship an embed means, and what is said where it means none or several.

use axum::http::StatusCode;
use serde_json::json;

use super::super::{
    catalog::{Cardinality, Catalog, Link, Name, Relationship, similar},
    error::{Error, Result},
};

/// How alike a name must be to what was asked for to be suggested.
const LIKENESS: f64 = 0.33;

/// The relationship that an embed means.
///
/// # Errors
/// PGRST200, PGRST201.
pub fn find<'c>(catalog: &'c Catalog, origin: &Name, target: &str, hint: Option<&str>) -> Result<&'c Relationship> {
    let related = catalog.related(origin);
    let meant = related
        .iter()
        .filter(|relationship| relationship.target.schema == origin.schema);
    let meant: Vec<_> = meant
        .filter(|relationship| relationship.is_meant_by(target, hint))
        .collect();
    match meant.as_slice() {
        [relationship] => Ok(relationship),
        [] => Err(unrelated(catalog, origin, target, hint).into()),
        several => Err(ambiguous(origin, target, several).into()),
    }
}

fn unrelated(catalog: &Catalog, origin: &Name, target: &str, hint: Option<&str>) -> Error {
    let Name { schema, name } = origin;
    let using = hint.map(|hint| format!(" using the hint '{hint}'")).unwrap_or_default();
    let is_same = |one: &str, other: &str| one.to_lowercase() == other.to_lowercase();
    let suggestion = match catalog.relationships.get(origin) {
        None => {
            let origins = catalog.relationships.keys().filter(|known| known.schema == *schema);
            similar::closest(name, origins.map(|known| known.name.as_str()), LIKENESS)
                .map(|known| format!("Perhaps you meant '{known}' instead of '{name}'."))
        }
        Some(related) => {
            let targets = || related.iter().map(|relationship| relationship.target.name.as_str());
            similar::closest(target, targets(), LIKENESS)
                .filter(|_| !targets().any(|known| is_same(known, target)))
                .map(|known| format!("Perhaps you meant '{known}' instead of '{target}'."))
        }
    };
    Error::bad(
        "PGRST200",
        format!("Could not find a relationship between '{name}' and '{target}' in the schema cache"),
    )
    .details(format!(
        "Searched for a foreign key relationship between '{name}' and '{target}'{using} in the schema '{schema}', but \
         no matches were found."
    ))
    .hint(suggestion)
}

/// One of two columns that are equal.
type Side = fn(&(String, String)) -> &str;

fn ambiguous(origin: &Name, target: &str, several: &[&Relationship]) -> Error {
    let join = |columns: &[(String, String)], side: Side| columns.iter().map(side).collect::<Vec<_>>().join(", ");
    let own: Side = |pair| &pair.0;
    let theirs: Side = |pair| &pair.1;
    let mut suggestions = Vec::new();
    let details: Vec<_> = several
        .iter()
        .map(|relationship| {
            let (cardinality, described) = match &relationship.link {
                Link::Key {
                    constraint,
                    cardinality,
                    columns,
                } => {
                    suggestions.push(format!("'{target}!{constraint}'"));
                    let word = match cardinality {
                        Cardinality::ManyToOne => "many-to-one",
                        Cardinality::OneToMany => "one-to-many",
                        Cardinality::OneToOne => "one-to-one",
                    };
                    let (mine, others) = (join(columns, own), join(columns, theirs));
                    let target = &relationship.target.name;
                    (
                        word,
                        format!("{constraint} using {}({mine}) and {target}({others})", origin.name),
                    )
                }
                Link::Junction {
                    relation,
                    to_origin,
                    to_target,
                } => {
                    suggestions.push(format!("'{target}!{}'", relation.name));
                    let (first, second) = (join(&to_origin.1, theirs), join(&to_target.1, own));
                    let text = format!(
                        "{} using {}({first}) and {}({second})",
                        relation.name, to_origin.0, to_target.0
                    );
                    ("many-to-many", text)
                }
                Link::Function { function, single } => {
                    let word = if *single { "many-to-one" } else { "one-to-many" };
                    (word, function.name.clone())
                }
            };
            json!({
                "cardinality": cardinality,
                "embedding": format!("{} with {}", origin.name, relationship.target.name),
                "relationship": described,
            })
        })
        .collect();
    let message = format!(
        "Could not embed because more than one relationship was found for '{}' and '{target}'",
        origin.name
    );
    Error::new(StatusCode::MULTIPLE_CHOICES, "PGRST201", message)
        .details(details)
        .hint(format!(
            "Try changing '{target}' to one of the following: {}. Find the desired relationship in the 'details' key.",
            suggestions.join(", ")
        ))
}
