//! The statements that are prepared on a session.

use std::{collections::HashMap, sync::Arc};

/// As many are kept; the one that was not used for longest makes room. Their plans are memory of the server, tens of
/// kilobytes each.
const MAX: usize = 256;

/// Names of prepared statements by role and SQL.
#[derive(Debug, Default)]
pub(super) struct Statements {
    of_roles: HashMap<Box<str>, HashMap<Box<str>, Statement>>,
    count: usize,
    names: u64,
    clock: u64,
}

#[derive(Debug)]
struct Statement {
    name: Arc<str>,
    used: u64,
}

impl Statements {
    /// The name of a statement, if it is prepared.
    pub fn find(&mut self, role: &str, sql: &str) -> Option<Arc<str>> {
        self.clock += 1;
        let statement = self.of_roles.get_mut(role)?.get_mut(sql)?;
        statement.used = self.clock;
        Some(Arc::clone(&statement.name))
    }

    /// A name that no statement had.
    pub fn new_name(&mut self) -> Arc<str> {
        self.names += 1;
        format!("s{}", self.names).into()
    }

    /// Remembers a statement that the server has prepared.
    pub fn insert(&mut self, role: &str, sql: &str, name: Arc<str>) {
        let used = self.clock;
        let of_role = self.of_roles.entry(role.into()).or_default();
        let former = of_role.insert(sql.into(), Statement { name, used });
        self.count += usize::from(former.is_none());
    }

    /// Forgets the statement that was not used for longest and gives its name, if there is no room for another.
    pub fn make_room(&mut self) -> Option<Arc<str>> {
        if self.count < MAX {
            return None;
        }
        let all = self.of_roles.iter().flat_map(|(role, of_role)| {
            let keyed = of_role.iter();
            keyed.map(move |(sql, statement)| (statement.used, role, sql))
        });
        let (_, role, sql) = all.min_by_key(|(used, ..)| *used)?;
        let (role, sql) = (role.clone(), sql.clone());
        let of_role = self.of_roles.get_mut(&role)?;
        let oldest = of_role.remove(&sql)?;
        if of_role.is_empty() {
            self.of_roles.remove(&role);
        }
        self.count -= 1;
        Some(oldest.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let mut statements = Statements::default();
        for number in 0..MAX {
            let (sql, name) = (number.to_string(), statements.new_name());
            assert_eq!(statements.find("anon", &sql), None);
            assert_eq!(statements.make_room(), None, "{number}");
            statements.insert("anon", &sql, name);
        }
        assert!(statements.find("anon", "0").is_some());
        assert_eq!(
            statements.find("authenticated", "0"),
            None,
            "another role's plan is another"
        );
        let second = statements.find("anon", "2").map(|_| "s2");
        assert_eq!(statements.make_room().as_deref(), second);
        assert_eq!(statements.find("anon", "1"), None);
        assert!(statements.find("anon", "0").is_some());
        assert_eq!(statements.make_room(), None, "one went");
    }
}
