//! What a request's transaction begins with: who calls, and how.

use std::borrow::Cow;

use bytes::Bytes;

use super::Sql;

/// Settings for one transaction, in the order in which they are made.
#[derive(Clone, Debug, Default)]
pub struct Locals<'a>(Vec<(Cow<'a, str>, String)>);

impl<'a> Locals<'a> {
    /// Adds a setting.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// The statement that makes them. Its text depends on their names alone, so that it stays prepared.
    pub fn statement(self) -> Sql {
        let mut sql = Sql::default();
        sql.push("select ");
        sql.list(self.0, ", ", |sql, (name, value)| {
            sql.push("pg_catalog.set_config(").literal(&name).push(", ");
            sql.value(Bytes::from(value)).push(", true)");
        });
        sql
    }
}
