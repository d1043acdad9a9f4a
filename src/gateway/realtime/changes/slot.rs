//! This gateway's replication slot, and the name it is found by.

use pgwire_replication::Lsn;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use uuid::Uuid;

/// One gateway on one database. Its name is part of its slot's and of its subscriptions' ids, so that what it leaves
/// behind when it is killed can be told from what others use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    name: String,
}

impl Node {
    /// The node of an identity that no other gateway on the server shares.
    pub fn new(identity: &str) -> Self {
        let digest = Sha256::digest(identity.as_bytes());
        Self {
            name: digest[..4].iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// Eight hexadecimal digits.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The slot's name.
    pub fn slot(&self) -> String {
        format!("switchboard_realtime_{}", self.name)
    }

    /// A new id that starts with the node's name.
    pub fn id(&self) -> Uuid {
        let random = Uuid::new_v4().simple().to_string();
        Uuid::parse_str(&format!("{}{}", self.name, &random[8..])).expect("32 hexadecimal digits are a UUID")
    }
}

/// Makes the slot anew: what it had to tell is not wanted any more.
///
/// # Errors
/// When another gateway reads from it, or the server has no logical replication.
pub async fn create(pool: &PgPool, node: &Node) -> sqlx::Result<()> {
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
pub async fn find(pool: &PgPool, node: &Node) -> sqlx::Result<(Option<Lsn>, Lsn)> {
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
pub async fn drop(pool: &PgPool, node: &Node) -> sqlx::Result<()> {
    sqlx::query("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1")
        .bind(node.slot())
        .execute(pool)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_told_by_slot_and_ids() {
        let node = Node::new("host/db");
        assert!(
            node.slot().len() < 64
                && node
                    .slot()
                    .bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        );
        assert!(node.id().to_string().starts_with(node.name()));
        assert_ne!(node.id(), node.id());
        assert_ne!(node, Node::new("host/other"));
    }
}
