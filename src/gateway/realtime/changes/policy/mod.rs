//! What select policies read, so that their answers can be remembered until that changes.
//!
//! The answer of a table's policies is a function of the judged row's columns, of other tables' rows and of the
//! caller's claims, if they read nothing else. [`reader`] finds out from the [`catalog`]'s [`tree`]s whether that is
//! so, looking at [`query`]s as a whole; [`claims`] names callers by what is read of them ([`auth`], [`constant`]). The tables read are kept in
//! a [`publication`] of their own, apart from what clients may subscribe to. Everything not understood completely is
//! asked of Postgres each time.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use catalog::{Catalog, Published};
pub use claims::{Claims, Who};
use reader::{Reads, Reason};

mod auth;
mod catalog;
mod claims;
mod constant;
pub mod publication;
mod query;
mod reader;
mod tree;
pub mod watch;

/// All policies that matter to subscribers, as of one snapshot.
#[derive(Debug)]
pub struct Policies {
    /// Names the state of all policies.
    pub digest: Option<String>,
    published: HashMap<u32, Published>,
    understood: Vec<Arc<Policy>>,
    by_table: HashMap<u32, HashMap<String, usize>>,
    /// By source: the policies that read it, and as their which source.
    readers: HashMap<u32, Vec<(usize, usize)>>,
    /// What the publication should hold and does not, quoted.
    pub missing: BTreeSet<String>,
    /// What it holds and should not, quoted.
    pub superfluous: BTreeSet<String>,
    /// Tables that are always asked about, and why.
    pub refused: BTreeSet<(String, String)>,
}

/// What decides whether callers of one role see a row of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its number in [`Policies`].
    pub id: usize,
    /// The columns of the judged row.
    pub columns: Vec<String>,
    /// The one of them, by its place, to which sources are tied.
    pub tie: Option<usize>,
    /// Other tables.
    pub sources: Vec<Source>,
    /// The caller's claims.
    pub claims: Claims,
}

/// Another table that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// `pg_class.oid`
    pub table: u32,
    /// Its columns.
    pub columns: Vec<String>,
    /// Where only rows count whose column of this name equals the judged row's [`Policy::tie`].
    pub key: Option<String>,
}

