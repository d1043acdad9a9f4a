//! What gateways leave behind that end without a word: subscriptions that nobody holds, and a slot that keeps the log.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use sqlx::PgPool;

use super::{
    node::Node,
    roster::{GRACE, LOCKS, Sighting},
};

/// The gateways that are gone, as long as they have a slot.
#[derive(Debug)]
pub struct Dead {
    gone: HashMap<Node, Gone>,
    /// For how long the slot is kept for the next run.
    keep_slot: Duration,
}

#[derive(Debug)]
struct Gone {
    since: Instant,
    /// Up to where its slot was read then. If that changes somebody was there.
    read: Option<i64>,
    /// Whether its subscriptions have been removed.
    forgotten: bool,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    Forget,
    DropSlot,
}

impl Dead {
    /// Nobody is gone. Slots are kept for so long.
    pub fn new(keep_slot: Duration) -> Self {
        Self {
            gone: HashMap::new(),
            keep_slot,
        }
    }

    /// Who was gone may not be any more.
    pub fn clear(&mut self) {
        self.gone.clear();
    }

    /// Removes what the gone left, when it is time. All living gateways do it, and it does not matter who is first.
    pub async fn tend(&mut self, pool: &PgPool, others: &[Sighting], now: Instant) {
        for (node, duty) in self.due(others, now) {
            match bury(pool, node, duty).await {
                Ok(true) => {
                    tracing::info!(node = node.name(), ?duty, "a gateway is gone; what it left is removed");
                    if let Some(gone) = self.gone.get_mut(&node) {
                        gone.forgotten = true;
                    }
                }
                // It has come back this moment.
                Ok(false) => drop(self.gone.remove(&node)),
                Err(error) => tracing::warn!(%error, "what a gateway left could not be removed; trying again"),
            }
        }
    }

    fn due(&mut self, others: &[Sighting], now: Instant) -> Vec<(Node, Duty)> {
        let gone = |other: &&Sighting| !other.living && !other.reading;
        self.gone
            .retain(|node, _| others.iter().filter(gone).any(|other| other.node == *node));
        let mut due = Vec::new();
        for other in others.iter().filter(gone) {
            let new = || Gone {
                since: now,
                read: other.read,
                forgotten: false,
            };
            let gone = self.gone.entry(other.node).or_insert_with(new);
            if gone.read != other.read {
                *gone = new();
            }
            let age = now.saturating_duration_since(gone.since);
            if age >= self.keep_slot {
                due.push((other.node, Duty::DropSlot));
            } else if age >= GRACE && !gone.forgotten {
                due.push((other.node, Duty::Forget));
            }
        }
        due
    }
}

/// Removes what a node left. False if it lives: its name is held meanwhile, so that it does not begin to.
async fn bury(pool: &PgPool, node: Node, duty: Duty) -> sqlx::Result<bool> {
    let mut transaction = pool.begin().await?;
    // Shared: several may do this at once, and it is no sign of life.
    let dead: bool = sqlx::query_scalar("select pg_catalog.pg_try_advisory_xact_lock_shared($1, $2)")
        .bind(LOCKS)
        .bind(node.number().cast_signed())
        .fetch_one(&mut *transaction)
        .await?;
    if !dead {
        return Ok(false);
    }
    sqlx::query(include_str!("../../../../sql/gateway/realtime_forget.sql"))
        .bind(node.name())
        .execute(&mut *transaction)
        .await?;
    if duty == Duty::DropSlot {
        let sql = "select pg_drop_replication_slot(slot_name)
            from pg_catalog.pg_replication_slots
            where slot_name = $1
              and not active";
        sqlx::query(sql).bind(node.slot()).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_gone_for_long_enough_loses_his_slot() {
        let (keep, start, node) = (Duration::from_secs(120), Instant::now(), Node::new("x"));
        let mut dead = Dead::new(keep);
        let mut due = |seconds, living, reading, read| {
            let other = Sighting {
                node,
                living,
                reading,
                read: Some(read),
            };
            dead.due(&[other], start + Duration::from_secs(seconds))
        };
        assert!(due(0, false, false, 1).is_empty());
        assert!(due(4, false, false, 1).is_empty());
        assert_eq!(due(5, false, false, 1), [(node, Duty::Forget)]);
        assert_eq!(due(119, false, false, 1), [(node, Duty::Forget)], "until it is done");
        assert!(due(119, false, true, 1).is_empty(), "it reads again");
        assert!(due(120, false, false, 1).is_empty());
        assert!(due(200, true, false, 1).is_empty(), "it lives");
        assert!(due(201, false, false, 1).is_empty());
        assert!(due(400, false, false, 2).is_empty(), "it was there meanwhile");
        assert_eq!(due(520, false, false, 2), [(node, Duty::DropSlot)]);
    }
}
