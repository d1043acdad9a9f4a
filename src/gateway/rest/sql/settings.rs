//! What a request's transaction begins with: who calls, and how.

use bytes::Bytes;

use super::Sql;

/// Settings for one transaction, in the order in which they are made.
#[derive(Clone, Debug, Default)]
pub struct Locals(Vec<(String, String)>);

impl Locals {
    /// Adds a setting.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// The statement that makes them. Its text depends on their number alone, so that it stays prepared.
    pub fn statement(&self) -> Sql {
        let mut sql = Sql::default();
        sql.push("select ");
        sql.list(&self.0, ", ", |sql, (name, value)| {
            sql.push("pg_catalog.set_config(")
                .value(Bytes::from(name.clone()))
                .push(", ");
            sql.value(Bytes::from(value.clone())).push(", true)");
        });
        sql
    }
}
