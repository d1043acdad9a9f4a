//! `postgres_changes`: row changes from the write-ahead log to those who subscribed and may see them.
//!
//! ```text
//!  stream ──▶ feed: match (registry, filter) ──▶ ask Postgres (visibility) ──▶ deliver (record) ──▶ sockets
//!                          ▲
//!  joins ──▶ subscribe ────┘
//! ```
//!
//! - [`stream`] the log as transactions ([`pgoutput`]), from this gateway's [`slot`]
//! - [`subscribe`] from a join's parameters to subscriptions; [`registry`] who is subscribed; [`filter`] how filters are
//!   written, [`condition`] which rows meet them
//! - [`table`] what a table is and what each role may read of it; [`tables`] those the loop has met
//! - [`due`] whom a batch concerns; [`questions`] what Postgres is asked about it; [`visibility`] how, each answer by a
//!   [`snapshot`] late enough; [`refusal`] which of its errors concern one table and which all
//! - [`verdict`] what becomes of a change for one subscriber; [`deliver`] his event: [`record`], [`encode`], [`types`]
//! - [`feed`] the one loop through all of it

use std::{sync::Arc, time::Duration};

use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::{error::ChannelError, hub::Hub, listener::Listener, token::Identity};
use crate::{
    db::{Database, Login, session::Pool},
    health::Part,
    shutdown::Shutdown,
};
pub use pgoutput::{Change, Relation};
use registry::{Registered, Registry};
use slot::Node;
pub use subscribe::Binding;

mod condition;
mod deliver;
mod due;
mod encode;
mod feed;
mod filter;
mod pgoutput;
mod questions;
mod record;
mod refusal;
mod registry;
mod slot;
mod snapshot;
mod stream;
mod subscribe;
mod table;
mod tables;
mod types;
mod verdict;
mod visibility;

/// How long a join waits for the stream; the client gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(6);

/// The changes of a database.
#[derive(Debug)]
pub struct Changes {
    registry: Arc<Registry>,
    pool: PgPool,
    node: Node,
    /// Whether the stream flows, or will go on where it stopped.
    live: watch::Receiver<bool>,
    left: mpsc::UnboundedSender<Uuid>,
}

/// A channel's subscriptions; they end with it.
#[derive(Debug)]
pub struct Subscribed {
    changes: Arc<Changes>,
    row_id: Uuid,
    registered: Registered,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.changes.registry.replace(&self.registered, Vec::new());
        // Only after the service has ended is nobody there to remove the rows; the next start does.
        let _ = self.changes.left.send(self.row_id);
    }
}

