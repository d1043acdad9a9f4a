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
//! - [`judge`] all of this for a batch; [`feed`] the one loop that does it batch by batch
//! - [`history`] the last changes, for clients that lost their connection; [`resume`] who they are and where they were,
//!   by [`position`]; [`ledger`] what the database knows of that

use std::{sync::Arc, time::Duration};

use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::{error::ChannelError, hub::Hub, listener::Listener, token::Identity};
use crate::{
    db::{Database, Login, session::Pool},
    health::Part,
    shutdown::Shutdown,
};
use feed::Delivered;
use ledger::News;
pub use pgoutput::{Change, Relation};
pub use position::Position;
use registry::{Registered, Registry, Subscription};
pub use resume::{Key, LastRef};
use resume::{Resumable, Returning};
use slot::Node;
pub use subscribe::Binding;

mod condition;
mod deliver;
mod due;
mod encode;
mod feed;
mod filter;
mod history;
mod judge;
mod ledger;
mod pgoutput;
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
    delivered: Arc<Delivered>,
    resumable: Arc<Resumable>,
    returning: mpsc::UnboundedSender<Returning>,
    news: ledger::Sender,
}

/// Whose channel it is, and how its client would be known again.
#[derive(Clone, Debug)]
pub struct Client {
    /// Who joined what.
    pub key: Key,
    /// What number the join has; zero where clients do not number.
    pub join_ref: u64,
    /// The number of the last message of its socket.
    pub last_ref: LastRef,
}

/// A channel's subscriptions; they end with it.
#[derive(Debug)]
pub struct Subscribed {
    changes: Arc<Changes>,
    row_id: Uuid,
    client: Client,
    listener: Arc<Listener>,
    registered: Registered,
    lost: bool,
}

impl Subscribed {
    /// Ends them for a client that is gone without a word, and may be back.
    pub fn lose(mut self) {
        self.lost = true;
    }

    /// The client has received more.
    pub fn received(&self) {
        let from = self.listener.delivery.resume_at(Position::default());
        self.tell(self.at(from, false));
    }

    fn at(&self, from: Position, lost: bool) -> News {
        News::At {
            lost,
            last_ref: self.client.last_ref.get(),
            from,
        }
    }

    fn tell(&self, news: News) {
        // Only after the service has ended is nobody there to note it; the next start finds out.
        let _ = self.changes.news.send((self.row_id, news));
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        let Changes {
            registry,
            resumable,
            delivered,
            ..
        } = &*self.changes;
        // Before the registry forgets them: what is delivered from here on may miss them.
        let next = delivered.get();
        registry.replace(&self.registered, Vec::new());
        let resumed_at = if self.lost {
            resumable.lost(&self.client.key, self.row_id, next)
        } else {
            resumable.left(&self.client.key, self.row_id);
            None
        };
        tracing::debug!(
            channel = self.listener.id,
            lost = self.lost,
            ?resumed_at,
            "a channel has ended"
        );
        self.tell(resumed_at.map_or(News::Left, |from| self.at(from, true)));
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
        let (returning, welcome) = mpsc::unbounded_channel();
        let (news, incoming) = mpsc::unbounded_channel();
        let (registry, delivered, resumable) = (Arc::default(), Arc::default(), Arc::<Resumable>::default());
        let asker = visibility::Asker::new(Pool::new(database, Login::Authenticator, 1)?);
        let judge = judge::Judge::new(pool.clone(), asker, health.clone());
        let parts = feed::Parts {
            database: database.clone(),
            pool: pool.clone(),
            node: node.clone(),
            registry: Arc::clone(&registry),
            hub,
            health,
            live,
            delivered: Arc::clone(&delivered),
            returning: welcome,
        };
        let feed = feed::Feed::new(parts, judge);
        let stop = shutdown.clone();
        shutdown.spawn(async move { feed.run(&stop).await });
        shutdown.spawn(ledger::keep(
            pool.clone(),
            Arc::clone(&resumable),
            incoming,
            shutdown.clone(),
        ));
        let (stop, partitions) = (shutdown.clone(), pool.clone());
        shutdown.spawn(async move { maintain_partitions(&partitions, &stop).await });
        Ok(Arc::new(Self {
            registry,
            pool,
            node,
            live: is_live,
            delivered,
            resumable,
            returning,
            news,
        }))
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
        self.flowing().await?;
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
        let earlier = self.earlier(&client).await.map_err(no_database)?;
        tracing::debug!(channel = listener.id, ?earlier, "a channel subscribes");
        let (row_id, key) = (self.node.id(), client.key.clone());
        if !rows.is_empty() {
            let from = earlier.map_or_else(|| self.delivered.get(), |(from, _)| from);
            sqlx::query(include_str!("../../../../sql/gateway/realtime_subscribe.sql"))
                .bind(row_id)
                .bind(identity.claims.raw())
                .bind(serde_json::Value::from(rows))
                .bind(&key.0[..])
                .bind(client.last_ref.get().cast_signed())
                .bind(from.lsn())
                .bind(i64::from(from.change))
                .execute(&self.pool)
                .await
                .map_err(no_database)?;
        }
        let delivery = Arc::clone(&listener.delivery);
        self.resumable.joined(key, row_id, client.last_ref.clone(), delivery);
        let mut subscribed = Subscribed {
            changes: Arc::clone(self),
            row_id,
            client,
            listener: Arc::clone(listener),
            registered: Vec::new(),
            lost: false,
        };
        subscribed.registered = match earlier {
            Some((from, at_latest)) => {
                let resumed = self.resume(listener, subscriptions, from, at_latest).await;
                resumed.ok_or(ChannelError::NoDatabase)?
            }
            None => {
                let old = replaced.map(|mut replaced| std::mem::take(&mut replaced.registered));
                self.registry.replace(&old.unwrap_or_default(), subscriptions)
            }
        };
        Ok((subscribed, failures))
    }

    /// Waits until the stream flows.
    ///
    /// # Errors
    /// When it does not in good time.
    pub async fn flowing(&self) -> Result<(), ChannelError> {
        let mut live = self.live.clone();
        match tokio::time::timeout(PATIENCE, live.wait_for(|live| *live)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ChannelError::NoDatabase),
        }
    }

    /// Where the client's earlier channel has to go on, if it had one, and whether that is the earliest it can be.
    async fn earlier(&self, client: &Client) -> sqlx::Result<Option<(Position, bool)>> {
        if client.join_ref == 0 {
            return Ok(None);
        }
        if let Some((id, from)) = self.resumable.claim(&client.key, client.join_ref) {
            let _ = self.news.send((id, News::Left));
            return Ok(Some((from, false)));
        }
        let found: Option<(i64, i64, bool)> =
            sqlx::query_as(include_str!("../../../../sql/gateway/realtime_claim.sql"))
                .bind(&client.key.0[..])
                .bind(client.join_ref.cast_signed())
                .bind(history::AGE.as_secs_f64())
                .fetch_optional(&self.pool)
                .await?;
        Ok(found.map(|(commit, change, at_latest)| {
            let change = u32::try_from(change).unwrap_or_default();
            (Position::new(commit.cast_unsigned(), change), at_latest)
        }))
    }

    /// Lets a channel take part after it was sent what it missed. Nothing if the loop of changes has ended.
    async fn resume(
        &self,
        listener: &Arc<Listener>,
        subscriptions: Vec<Subscription>,
        from: Position,
        at_latest: bool,
    ) -> Option<Registered> {
        let (back, registered) = oneshot::channel();
        let returning = Returning {
            listener: Arc::clone(listener),
            subscriptions,
            from,
            at_latest,
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
