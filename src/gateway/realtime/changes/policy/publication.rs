//! The publication of the tables that policies read.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

/// Adds and removes tables, quoted names. Whoever holds a table locked is waited for a moment only.
///
/// # Errors
/// The last of them, when Postgres refuses; one that is refused keeps no other out.
pub async fn keep(pool: &PgPool, missing: &BTreeSet<String>, superfluous: &BTreeSet<String>) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    let mut outcome = Ok(());
    for (verb, tables) in [("drop", superfluous), ("add", missing)] {
        for table in tables {
            match change(&mut connection, verb, table).await {
                // Another gateway was faster.
                Err(sqlx::Error::Database(error))
                    if ["42710", "42704"].map(Some).contains(&error.code().as_deref()) => {}
                Err(error) => outcome = Err(error),
                Ok(()) => {}
            }
        }
    }
    outcome
}

async fn change(connection: &mut PgConnection, verb: &str, table: &str) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    sqlx::query("set local lock_timeout = '2s'")
        .execute(&mut *transaction)
        .await?;
    let statement = format!("alter publication switchboard_policies {verb} table {table}");
    sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
    transaction.commit().await
}
