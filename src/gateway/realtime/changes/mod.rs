//! `postgres_changes`: row changes from the write-ahead log to those who subscribed and may see them.
//!
//! ```text
//!  stream ──▶ feed: match (registry, filter) ──▶ remember, or ask Postgres (visibility) ──▶ deliver (record) ──▶ sockets
//!                          ▲
//!  joins ──▶ subscribe ────┘
//! ```
//!
//! - [`stream`] the log as transactions ([`pgoutput`]), from this gateway's [`slot`]
//! - [`subscribe`] from a join's parameters to subscriptions, by what the [`catalog`] says; [`subscribed`] until they
//!   end; [`registry`] who is subscribed; [`filter`] how filters are written, [`condition`] which rows meet them
//! - [`table`] what a table is and what each role may read of it; [`tables`] those the loop has met
//! - [`memory`] who may see what, as far as it is known: the [`decisions`], and what [`policy`] says they rest on;
//!   [`offer`] leaves to clients what is not streamed for that alone
//! - [`due`] whom a batch concerns; [`questions`] what Postgres is asked about it; [`visibility`] how, each answer by a
//!   [`snapshot`] late enough, with the values it was given for ([`look`]); [`refusal`] which of its errors concern one table and which all
//! - [`verdict`] what becomes of a change for one subscriber; [`deliver`] his event: [`record`], [`encode`], [`types`]
//! - [`judge`] all of this for a batch; [`feed`] the one loop that does it batch by batch
//! - [`history`] the last changes, for clients that lost their connection; [`resume`] who they are and where they were,
//!   by [`position`]; [`ledger`] what the database knows of that

use std::{sync::Arc, time::Duration};

use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::sync::{mpsc, oneshot, watch};

use super::{cluster::Cluster, error::ChannelError, hub::Hub, listener::Listener, token::Identity};
use crate::{
    db::{Database, Login, session::Pool},
    health::Part,
    shutdown::Shutdown,
};
use catalog::Catalog;
use feed::Delivered;
use ledger::Ledger;
pub use pgoutput::{Change, Relation};
pub use position::Position;
use registry::{Registered, Registry, Subscription};
pub use resume::{Key, LastRef};
use resume::{Resumable, Returning};
pub use subscribe::Binding;
pub use subscribed::{Client, Subscribed};

mod catalog;
mod condition;
mod decisions;
mod deliver;
mod due;
mod encode;
mod feed;
mod filter;
mod history;
mod judge;
mod ledger;
mod look;
mod memory;
mod offer;
mod pause;
mod pgoutput;
pub mod policy;
mod position;
mod questions;
mod record;
mod refusal;
mod registry;
mod resume;
mod slot;
mod snapshot;
mod stream;
mod subscribe;
mod subscribed;
mod table;
mod tables;
mod types;
mod verdict;
mod visibility;

/// How long a join waits for the stream; the client gives up after ten seconds.
pub const PATIENCE: Duration = Duration::from_secs(6);

/// The changes of a database.
#[derive(Debug)]
pub struct Changes {
    registry: Arc<Registry>,
    pool: PgPool,
    catalog: Catalog,
    cluster: Arc<Cluster>,
    /// Whether the stream flows, or will go on where it stopped.
    live: watch::Receiver<bool>,
    delivered: Arc<Delivered>,
    resumable: Arc<Resumable>,
    returning: mpsc::UnboundedSender<Returning>,
    news: ledger::Sender,
}

