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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::realtime::changes::pgoutput::Column;

    const SESSIONS: u32 = 1;
    const STAFF: u32 = 2;
    const ANN: Who = [1; 16];
    const BOB: Who = [2; 16];

    fn relation(oid: u32, identity: Identity, columns: &[(&str, bool)]) -> Relation {
        let column = |(name, identity): &(&str, bool)| Column {
            name: (*name).to_owned(),
            type_oid: 25,
            identity: *identity,
        };
        Relation {
            oid,
            schema: "public".into(),
            name: "t".into(),
            identity,
            columns: columns.iter().map(column).collect(),
        }
    }

    fn sessions() -> Relation {
        relation(
            SESSIONS,
            Identity::Default,
            &[("id", true), ("agent", false), ("messages", false)],
        )
    }

    fn row(cells: &[&str]) -> Vec<Cell> {
        let cell = |text: &&str| match *text {
            "" => Cell::Null,
            "?" => Cell::Unsent,
            text => Cell::Text(text.to_owned().into()),
        };
        cells.iter().map(cell).collect()
    }

    fn change(of: &Relation, old: Option<&[&str]>, new: Option<&[&str]>) -> Change {
        let kind = match (old, new) {
            (None, _) => Kind::Insert,
            (Some(_), None) => Kind::Delete,
            (Some(_), Some(_)) => Kind::Update,
        };
        Change {
            relation: of.oid,
            kind,
            old: old.filter(|old| !old.is_empty()).map(row),
            new: new.map(row),
        }
    }

    /// Messages are for who sees their session, by its id; and for staff.
    fn policies() -> Policies {
        let source = |table, columns: &[&str], key: Option<&str>| Source {
            table,
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            key: key.map(str::to_owned),
        };
        Policies::of(vec![Policy {
            id: 0,
            columns: vec!["session".into()],
            tie: Some(0),
            sources: vec![
                source(SESSIONS, &["id", "agent"], Some("id")),
                source(STAFF, &["person"], None),
            ],
            claims: crate::gateway::realtime::changes::policy::Claims::default(),
        }])
    }

    struct Known {
        policies: Policies,
        decisions: Decisions,
    }

    impl Known {
        /// Two sessions and what Ann and Bob see of them.
        fn new() -> Self {
            let mut known = Self {
                policies: policies(),
                decisions: Decisions::default(),
            };
            known.decisions.clear(1);
            known.decide();
            known
        }

        fn decide(&mut self) {
            for (session, who, visible) in [("1", ANN, true), ("1", BOB, false), ("2", BOB, true)] {
                let policy = self.policies.reading(SESSIONS).next().unwrap().0;
                self.decisions.remember(policy, row(&[session]).into(), who, visible);
            }
        }

        fn spoil(&mut self, relation: &Relation, old: Option<&[&str]>, new: Option<&[&str]>) {
            self.decisions
                .spoil(&self.policies, relation, &change(relation, old, new));
        }

        /// Which of the three decisions are known; each as it was taken.
        fn left(&self) -> [bool; 3] {
            let policy = self.policies.reading(SESSIONS).next().unwrap().0;
            let get = |session: &str, who| self.decisions.get(policy, &row(&[session]).into(), &who);
            [(get("1", ANN), true), (get("1", BOB), false), (get("2", BOB), true)].map(|(known, taken)| {
                assert!(known.is_none_or(|known| known == taken));
                known.is_some()
            })
        }
    }

    #[test]
    fn a_tied_row_spoils_what_is_about_it() {
        let sessions = sessions();
        for (old, new) in [
            (None, Some(["1", "ann", "0"].as_slice())),
            (Some([].as_slice()), Some(["1", "bob", "0"].as_slice())),
            (Some(["1", "", ""].as_slice()), None),
        ] {
            let mut known = Known::new();
            known.spoil(&sessions, old, new);
            assert_eq!(known.left(), [false, false, true], "{old:?} {new:?}");
        }
        let mut known = Known::new();
        known.spoil(&sessions, Some(&["1", "", ""]), Some(&["2", "ann", "0"]));
        assert_eq!(known.left(), [false; 3], "its key changed");
        let mut known = Known::new();
        known.spoil(&sessions, None, Some(&["3", "ann", "0"]));
        assert_eq!(known.left(), [true; 3], "another session");
        known.spoil(&sessions, Some(&[]), Some(&["?", "ann", "0"]));
        assert_eq!(known.left(), [false; 3], "nobody tells which");
        assert_eq!(known.decisions.held, 0);
    }

    #[test]
    fn an_update_that_leaves_alone_what_is_read_spoils_nothing() {
        let sessions = sessions();
        let mut known = Known::new();
        known.spoil(&sessions, Some(&[]), Some(&["1", "ann", "1"]));
        assert_eq!(known.left(), [false, false, true], "not seen before");
        known.decide();
        known.spoil(&sessions, Some(&[]), Some(&["1", "ann", "2"]));
        assert_eq!(known.left(), [true; 3], "the counter alone");
        known.spoil(&sessions, Some(&[]), Some(&["1", "bob", "2"]));
        assert_eq!(known.left(), [false, false, true]);
        known.decide();
        // What was not sent is not known to be the same.
        known.spoil(&sessions, Some(&[]), Some(&["1", "?", "3"]));
        assert_eq!(known.left(), [false, false, true]);
        known.decide();
        known.spoil(&sessions, Some(&[]), Some(&["1", "bob", "4"]));
        assert_eq!(known.left(), [false, false, true], "it may have been another meanwhile");

        let whole = relation(
            SESSIONS,
            Identity::Full,
            &[("id", true), ("agent", true), ("messages", true)],
        );
        let mut known = Known::new();
        known.spoil(&whole, Some(&["1", "ann", "1"]), Some(&["1", "ann", "2"]));
        assert_eq!(known.left(), [true; 3]);
        known.spoil(&whole, Some(&["1", "ann", "1"]), Some(&["1", "bob", "1"]));
        assert_eq!(known.left(), [false, false, true]);
    }

    #[test]
    fn rows_with_one_key_are_told_apart() {
        let parties = relation(
            SESSIONS,
            Identity::Default,
            &[("id", true), ("person", true), ("agent", false)],
        );
        let mut known = Known::new();
        known.spoil(&parties, Some(&[]), Some(&["1", "x", "ann"]));
        known.decide();
        known.spoil(&parties, Some(&[]), Some(&["1", "y", "ann"]));
        assert_eq!(known.left(), [false, false, true], "the same, of another row");
    }

    #[test]
    fn an_untied_row_spoils_all() {
        let staff = relation(STAFF, Identity::Default, &[("person", true), ("since", false)]);
        let mut known = Known::new();
        known.spoil(&staff, Some(&[]), Some(&["ann", "1"]));
        assert_eq!(
            known.left(),
            [true; 3],
            "the identity has not changed, and nothing else is read"
        );
        known.spoil(&staff, None, Some(&["carl", "1"]));
        assert_eq!((known.left(), known.decisions.held), ([false; 3], 0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut known = Known::new();
        let policy = known.policies.reading(SESSIONS).next().unwrap().0;
        for number in 0..MAX_HELD {
            let values: Values = row(&[&format!("s{number}")]).into();
            known.decisions.remember(policy, values, ANN, true);
            assert!(known.decisions.held <= MAX_HELD + 1);
        }
    }
}
