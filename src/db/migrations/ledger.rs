//! The Supabase CLI's ledger as refinery sees it.

use std::collections::HashSet;

use refinery::{AsyncMigrate, Migration};
use refinery_core::traits::r#async::{AsyncQuery, AsyncTransaction};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, raw_sql};
use time::OffsetDateTime;

use super::{File, full_name};

/// The checksum of what cannot match any file.
const DIFFERENT: u64 = 0;

/// What is applied. The CLI cuts a migration into statements; the whole text is as good to it.
const APPLIED: &str = "select version::int8, coalesce(name, ''), array_to_string(statements, '')
    from supabase_migrations.schema_migrations
    where version ~ '^[0-9]{1,18}$'
    order by version::int8";

/// The table `supabase_migrations.schema_migrations` and the session that writes it.
pub struct Ledger<'a> {
    connection: PgConnection,
    files: &'a [File],
    /// Versions the table holds; two files may well have the same text.
    written: HashSet<i64>,
}

impl<'a> Ledger<'a> {
    /// The ledger on this connection, for these files.
    pub fn new(connection: PgConnection, files: &'a [File]) -> Self {
        Self {
            connection,
            files,
            written: HashSet::new(),
        }
    }

    /// Keeps other movers of ours out until the session ends: refinery takes no lock.
    pub async fn lock(&mut self) -> sqlx::Result<()> {
        let statement = "select pg_advisory_lock(hashtext('supabase_migrations.schema_migrations'))";
        self.connection.execute(statement).await.map(drop)
    }

    /// What is applied, where anything ever was; a table that is missing stays so.
    pub async fn applied(&mut self) -> sqlx::Result<Vec<Migration>> {
        let exists = "select to_regclass('supabase_migrations.schema_migrations') is not null";
        if sqlx::query_scalar(exists).fetch_one(&mut self.connection).await? {
            self.query(APPLIED).await
        } else {
            Ok(Vec::new())
        }
    }

    /// Ends the session.
    pub async fn close(self) -> sqlx::Result<()> {
        self.connection.close().await
    }
}

impl AsyncTransaction for Ledger<'_> {
    type Error = sqlx::Error;

    /// For each migration refinery sends its text and then its own insert; the second gives way to ours.
    async fn execute<'q, T: Iterator<Item = &'q str> + Send + 'q>(&mut self, queries: T) -> sqlx::Result<usize> {
        let mut transaction = self.connection.begin().await?;
        let mut count = 0;
        for query in queries {
            if query.starts_with("INSERT INTO refinery_schema_history") {
                continue;
            }
            // As the CLI does: no migration inherits the settings of the one before.
            transaction.execute("reset all").await?;
            transaction.execute(raw_sql(AssertSqlSafe(query.to_owned()))).await?;
            count += 1;
            let unwritten = |file: &&File| file.sql == query && !self.written.contains(&file.migration.version());
            if let Some(File { migration, sql }) = self.files.iter().find(unwritten) {
                self.written.insert(migration.version());
                sqlx::query(
                    "insert into supabase_migrations.schema_migrations (version, name, statements)
                     values ($1, $2, array[$3])",
                )
                .bind(migration.version().to_string())
                .bind(migration.name())
                .bind(sql)
                .execute(&mut *transaction)
                .await?;
                tracing::info!(migration = full_name(migration), "applied");
            }
        }
        transaction.commit().await?;
        Ok(count)
    }
}

impl AsyncQuery<Vec<Migration>> for Ledger<'_> {
    async fn query(&mut self, query: &str) -> sqlx::Result<Vec<Migration>> {
        let rows = self.connection.fetch_all(AssertSqlSafe(query.to_owned())).await?;
        rows.into_iter()
            .map(|row| {
                let (version, text): (i64, Option<String>) = (row.try_get(0)?, row.try_get(2)?);
                self.written.insert(version);
                let file = self.files.iter().find(|file| file.migration.version() == version);
                let (name, checksum) = match (file, text) {
                    (Some(file), Some(text)) if !file.is(&text) => (row.try_get(1)?, DIFFERENT),
                    (Some(file), _) => (file.migration.name().to_owned(), file.migration.checksum()),
                    (None, _) => (row.try_get(1)?, DIFFERENT),
                };
                Ok(Migration::applied(version, name, OffsetDateTime::UNIX_EPOCH, checksum))
            })
            .collect()
    }
}

impl AsyncMigrate for Ledger<'_> {
    fn assert_migrations_table_query(_: &str) -> String {
        // Made as the CLI makes it; asked first, as a role without `create` on the database may still apply.
        "do $$
         begin
           if to_regclass('supabase_migrations.schema_migrations') is null then
             create schema if not exists supabase_migrations;
             create table supabase_migrations.schema_migrations (version text not null primary key);
           end if;
           alter table supabase_migrations.schema_migrations
             add column if not exists statements text[],
             add column if not exists name text;
         end
         $$"
        .into()
    }

    fn get_applied_migrations_query(_: &str) -> String {
        APPLIED.into()
    }
}
