//! Who is subscribed to what, found by table and by the value a filter asks for: a change costs the subscriptions
//! that match it, not all there are.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{
    condition::{Condition, Verdict},
    pgoutput::{Cell, Kind, Relation},
};
use crate::gateway::realtime::{listener::Listener, token::Identity};

/// One binding of a joined channel.
#[derive(Debug)]
pub struct Subscription {
    /// The binding's id in the join's reply and in events.
    pub id: u32,
    /// The only kind wanted, if not all are.
    pub kind: Option<Kind>,
    /// The schema; `None` is all.
    pub schema: Option<String>,
    /// The table; `None` is all.
    pub table: Option<String>,
    /// What must hold of a row.
    pub conditions: Vec<Arc<Condition>>,
    /// The only columns wanted, if not all are; those of the primary key come anyway.
    pub select: Option<Vec<String>>,
    /// Who looks.
    pub identity: Arc<Identity>,
    /// Where events go.
    pub listener: Arc<Listener>,
    /// Whether it has been told that its changes cannot be checked.
    pub troubled: AtomicBool,
}

impl Subscription {
    /// Tells what is wrong with its changes; the first time only, as it would be the same for every change.
    pub fn trouble(&self, message: &str) {
        if !self.troubled.swap(true, Ordering::Relaxed) {
            self.listener.system("postgres_changes", "error", message);
        }
    }
}

type Bucket = HashMap<u64, Arc<Subscription>>;

/// Numbers subscriptions of this process.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Subscriptions by what they want: all of this gateway, or a few on their own.
#[derive(Debug, Default)]
pub struct Registry {
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    /// Schema, then table.
    tables: HashMap<String, HashMap<String, Table>>,
    wild: Bucket,
}

#[derive(Debug, Default)]
struct Table {
    /// Column, then the value it must have.
    equal: HashMap<String, HashMap<String, Bucket>>,
    rest: Bucket,
}

/// Subscriptions in a [`Registry`], by number.
pub type Registered = Vec<(u64, Arc<Subscription>)>;

impl Registry {
    /// Puts subscriptions in the place of others, in one step: a change meets either the old or the new.
    pub fn replace(&self, old: &Registered, new: Vec<Subscription>) -> Registered {
        let number = |subscription| (LAST.fetch_add(1, Ordering::Relaxed), Arc::new(subscription));
        let new: Registered = new.into_iter().map(number).collect();
        let mut places = self.lock();
        for (number, subscription) in old {
            places.remove(*number, subscription);
        }
        for (number, subscription) in &new {
            places.bucket(subscription).insert(*number, Arc::clone(subscription));
        }
        new
    }

    /// Takes in subscriptions of another registry.
    pub fn adopt(&self, registered: &Registered) {
        let mut places = self.lock();
        for (number, subscription) in registered {
            places.bucket(subscription).insert(*number, Arc::clone(subscription));
        }
    }

    /// The subscriptions that a change of `row` concerns as far as can be told here, with the conditions Postgres
    /// has to be asked about. `row` is the new row, of a delete the old one.
    pub fn matching(
        &self,
        relation: &Relation,
        kind: Kind,
        row: &[Cell],
    ) -> Vec<(Arc<Subscription>, Vec<Arc<Condition>>)> {
        let places = self.lock();
        let table = places
            .tables
            .get(&relation.schema)
            .and_then(|tables| tables.get(&relation.name));
        let equal = table
            .into_iter()
            .flat_map(|table| &table.equal)
            .filter_map(|(column, values)| {
                let cell = row.get(relation.position(column)?)?;
                values.get(cell.text()?)
            });
        let rest = table.map(|table| &table.rest);
        let wild = places.wild.values().filter(|subscription| {
            subscription
                .schema
                .as_ref()
                .is_none_or(|schema| *schema == relation.schema)
                && subscription.table.as_ref().is_none_or(|table| *table == relation.name)
        });
        equal
            .chain(rest)
            .flat_map(Bucket::values)
            .chain(wild)
            .filter(|subscription| subscription.kind.is_none_or(|wanted| wanted == kind))
            .filter_map(|subscription| Some((Arc::clone(subscription), undecided(subscription, relation, kind, row)?)))
            .collect()
    }

    /// Everybody who listens, each channel once.
    pub fn listeners(&self) -> Vec<Arc<Listener>> {
        let places = self.lock();
        let tables = places.tables.values().flat_map(HashMap::values);
        let buckets = tables.flat_map(|table| table.equal.values().flat_map(HashMap::values).chain([&table.rest]));
        let subscriptions = buckets.chain([&places.wild]).flat_map(Bucket::values);
        let listeners: HashMap<u64, &Arc<Listener>> = subscriptions
            .map(|subscription| (subscription.listener.id, &subscription.listener))
            .collect();
        listeners.into_values().map(Arc::clone).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The conditions only Postgres can decide; `None` if one does not hold.
fn undecided(
    subscription: &Subscription,
    relation: &Relation,
    kind: Kind,
    row: &[Cell],
) -> Option<Vec<Arc<Condition>>> {
    let mut undecided = Vec::new();
    for condition in &subscription.conditions {
        // An old row speaks for the columns of its identity alone: its other nulls are no values.
        let known = kind != Kind::Delete
            || relation
                .position(&condition.written.column)
                .is_some_and(|position| relation.columns[position].identity);
        let cell = condition.cell(relation, row).filter(|_| known)?;
        match condition.holds(cell) {
            Verdict::Yes => {}
            Verdict::No => return None,
            Verdict::Ask => undecided.push(Arc::clone(condition)),
        }
    }
    Some(undecided)
}

impl Places {
    fn bucket(&mut self, subscription: &Subscription) -> &mut Bucket {
        let (Some(schema), Some(table)) = (&subscription.schema, &subscription.table) else {
            return &mut self.wild;
        };
        let table = self
            .tables
            .entry(schema.clone())
            .or_default()
            .entry(table.clone())
            .or_default();
        match index_of(subscription) {
            Some((column, value)) => table
                .equal
                .entry(column.to_owned())
                .or_default()
                .entry(value.to_owned())
                .or_default(),
            None => &mut table.rest,
        }
    }

    fn remove(&mut self, number: u64, subscription: &Subscription) {
        let bucket = self.bucket(subscription);
        bucket.remove(&number);
        let (true, Some(schema), Some(name)) = (bucket.is_empty(), &subscription.schema, &subscription.table) else {
            return;
        };
        // Nothing empty stays behind: sessions come and go by the thousand.
        let Some(tables) = self.tables.get_mut(schema) else {
            return;
        };
        let Some(table) = tables.get_mut(name) else { return };
        if let Some((column, value)) = index_of(subscription)
            && let Some(values) = table.equal.get_mut(column)
        {
            values.remove(value);
            if values.is_empty() {
                table.equal.remove(column);
            }
        }
        if table.equal.is_empty() && table.rest.is_empty() {
            tables.remove(name);
        }
        if tables.is_empty() {
            self.tables.remove(schema);
        }
    }
}

/// The first condition an index can answer.
fn index_of(subscription: &Subscription) -> Option<(&str, &str)> {
    subscription
        .conditions
        .iter()
        .find_map(|condition| Some((condition.written.column.as_str(), condition.equals()?)))
}
