//! What the catalog says of tables, policies and functions (`realtime_policies.sql`), all as of one snapshot.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

/// The document, looked up by `oid`.
#[derive(Debug, Deserialize)]
#[serde(from = "Document")]
pub struct Catalog {
    /// Names the state of all policies.
    pub digest: Option<String>,
    /// Whether changes of what policies read, and of definitions, are told in the stream.
    pub told: bool,
    /// What clients may subscribe to.
    pub published: HashMap<u32, Published>,
    /// The roles that callers become: name and `oid`.
    pub roles: Vec<(String, u32)>,
    /// Tables whose rows all speak for themselves.
    pub relations: HashMap<u32, Relation>,
    /// The policies for reads.
    pub policies: Vec<Policy>,
    /// Functions whose answers depend on their arguments alone.
    pub immutable: HashSet<u32>,
    /// Types whose texts are read by such functions.
    pub types: HashSet<u32>,
    /// Functions whose body is known as a tree.
    pub functions: HashMap<u32, Function>,
}

#[derive(Deserialize)]
struct Document {
    digest: Option<String>,
    told: bool,
    published: Vec<Published>,
    roles: Vec<Role>,
    relations: Vec<Relation>,
    policies: Vec<Policy>,
    immutable: Vec<u32>,
    types: Vec<u32>,
    functions: Vec<Function>,
}

#[derive(Debug, Deserialize)]
struct Role {
    oid: u32,
    name: String,
}

/// Which changes of a table clients may subscribe to.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Published {
    oid: u32,
    /// New rows.
    pub insert: bool,
    /// Changed rows.
    pub update: bool,
    /// Deleted rows.
    pub delete: bool,
}

/// A table.
#[derive(Debug, Deserialize)]
pub struct Relation {
    oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The roles whose reads go by policies.
    pub restricted: HashSet<u32>,
    #[serde(deserialize_with = "by_number")]
    /// By `attnum`.
    pub columns: BTreeMap<i16, Column>,
    /// Whether it may be added to the publication of what policies read.
    pub watchable: bool,
    /// Whether it is there.
    pub watched: bool,
    /// Whether rows can be read past all policies, for the values an answer was given for.
    pub values_readable: bool,
}

/// A column.
#[derive(Debug, Deserialize)]
pub struct Column {
    number: i16,
    /// Its name.
    pub name: String,
    /// Whether the stream has it.
    pub streamed: bool,
    /// Whether it has a value in every row.
    pub not_null: bool,
    /// Whether an old row has it.
    pub identity: bool,
}

/// A policy for reads.
#[derive(Debug, Deserialize)]
pub struct Policy {
    /// Its table.
    pub relation: u32,
    /// Its expression; none says yes.
    pub using: Option<String>,
    /// Whom it is for.
    pub roles: HashSet<u32>,
}

/// A function with a parsed body.
#[derive(Debug, Deserialize)]
pub struct Function {
    oid: u32,
    /// With its schema.
    pub name: String,
    /// Its owner, if it runs as him.
    pub runs_as: Option<u32>,
    /// How many arguments it has, those with defaults included.
    pub arguments: usize,
    /// Whether it answers with rows.
    pub returns_set: bool,
    /// Whether it sets nothing but a search path.
    pub settled: bool,
    /// The tree.
    pub body: String,
    /// The same as SQL, in schema `auth`.
    pub source: Option<String>,
}

fn by_number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<i16, Column>, D::Error> {
    // A table may have no column at all.
    let columns = Option::<Vec<Column>>::deserialize(from)?.unwrap_or_default();
    Ok(columns.into_iter().map(|column| (column.number, column)).collect())
}

impl From<Document> for Catalog {
    fn from(document: Document) -> Self {
        Self {
            digest: document.digest,
            told: document.told,
            published: document.published.into_iter().map(|each| (each.oid, each)).collect(),
            roles: document.roles.into_iter().map(|role| (role.name, role.oid)).collect(),
            relations: document.relations.into_iter().map(|each| (each.oid, each)).collect(),
            policies: document.policies,
            immutable: document.immutable.into_iter().collect(),
            types: document.types.into_iter().collect(),
            functions: document.functions.into_iter().map(|each| (each.oid, each)).collect(),
        }
    }
}