impl Changes {
    /// Starts the stream. `identity` is this gateway's own on this server; a client may be away for `window`.
    ///
    /// # Errors
    /// When the database's TLS settings cannot be used. A database that is away is waited for.
    pub fn start(
        database: &Database,
        identity: &str,
        hub: Arc<Hub>,
        window: Duration,
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
        let identity = format!("{identity}/{}", options.get_database().unwrap_or_default());
        let cluster = Cluster::start(database, &pool, identity, &hub, window, shutdown);
        let (live, is_live) = watch::channel(false);
        let (returning, welcome) = mpsc::unbounded_channel();
        let (news, incoming) = mpsc::unbounded_channel();
        let (registry, delivered, resumable) = (Arc::default(), Arc::default(), Arc::<Resumable>::default());
        let asker = visibility::Asker::new(Pool::new(database, Login::Authenticator, 1)?);
        let judge = judge::Judge::new(pool.clone(), asker, health.clone());
        let parts = feed::Parts {
            database: database.clone(),
            pool: pool.clone(),
            cluster: Arc::clone(&cluster),
            registry: Arc::clone(&registry),
            hub,
            health,
            live,
            delivered: Arc::clone(&delivered),
            returning: welcome,
        };
        let feed = feed::Feed::new(parts, judge, window);
        let stop = shutdown.clone();
        shutdown.spawn(async move { feed.run(&stop).await });
        let ledger = Ledger {
            pool: pool.clone(),
            resumable: Arc::clone(&resumable),
            delivered: Arc::clone(&delivered),
            cluster: Arc::clone(&cluster),
            incoming,
            window,
        };
        shutdown.spawn(ledger.keep(shutdown.clone()));
        let (stop, partitions) = (shutdown.clone(), pool.clone());
        shutdown.spawn(async move { maintain_partitions(&partitions, &stop).await });
        Ok(Arc::new(Self {
            registry,
            catalog: Catalog::new(pool.clone()),
            pool,
            cluster,
            live: is_live,
            delivered,
            resumable,
            returning,
            news,
        }))
    }

    /// This gateway among the others.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Connections to the database with the service's own rights.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Subscribes a channel. When this returns every later commit reaches it, and a client that is back has before
    /// these what it missed. Bindings that cannot be had are told in the list of failures and do not keep the others
    /// from it.
    ///
    /// # Errors
    /// When the database cannot be reached, or its changes are not flowing.
    pub async fn subscribe(
        self: &Arc<Self>,
        listener: &Arc<Listener>,
        identity: &Arc<Identity>,
        bindings: &[Binding],
        client: Client,
        replaced: Option<Subscribed>,
    ) -> Result<(Subscribed, Vec<String>), ChannelError> {
        self.flowing(PATIENCE).await?;
        let no_database = |error: sqlx::Error| {
            tracing::warn!(%error, "a subscription could not be checked");
            ChannelError::NoDatabase
        };
        let (mut subscriptions, mut rows, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for binding in bindings {
            match binding.check(&self.catalog, identity, listener).await {
                Ok((subscription, shown)) => {
                    subscriptions.push(subscription);
                    rows.extend(shown);
                }
                Err(subscribe::Refusal::Params(text)) => failures.push(text),
                Err(subscribe::Refusal::Database(error)) => return Err(no_database(error)),
            }
        }
        let held = *self.cluster.held().borrow();
        let row_id = held.ok_or(ChannelError::NoDatabase)?.node.id();
        let earlier = if rows.is_empty() {
            None
        } else {
            let entered = self.enter(row_id, identity, rows, &client, listener).await;
            entered.map_err(no_database)?
        };
        tracing::debug!(channel = listener.id, ?earlier, "a channel subscribes");
        let mut subscribed = Subscribed::new(self, row_id, client, listener);
        match earlier {
            Some(from) => match self.resume(listener, subscriptions, from).await {
                Some(registered) => subscribed.registered = registered,
                None => {
                    subscribed.lose();
                    return Err(ChannelError::NoDatabase);
                }
            },
            None => {
                let old = replaced.map(|mut replaced| std::mem::take(&mut replaced.registered));
                subscribed.registered = self.registry.replace(&old.unwrap_or_default(), subscriptions);
            }
        }
        Ok((subscribed, failures))
    }

    /// Waits until the stream flows.
    ///
    /// # Errors
    /// When it does not within this time.
    pub async fn flowing(&self, patience: Duration) -> Result<(), ChannelError> {
        let mut live = self.live.clone();
        match tokio::time::timeout(patience, live.wait_for(|live| *live)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ChannelError::NoDatabase),
        }
    }

    /// Lets a channel take part after it was sent what it missed. Nothing if the loop of changes has ended.
    async fn resume(
        &self,
        listener: &Arc<Listener>,
        subscriptions: Vec<Subscription>,
        from: Position,
    ) -> Option<Registered> {
        let (back, registered) = oneshot::channel();
        let returning = Returning {
            listener: Arc::clone(listener),
            subscriptions,
            from,
            registered: Vec::new(),
            back,
        };
        self.returning.send(returning).ok()?;
        registered.await.ok()
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
