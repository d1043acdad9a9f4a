//! What the database offers: relations, how they are related, functions. Read once and again after each change.
//!
//! Privileges play no part: what a caller may not touch is known here, and Postgres refuses it.
//!
//! - [`load`] reads it, by the statements in `sql/gateway/rest_*.sql`
//! - [`views`] follows the columns of views to where they come from
//! - [`relationships`] are the ways from one to another, and [`derivation`] finds them
//! - [`routines`] finds the function that a call means
//! - [`watch`] keeps it current
//! - [`similar`] guesses what was meant when nothing fits

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use bytes::Bytes;
use serde::Deserialize;

mod derivation;
pub mod load;
pub mod relationships;
pub mod routines;
pub mod similar;
pub mod views;
pub mod watch;

pub use relationships::{Cardinality, Link, Relationship};
pub use routines::Routine;

/// A name in a schema.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The schema.
    pub schema: String,
    /// The name in it.
    pub name: String,
}

impl Name {
    /// A name in a schema.
    pub fn new(schema: &str, name: &str) -> Self {
        Self {
            schema: schema.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// What the database offers.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Tables and views.
    pub relations: HashMap<Name, Relation>,
    /// What can be embedded in a relation.
    pub relationships: HashMap<Name, Vec<Relationship>>,
    /// Functions by name, overloads together.
    pub routines: HashMap<Name, Vec<Routine>>,
    /// Aggregates that make a media type of rows.
    pub handlers: Vec<Handler>,
    /// How domains are shown and read, by the domain's oid.
    pub representations: HashMap<i64, Representation>,
    /// Settings that come with a role, in the order in which they are to be set.
    pub roles: HashMap<String, Vec<(String, String)>>,
    /// Settings of the login role that are meant for this service: names without their prefix `pgrst.`.
    pub overrides: BTreeMap<String, String>,
    /// The server's version as a number.
    pub server_version: i32,
    /// Descriptions of the exposed schemas.
    pub schema_descriptions: HashMap<String, String>,
    /// Descriptions of the API made so far: by schema, and what their readers may use as the database listed it.
    pub described: Mutex<HashMap<(String, String), Bytes>>,
}

/// A table or view.
#[derive(Clone, Debug, Deserialize)]
pub struct Relation {
    /// Its oid.
    pub oid: i64,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it is a view.
    pub view: bool,
    /// Its comment.
    pub description: Option<String>,
    /// Whether rows can be inserted.
    pub insertable: bool,
    /// Whether rows can be updated.
    pub updatable: bool,
    /// Whether rows can be deleted.
    pub deletable: bool,
    /// Its columns in their order.
    pub columns: Vec<Column>,
    /// The stored query of a view.
    query: Option<String>,
    /// The columns of its primary key, traced for a view.
    #[serde(skip)]
    pub key: Vec<String>,
    /// Foreign keys of one column: column → (relation, column), for the description of the API.
    #[serde(skip)]
    pub references: BTreeMap<String, (String, String)>,
}

/// A column.
#[derive(Clone, Debug, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    number: i16,
    /// Its type with length and precision, as SQL.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Its type below every domain, as SQL.
    pub base: String,
    /// The oid of its type if that is a domain.
    pub domain: Option<i64>,
    /// Whether it can be null.
    pub nullable: bool,
    /// Its default, as SQL.
    pub default: Option<String>,
    /// How many characters it holds.
    pub max_length: Option<i32>,
    /// The values of its enumeration.
    #[serde(rename = "enum")]
    pub values: Option<Vec<String>>,
    /// Its comment.
    pub description: Option<String>,
}

/// An aggregate that makes a media type of rows.
#[derive(Clone, Debug, Deserialize)]
pub struct Handler {
    /// The media type.
    pub media: String,
    /// The aggregate's schema.
    pub schema: String,
    /// The aggregate.
    pub name: String,
    /// Whose rows it takes; of any relation if none.
    pub relation: Option<i64>,
}

/// How a domain is shown and read.
#[derive(Clone, Debug, Default)]
pub struct Representation {
    /// Makes JSON of it.
    pub format: Option<Name>,
    /// Makes it from JSON.
    pub parse: Option<Name>,
    /// Makes it from a filter's text.
    pub filter: Option<Name>,
}

impl Catalog {
    /// A relation.
    pub fn relation(&self, name: &Name) -> Option<&Relation> {
        self.relations.get(name)
    }

    /// How a domain is shown and read.
    pub fn representation(&self, column: &Column) -> Option<&Representation> {
        self.representations.get(&column.domain?)
    }

    /// What can be embedded in a relation.
    pub fn related(&self, origin: &Name) -> &[Relationship] {
        self.relationships.get(origin).map_or(&[], Vec::as_slice)
    }

    /// The names of a schema's relations.
    pub fn relation_names<'a>(&'a self, schema: &'a str) -> impl Iterator<Item = &'a str> {
        let names = self.relations.keys().filter(move |name| name.schema == schema);
        names.map(|name| name.name.as_str())
    }
}

impl Relation {
    /// Its qualified name.
    pub fn qualified(&self) -> Name {
        Name::new(&self.schema, &self.name)
    }

    /// A column.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}
