//! This gateway's replication slot.

use pgwire_replication::Lsn;
use sqlx::PgPool;

use crate::gateway::realtime::cluster::Node;

/// Makes the slot anew: what it had to tell is not wanted any more.
///
/// # Errors
/// When another gateway reads from it, or the server has no logical replication.
pub async fn create(pool: &PgPool, node: Node) -> sqlx::Result<()> {
    drop(pool, node).await?;
    sqlx::query("select pg_create_logical_replication_slot($1, 'pgoutput')")
        .bind(node.slot())
        .execute(pool)
        .await?;
    Ok(())
}

/// Up to where the slot has been read, if it can still be read from; and the log's end.
///
/// # Errors
/// Those of the database.
pub async fn find(pool: &PgPool, node: Node) -> sqlx::Result<(Option<Lsn>, Lsn)> {
    let sql = "select
        (
          select confirmed_flush_lsn - '0/0'
          from pg_replication_slots
          where slot_name = $1
            and wal_status is distinct from 'lost'
        )::bigint,
        (pg_current_wal_flush_lsn() - '0/0')::bigint";
    let (read, end): (Option<i64>, i64) = sqlx::query_as(sql).bind(node.slot()).fetch_one(pool).await?;
    Ok((read.map(lsn), lsn(end)))
}

fn lsn(bytes: i64) -> Lsn {
    Lsn(bytes.cast_unsigned())
}

/// Whether a slot that nobody reads may stay: the server bounds what it keeps for it.
///
/// # Errors
/// Those of the database.
pub async fn may_stay(pool: &PgPool) -> sqlx::Result<bool> {
    let sql = "select current_setting('max_slot_wal_keep_size') <> '-1'";
    sqlx::query_scalar(sql).fetch_one(pool).await
}

/// Drops the slot, if it is there.
///
/// # Errors
/// When another gateway reads from it.
pub async fn drop(pool: &PgPool, node: Node) -> sqlx::Result<()> {
    sqlx::query("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1")
        .bind(node.slot())
        .execute(pool)
        .await?;
    Ok(())
}
