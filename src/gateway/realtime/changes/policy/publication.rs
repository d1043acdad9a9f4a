//! The publication of the tables that policies read.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Connection, PgPool};

/// Adds and removes tables, quoted names. Whoever holds a table locked is waited for a moment only.
///
/// # Errors
/// When Postgres refuses, or another gateway was faster.
pub async fn keep(pool: &PgPool, missing: &BTreeSet<String>, superfluous: &BTreeSet<String>) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    for (verb, tables) in [("drop", superfluous), ("add", missing)] {
        // One at a time: one that is refused keeps no other out.
        for table in tables {
            let mut transaction = connection.begin().await?;
            sqlx::query("set local lock_timeout = '2s'")
                .execute(&mut *transaction)
                .await?;
            let statement = format!("alter publication switchboard_policies {verb} table {table}");
            sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
            transaction.commit().await?;
        }
    }
    Ok(())
}
