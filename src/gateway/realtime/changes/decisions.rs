//! Who may see which rows, remembered: a decision is dropped by the first change of what it rests on.

use std::collections::HashMap;

use super::{
    pgoutput::{Cell, Change, Identity, Kind, Relation},
    policy::{Policies, Policy, Source, Who},
};

/// Decisions and what is kept beside them, at most: some hundred bytes each. Dropping all costs questions alone.
const MAX_HELD: usize = 500_000;

/// The columns of a row that a policy, or a source, looks at.
pub type Values = Box<[Cell]>;

/// Decisions, by policy.
#[derive(Debug, Default)]
pub struct Decisions {
    policies: Vec<HashMap<Cell, Group>>,
    held: usize,
}

/// What one value of the tie ([`Policy::tie`]) is about; everything where there is none.
#[derive(Debug, Default)]
struct Group {
    /// The sources' rows as they were last streamed. An update that leaves alone what is read of one changes nothing:
    /// a session's counters are written with every message.
    seen: HashMap<(u32, Values), Values>,
    may_see: HashMap<Values, HashMap<Who, bool>>,
}

impl Group {
    fn held(&self) -> usize {
        1 + self.seen.len() + self.may_see.values().map(HashMap::len).sum::<usize>()
    }
}

/// The columns of these names; `None` where one is not known.
pub fn pick<T: AsRef<str>>(relation: &Relation, row: &[Cell], columns: &[T]) -> Option<Values> {
    let cell = |column: &T| {
        row.get(relation.position(column.as_ref())?)
            .filter(|cell| **cell != Cell::Unsent)
            .cloned()
    };
    columns.iter().map(cell).collect()
}

impl Decisions {
    /// Forgets everything; `policies` is how many there are from here on.
    pub fn clear(&mut self, policies: usize) {
        self.policies.clear();
        self.policies.resize_with(policies, HashMap::new);
        self.held = 0;
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        self.clear(self.policies.len());
    }

    /// Whether somebody may see rows with these values, if that is known.
    pub fn get(&self, policy: &Policy, values: &Values, who: &Who) -> Option<bool> {
        let group = self.policies.get(policy.id)?.get(&tie(policy, values))?;
        group.may_see.get(values)?.get(who).copied()
    }

    /// Remembers whether somebody may see rows with these values.
    pub fn remember(&mut self, policy: &Policy, values: Values, who: Who, visible: bool) {
        if self.held >= MAX_HELD {
            tracing::debug!(
                held = self.held,
                "what was remembered of who may see what is dropped: it is too much"
            );
            self.forget();
        }
        let Some(groups) = self.policies.get_mut(policy.id) else {
            return;
        };
        let group = groups.entry(tie(policy, &values)).or_insert_with(|| {
            self.held += 1;
            Group::default()
        });
        if group.may_see.entry(values).or_default().insert(who, visible).is_none() {
            self.held += 1;
        }
    }

    /// Drops what rests on a row that changed.
    pub fn spoil(&mut self, policies: &Policies, relation: &Relation, change: &Change) {
        for (policy, source) in policies.reading(relation.oid) {
            if changes_nothing(relation, change, source) {
                continue;
            }
            let Some(groups) = self.policies.get_mut(policy.id) else {
                continue;
            };
            let keys = source.key.as_ref().and_then(|key| keys(relation, change, key));
            let Some(keys) = keys else {
                self.held -= groups.values().map(Group::held).sum::<usize>();
                groups.clear();
                continue;
            };
            for (key, row) in keys {
                let Some(group) = groups.get_mut(key) else { continue };
                let before = group.held();
                group.spoil(relation, change, source, row);
                self.held = self.held + group.held() - before;
            }
        }
    }
}

impl Group {
    fn spoil(&mut self, relation: &Relation, change: &Change, source: &Source, row: &[Cell]) {
        let identity: Vec<&str> = relation
            .columns
            .iter()
            .filter(|column| column.identity)
            .map(|column| &*column.name)
            .collect();
        let id = pick(relation, row, &identity).map(|id| (source.table, id));
        let is_new = change.new.as_deref().is_some_and(|new| std::ptr::eq(new, row));
        let now = pick(relation, row, &source.columns).filter(|_| is_new);
        if let (Some(id), Some(now)) = (&id, &now)
            && (change.kind, &change.old) == (Kind::Update, &None)
            && self.seen.get(id) == Some(now)
        {
            return;
        }
        self.may_see.clear();
        match (id, now) {
            (Some(id), Some(now)) => _ = self.seen.insert(id, now),
            (Some(id), None) => _ = self.seen.remove(&id),
            (None, _) => self.seen.clear(),
        }
    }
}

fn tie(policy: &Policy, values: &Values) -> Cell {
    policy.tie.and_then(|at| values.get(at)).cloned().unwrap_or(Cell::Null)
}

/// Whether an update left everything alone that is read of a source, as far as the change tells.
fn changes_nothing(relation: &Relation, change: &Change, source: &Source) -> bool {
    let in_identity = |column: &String| {
        relation
            .columns
            .iter()
            .any(|known| known.name == *column && known.identity)
    };
    match (change.kind, &change.old, &change.new) {
        // The columns of the identity would have been sent.
        (Kind::Update, None, _) => source.columns.iter().all(in_identity),
        (Kind::Update, Some(old), Some(new)) if relation.identity == Identity::Full => {
            let old = pick(relation, old, &source.columns);
            old.is_some() && old == pick(relation, new, &source.columns)
        }
        _ => false,
    }
}

/// The rows that came and went, each with its key. Without a key a row is tied to nothing; `None` where it is not told.
fn keys<'a>(relation: &Relation, change: &'a Change, key: &str) -> Option<Vec<(&'a Cell, &'a [Cell])>> {
    let at = relation.position(key)?;
    let rows = [&change.old, &change.new].into_iter().flatten();
    let keyed = rows.map(|row| match row.get(at)? {
        Cell::Unsent => None,
        cell => Some((cell, row.as_slice())),
    });
    keyed.collect()
}