impl Policies {
    /// Reads the document of `realtime_policies.sql`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(document: &str) -> serde_json::Result<Self> {
        Ok(Self::new(&serde_json::from_str(document)?))
    }

    fn new(catalog: &Catalog) -> Self {
        let mut all = Self {
            digest: catalog.digest.clone(),
            published: catalog.published.clone(),
            understood: Vec::new(),
            by_table: HashMap::new(),
            readers: HashMap::new(),
            missing: BTreeSet::new(),
            superfluous: BTreeSet::new(),
            refused: BTreeSet::new(),
        };
        let mut wanted = BTreeSet::new();
        for table in catalog.published.keys() {
            let Some(relation) = catalog.relations.get(table) else {
                continue;
            };
            for (name, role) in &catalog.roles {
                if !relation.restricted.contains(role) {
                    continue;
                }
                let reads = reader::read(catalog, *table, *role).and_then(|reads| usable(catalog, *table, reads));
                match reads {
                    Ok(reads) => {
                        wanted.extend(reads.sources.keys().copied());
                        // The gateway adds what is missing, and hears of it in the stream.
                        if catalog.told && reads.sources.keys().all(|source| catalog.relations[source].watched) {
                            all.add(catalog, *table, name, &reads);
                        }
                    }
                    Err(Reason(reason)) => _ = all.refused.insert((quoted(catalog, *table), reason)),
                }
            }
        }
        let watched = catalog
            .relations
            .iter()
            .filter(|(_, relation)| relation.watched)
            .map(|(oid, _)| *oid)
            .collect();
        all.missing = wanted.difference(&watched).map(|oid| quoted(catalog, *oid)).collect();
        all.superfluous = watched.difference(&wanted).map(|oid| quoted(catalog, *oid)).collect();
        all
    }

    /// These alone.
    #[cfg(test)]
    pub fn of(understood: Vec<Policy>) -> Self {
        let mut readers: HashMap<u32, Vec<(usize, usize)>> = HashMap::new();
        for policy in &understood {
            for (number, source) in policy.sources.iter().enumerate() {
                readers.entry(source.table).or_default().push((policy.id, number));
            }
        }
        Self {
            digest: None,
            published: HashMap::new(),
            understood: understood.into_iter().map(Arc::new).collect(),
            by_table: HashMap::new(),
            readers,
            missing: BTreeSet::new(),
            superfluous: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }

    fn add(&mut self, catalog: &Catalog, table: u32, role: &str, reads: &Reads) {
        let names = |table: u32, columns: &BTreeSet<i16>| -> Vec<String> {
            let known = &catalog.relations[&table].columns;
            columns.iter().map(|number| known[number].name.clone()).collect()
        };
        // One column is enough: what is tied to another spoils as if it were tied to none.
        let tie = reads.sources.values().find_map(|source| Some(source.tie?.0));
        let id = self.understood.len();
        let mut sources = Vec::new();
        for (number, (source, read)) in reads.sources.iter().enumerate() {
            let key = read
                .tie
                .filter(|(ours, _)| Some(*ours) == tie)
                .map(|(_, theirs)| theirs);
            let columns: BTreeSet<i16> = read.columns.iter().copied().chain(key).collect();
            sources.push(Source {
                table: *source,
                columns: names(*source, &columns),
                key: key.map(|key| catalog.relations[source].columns[&key].name.clone()),
            });
            self.readers.entry(*source).or_default().push((id, number));
        }
        let own: BTreeSet<i16> = reads.own.iter().copied().chain(tie).collect();
        self.understood.push(Arc::new(Policy {
            id,
            columns: names(table, &own),
            tie: tie.and_then(|tie| own.iter().position(|number| *number == tie)),
            sources,
            claims: reads.claims.clone(),
        }));
        self.by_table.entry(table).or_default().insert(role.to_owned(), id);
    }

    /// Which changes of a table clients may subscribe to.
    pub fn published(&self, table: u32) -> Option<Published> {
        self.published.get(&table).copied()
    }

    /// What decides for a role, if it is understood completely.
    pub fn get(&self, table: u32, role: &str) -> Option<&Arc<Policy>> {
        self.understood.get(*self.by_table.get(&table)?.get(role)?)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.understood.len()
    }

    /// The policies that read a table, and what they read of it.
    pub fn reading(&self, table: u32) -> impl Iterator<Item = (&Policy, &Source)> {
        let readers = self.readers.get(&table).into_iter().flatten();
        readers.map(|(policy, source)| {
            let policy = &*self.understood[*policy];
            (policy, &policy.sources[*source])
        })
    }
}

/// What is read, if it can be watched.
fn usable(catalog: &Catalog, table: u32, reads: Reads) -> Result<Reads, Reason> {
    let streamed = |table: u32, columns: &BTreeSet<i16>| {
        let known = &catalog.relations[&table].columns;
        columns
            .iter()
            .all(|number| known.get(number).is_some_and(|column| column.streamed))
    };
    if !catalog.relations[&table].values_readable {
        return Err(Reason("the role service_role may not read the table".into()));
    }
    if !streamed(table, &reads.own) {
        return Err(Reason("a generated column".into()));
    }
    for (source, read) in &reads.sources {
        if !catalog.relations[source].watchable || !streamed(*source, &read.columns) {
            let name = quoted(catalog, *source);
            return Err(Reason(format!(
                "changes of {name} cannot be told: it has no replica identity, or is published in part"
            )));
        }
    }
    Ok(reads)
}

fn quoted(catalog: &Catalog, table: u32) -> String {
    let relation = &catalog.relations[&table];
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!("{}.{}", quote(&relation.schema), quote(&relation.name))
}
