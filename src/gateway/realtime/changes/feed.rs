//! The one loop that owns the stream: everything that has arrived is matched, asked about and delivered in the order
//! of commits. While Postgres answers, further transactions pile up: batches grow with the load, and order needs no
//! other care.

use std::{sync::Arc, time::Duration};

use pgwire_replication::Lsn;
use sqlx::PgPool;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    deliver::deliver,
    due::Due,
    pgoutput::Relation,
    questions::{ask, decide},
    registry::Registry,
    slot::{self, Node},
    stream::{Stream, StreamError, Streamed},
    tables::Tables,
    verdict::Verdicts,
    visibility::Asker,
};
use crate::{
    db::{Database, session::Failure},
    gateway::realtime::{hub::Hub, messages},
    health::Part,
    shutdown::Shutdown,
};

/// Pauses between attempts to open the stream, doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// What the loop works with.
#[derive(Debug)]
pub struct Parts {
    pub database: Database,
    pub pool: PgPool,
    pub asker: Asker,
    pub node: Node,
    pub registry: Arc<Registry>,
    pub hub: Arc<Hub>,
    pub health: Part,
    pub live: watch::Sender<bool>,
}

/// The loop.
#[derive(Debug)]
pub struct Feed {
    parts: Parts,
    tables: Tables,
    /// Up to where everything has been delivered; zero leaves it to the slot.
    position: Lsn,
    /// Whether the slot cannot go on and has to be made anew.
    slot_failed: bool,
    /// Whether what an earlier run left has been removed.
    started: bool,
}

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Session(#[from] Failure),
}

impl Feed {
    /// A loop that has not started.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            tables: Tables::default(),
            position: Lsn::ZERO,
            slot_failed: false,
            started: false,
        }
    }

    /// Runs until the process is to stop, then drops the slot.
    pub async fn run(mut self, stop: &Shutdown) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let error = tokio::select! {
                error = self.session() => error,
                () = stop.started() => break,
            };
            self.parts.live.send_replace(false);
            self.parts
                .health
                .failing("the stream of database changes is interrupted");
            tracing::warn!(%error, "the stream of database changes is interrupted; trying again");
            if let FeedError::Stream(error) = &error
                && error.is_slots_fault()
            {
                self.slot_failed = true;
            }
            if started.elapsed() > LAST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.started() => break,
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
        // The walsender may take a moment to see that its reader has gone.
        for _ in 0..50 {
            match slot::drop(&self.parts.pool, &self.parts.node).await {
                Ok(()) => return,
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55006") => {
                    sleep(Duration::from_millis(100)).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the replication slot could not be dropped");
                    return;
                }
            }
        }
        tracing::warn!("the replication slot could not be dropped: it is still in use");
    }

    /// One connection's life; returns why it ended.
    async fn session(&mut self) -> FeedError {
        match self.stream().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn stream(&mut self) -> Result<std::convert::Infallible, FeedError> {
        let Parts { pool, node, .. } = &self.parts;
        // One that an earlier run left is as good as a new one, and is there at once: making one waits for every
        // transaction that is running.
        if self.slot_failed || !slot::is_usable(pool, node).await? {
            slot::create(pool, node).await?;
            (self.position, self.slot_failed) = (Lsn::ZERO, false);
            // Whoever was subscribed has missed what the slot before this one did not tell: no silent gap.
            let missed = self.parts.registry.listeners();
            if !missed.is_empty() {
                tracing::warn!(
                    channels = missed.len(),
                    "the replication slot was lost; its channels have to join again"
                );
            }
            missed.iter().for_each(|listener| listener.fail());
        }
        if !self.started {
            sqlx::query(include_str!("../../../../sql/gateway/realtime_forget.sql"))
                .bind(node.name())
                .execute(pool)
                .await?;
            self.started = true;
        }
        let mut stream = Stream::open(&self.parts.database, &node.slot(), self.position).await?;
        self.tables.clear();
        // From here on the slot is ours and keeps what comes.
        self.parts.live.send_replace(true);
        self.parts.health.ready();
        tracing::info!(slot = node.slot(), "streaming database changes");
        let registry = Arc::clone(&self.parts.registry);
        loop {
            let wanted = |relation: &Relation| {
                messages::is_messages(relation) || registry.wants(&relation.schema, &relation.name)
            };
            let batch = stream.batch(wanted).await?;
            if !batch.is_empty() {
                self.pass_on(&batch).await;
            }
            self.position = stream.acknowledge();
        }
    }

    /// Delivers a batch. Waits for a database that is away rather than lose it.
    async fn pass_on(&mut self, batch: &[Streamed]) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.prepare(batch).await {
                Ok((due, verdicts)) => {
                    deliver(&self.parts.hub, &self.tables, batch, &due, &verdicts);
                    self.parts.health.ready();
                    return;
                }
                Err(error) => {
                    self.parts.health.failing("the database does not answer");
                    tracing::warn!(%error, changes = batch.len(), "changes wait for the database");
                    sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    /// Everything a delivery needs to know: who is concerned, and what Postgres says of it.
    async fn prepare<'a>(&mut self, batch: &'a [Streamed]) -> Result<(Vec<Due<'a>>, Verdicts), FeedError> {
        let Parts {
            pool, asker, registry, ..
        } = &mut self.parts;
        let mut due = Due::of(batch, registry);
        self.tables.refresh(pool, &mut due).await?;
        decide(asker, &mut due).await?;
        let verdicts = ask(asker, &self.tables, &due).await?;
        Ok((due, verdicts))
    }
}
