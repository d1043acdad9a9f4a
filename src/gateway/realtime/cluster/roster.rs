//! Who is there. A gateway that lives holds the advisory lock of its name, in a session of its own: Postgres lets go of
//! it with the process, however that ends, and of two with one name only one can have it.

use std::{
    collections::HashMap,
    sync::Weak,
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, PgConnection, PgPool};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Cluster, Held, dead::Dead, node::Node};
use crate::db::{Database, Login};

/// The class of the locks, which nothing else uses.
pub const LOCKS: i32 = 0x5357_4244;
/// How often is looked who is there.
const LOOK: Duration = Duration::from_secs(1);
/// How long a statement may take, or a connection to be made.
const STATEMENT: Duration = Duration::from_secs(5);
/// How long a predecessor may take to let go of the name.
const PREDECESSOR: Duration = Duration::from_secs(2);
/// Gateways of one name.
const NAMESAKES: u32 = 16;
/// How long a gateway may be gone before nobody is present there any more: its connection may have broken.
pub const GRACE: Duration = Duration::from_secs(5);

/// A gateway as the database sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Which.
    pub node: Node,
    /// Whether it holds its lock.
    pub living: bool,
    /// Whether its slot is read from.
    pub reading: bool,
    /// Up to where, in bytes; nothing without a slot.
    pub read: Option<i64>,
}

#[derive(Debug, thiserror::Error)]
enum RosterError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the database does not answer")]
    Silence,
    #[error("all names of this gateway are taken; give each gateway its own --node")]
    Names,
}

/// Holds the name and looks who else is there.
#[derive(Debug)]
pub struct Roster {
    /// Where to tell. It ends with the service.
    pub cluster: Weak<Cluster>,
    /// The database.
    pub database: Database,
    /// The same, for what is not done in the session that holds the name.
    pub pool: PgPool,
    /// What the names are made of.
    pub identity: String,
    /// The name that is held.
    pub held: watch::Sender<Option<Held>>,
    /// What those left who are gone.
    pub dead: Dead,
    /// Since when those are gone who were heard.
    pub missing: HashMap<Node, Instant>,
}

impl Roster {
    /// Holds the name until `ended`.
    pub async fn keep(mut self, ended: CancellationToken) {
        let work = async {
            loop {
                let Err(error) = self.session().await;
                tracing::warn!(%error, "this gateway has no place among the others; trying again");
                // Nobody can be told to be gone by who sees nobody.
                self.missing.clear();
                self.dead.clear();
                sleep(LOOK).await;
            }
        };
        ended.run_until_cancelled(work).await;
    }

    async fn session(&mut self) -> Result<std::convert::Infallible, RosterError> {
        // A host that is gone says nothing: Postgres is to notice all the same.
        let options = self.database.options(Login::Admin).options([
            ("search_path", ""),
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "2"),
            ("tcp_keepalives_count", "3"),
        ]);
        let mut connection = in_time(options.connect()).await?;
        let node = self.take_name(&mut connection).await?;
        self.look(&mut connection, node).await?;
        let run = self.run_of(&mut connection, node).await?;
        let held = Some(Held { node, run });
        self.held
            .send_if_modified(|before| std::mem::replace(before, held) != held);
        loop {
            let Some(cluster) = self.cluster.upgrade() else {
                return std::future::pending().await;
            };
            let looked = timeout(LOOK, cluster.look.notified());
            let _ = looked.await;
            drop(cluster);
            self.look(&mut connection, node).await?;
        }
    }

    /// The name it had, the one of its identity, or one behind it if another gateway has that.
    async fn take_name(&self, connection: &mut PgConnection) -> Result<Node, RosterError> {
        let own = Node::new(&self.identity);
        let first = self.held.borrow().map_or(own, |held| held.node);
        let started = Instant::now();
        loop {
            if take(connection, first).await? {
                return Ok(first);
            }
            if started.elapsed() > PREDECESSOR {
                break;
            }
            sleep(PREDECESSOR / 10).await;
        }
        for number in 2..=NAMESAKES {
            let other = Node::new(&format!("{}/{number}", self.identity));
            if take(connection, other).await? {
                tracing::warn!(
                    node = other.name(),
                    "another gateway on this database has this one's name, which takes another; give each its own --node"
                );
                return Ok(other);
            }
        }
        Err(RosterError::Names)
    }

    /// The run it is in: a new one, unless the name was given back for a moment and nobody has noticed.
    async fn run_of(&self, connection: &mut PgConnection, node: Node) -> Result<Uuid, RosterError> {
        let before = *self.held.borrow();
        if let Some(before) = before
            && before.node == node
        {
            let known = sqlx::query_scalar("select exists (select from realtime.gateway where name = $1 and run = $2)")
                .bind(node.name())
                .bind(before.run)
                .fetch_one(connection);
            if in_time(known).await? {
                return Ok(before.run);
            }
            tracing::warn!("the others have taken this gateway for dead; its channels have to join again");
        }
        Ok(Uuid::new_v4())
    }

    /// Looks who is there, and sees to it that the others' going is noticed.
    async fn look(&mut self, connection: &mut PgConnection, me: Node) -> Result<(), RosterError> {
        let seen = sqlx::query_as(include_str!("../../../../sql/gateway/realtime_roster.sql"))
            .bind(LOCKS)
            .fetch_all(connection);
        let seen: Vec<(i64, bool, bool, Option<i64>)> = in_time(seen).await?;
        let sighting = |(number, living, reading, read): (i64, bool, bool, Option<i64>)| {
            let node = Node::numbered(u32::try_from(number).ok()?);
            Some(Sighting {
                node,
                living,
                reading,
                read,
            })
        };
        let mut others: Vec<Sighting> = seen.into_iter().filter_map(sighting).collect();
        others.retain(|other| other.node != me);
        if let Some(cluster) = self.cluster.upgrade() {
            let living = |node| others.iter().any(|other| other.node == node && other.living);
            cluster.has_others(others.iter().any(|other| other.living));
            self.missing.retain(|node, _| !living(*node));
            for node in cluster.heard() {
                if living(node) {
                    continue;
                }
                let since = *self.missing.entry(node).or_insert_with(Instant::now);
                if since.elapsed() >= GRACE {
                    tracing::info!(node = node.name(), "a gateway is gone without a word");
                    cluster.forget(node);
                    self.missing.remove(&node);
                }
            }
            cluster.forget_silent();
        }
        self.dead.tend(&self.pool, &others, Instant::now()).await;
        Ok(())
    }
}

async fn take(connection: &mut PgConnection, node: Node) -> Result<bool, RosterError> {
    let lock = sqlx::query_scalar("select pg_catalog.pg_try_advisory_lock($1, $2)")
        .bind(LOCKS)
        .bind(node.number().cast_signed())
        .fetch_one(connection);
    in_time(lock).await
}

async fn in_time<T>(answer: impl Future<Output = sqlx::Result<T>>) -> Result<T, RosterError> {
    timeout(STATEMENT, answer)
        .await
        .map_err(|_| RosterError::Silence)?
        .map_err(RosterError::Database)
}
