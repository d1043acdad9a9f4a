//! What a Supabase project has and a bare Postgres lacks: roles, the schemas `auth`, `storage` and `realtime`,
//! publications, default privileges (`sql/platform`). Never applied to a Supabase.

use sha2::{Digest, Sha256};
use sqlx::{Connection, Executor, raw_sql};

use super::{Database, Login};

/// In order: later files name what earlier ones make. Each is idempotent.
const FILES: [&str; 6] = [
    include_str!("../../sql/platform/10_roles.sql"),
    include_str!("../../sql/platform/20_schemas.sql"),
    include_str!("../../sql/platform/30_auth.sql"),
    include_str!("../../sql/platform/40_storage.sql"),
    include_str!("../../sql/platform/50_realtime.sql"),
    include_str!("../../sql/platform/60_api.sql"),
];

/// What [`apply`] found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The platform was made or brought up to date.
    Applied,
    /// It was there as this version makes it.
    Current,
    /// A Supabase project's own platform is there; it is left alone.
    Foreign,
}

/// Brings the platform to this version, unless it is somebody else's.
///
/// # Errors
/// When the database cannot be reached, or the login is no superuser and the platform is missing.
pub async fn apply(database: &Database) -> sqlx::Result<Outcome> {
    let wanted = checksum();
    let mut connection = database.connect(Login::Admin).await?;
    let mut transaction = connection.begin().await?;
    // Two gateways may start on one database at once.
    transaction
        .execute("select pg_advisory_xact_lock(hashtext('switchboard.platform'))")
        .await?;
    let (ours, theirs): (bool, bool) = sqlx::query_as(
        "select to_regclass('_switchboard.platform') is not null, to_regclass('auth.users') is not null",
    )
    .fetch_one(&mut *transaction)
    .await?;
    if theirs && !ours {
        return Ok(Outcome::Foreign);
    }
    if ours {
        let (applied,): (String,) = sqlx::query_as("select checksum from _switchboard.platform")
            .fetch_one(&mut *transaction)
            .await?;
        if applied == wanted {
            return Ok(Outcome::Current);
        }
    }
    for file in FILES {
        transaction.execute(raw_sql(file)).await?;
    }
    // Owned by supabase_admin: `supabase db reset` drops other schemas.
    transaction
        .execute(raw_sql(
            "create schema if not exists _switchboard authorization supabase_admin;
             create table if not exists _switchboard.platform (checksum text not null, applied_at timestamptz not null);
             delete from _switchboard.platform;",
        ))
        .await?;
    sqlx::query("insert into _switchboard.platform values ($1, now())")
        .bind(&wanted)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Outcome::Applied)
}

/// Names this version of the platform.
fn checksum() -> String {
    let mut hash = Sha256::new();
    FILES.iter().for_each(|file| hash.update(file));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