impl Changes {
    /// Starts the stream. `node` is this gateway's own name on this server.
    ///
    /// # Errors
    /// When the database's TLS settings cannot be used. A database that is away is waited for.
    pub fn start(
        database: &Database,
        node: &str,
        hub: Arc<Hub>,
        health: Part,
        shutdown: &Shutdown,
    ) -> std::io::Result<Arc<Self>> {
        // What is compared with the stream has to look as it does there; rules are to name everything in full.
        let options = database.options(Login::Admin).options([
            ("timezone", "UTC"),
            ("datestyle", "ISO"),
            ("intervalstyle", "postgres"),
            ("extra_float_digits", "1"),
            ("bytea_output", "hex"),
            ("search_path", ""),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options.clone());
        let node = Node::new(&format!("{node}/{}", options.get_database().unwrap_or_default()));
        let (live, is_live) = watch::channel(false);
        let (left, leaving) = mpsc::unbounded_channel();
        let registry = Arc::new(Registry::default());
        let feed = feed::Feed::new(feed::Parts {
            database: database.clone(),
            pool: pool.clone(),
            asker: visibility::Asker::new(Pool::new(database, Login::Authenticator, 1)?),
            node: node.clone(),
            registry: Arc::clone(&registry),
            hub,
            health,
            live,
        });
        let stop = shutdown.clone();
        shutdown.spawn(async move { feed.run(&stop).await });
        let (stop, rows) = (shutdown.clone(), pool.clone());
        shutdown.spawn(async move { forget_left(&rows, leaving, &stop).await });
        let (stop, partitions) = (shutdown.clone(), pool.clone());
        shutdown.spawn(async move { maintain_partitions(&partitions, &stop).await });
        Ok(Arc::new(Self {
            registry,
            pool,
            node,
            live: is_live,
            left,
        }))
    }

    /// Subscribes a channel. When this returns every later commit reaches it. Bindings that cannot be had are told in
    /// the list of failures and do not keep the others from it.
    ///
    /// # Errors
    /// When the database cannot be reached, or its changes are not flowing.
    pub async fn subscribe(
        self: &Arc<Self>,
        listener: &Arc<Listener>,
        identity: &Arc<Identity>,
        bindings: &[Binding],
        replaced: Option<Subscribed>,
    ) -> Result<(Subscribed, Vec<String>), ChannelError> {
        let mut live = self.live.clone();
        let flows = matches!(
            tokio::time::timeout(PATIENCE, live.wait_for(|live| *live)).await,
            Ok(Ok(_))
        );
        if !flows {
            return Err(ChannelError::NoDatabase);
        }
        let no_database = |error: sqlx::Error| {
            tracing::warn!(%error, "a subscription could not be checked");
            ChannelError::NoDatabase
        };
        let (mut subscriptions, mut rows, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for binding in bindings {
            match binding.check(&self.pool, identity, listener).await {
                Ok((subscription, shown)) => {
                    subscriptions.push(subscription);
                    rows.extend(shown);
                }
                Err(subscribe::Refusal::Params(text)) => failures.push(text),
                Err(subscribe::Refusal::Database(error)) => return Err(no_database(error)),
            }
        }
        let mut subscribed = Subscribed {
            changes: Arc::clone(self),
            row_id: self.node.id(),
            registered: Vec::new(),
        };
        if !rows.is_empty() {
            sqlx::query(include_str!("../../../../sql/gateway/realtime_subscribe.sql"))
                .bind(subscribed.row_id)
                .bind(identity.claims.raw())
                .bind(serde_json::Value::from(rows))
                .execute(&self.pool)
                .await
                .map_err(no_database)?;
        }
        let old = replaced.map(|mut replaced| std::mem::take(&mut replaced.registered));
        subscribed.registered = self.registry.replace(&old.unwrap_or_default(), subscriptions);
        Ok((subscribed, failures))
    }
}

/// Removes the rows of subscriptions that ended, many at once when many end.
async fn forget_left(pool: &PgPool, mut leaving: mpsc::UnboundedReceiver<Uuid>, stop: &Shutdown) {
    let mut ids = Vec::new();
    loop {
        tokio::select! {
            _ = leaving.recv_many(&mut ids, 1_000) => {}
            () = stop.started() => return,
        }
        if ids.is_empty() {
            return;
        }
        let removed = sqlx::query("delete from realtime.subscription where subscription_id = any($1)")
            .bind(&ids)
            .execute(pool)
            .await;
        if let Err(error) = removed {
            tracing::warn!(%error, count = ids.len(), "ended subscriptions could not be removed; trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        } else {
            ids.clear();
        }
    }
}

/// Keeps partitions of `realtime.messages` ahead of the days. On a hosted Supabase the function is not there and its
/// own service does it.
async fn maintain_partitions(pool: &PgPool, stop: &Shutdown) {
    loop {
        let made = sqlx::query("select realtime.maintain_message_partitions()")
            .execute(pool)
            .await;
        let pause = match made {
            Ok(_) => Duration::from_secs(3_600),
            Err(error) => {
                tracing::warn!(%error, "the partitions of realtime.messages could not be maintained");
                Duration::from_secs(60)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.started() => return,
        }
    }
}
