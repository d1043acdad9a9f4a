//! The one loop that owns the stream: everything that has arrived is matched, asked about and delivered in the order
//! of commits. While Postgres answers, further transactions pile up: batches grow with the load, and order needs no
//! other care.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pgwire_replication::Lsn;
use sqlx::PgPool;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use super::{
    due::Due,
    history::History,
    judge::{Judge, Unreadable},
    offer::Offer,
    pause::Pause,
    policy::watch::Watch,
    position::Position,
    registry::Registry,
    resume::Returning,
    slot,
    stream::{Batch, Said, Stream, StreamError},
};
use crate::{
    db::Database,
    gateway::realtime::{
        cluster::{Cluster, Held, Node},
        hub::Hub,
    },
    health::Part,
    shutdown::Shutdown,
};

/// What the loop works with.
#[derive(Debug)]
pub struct Parts {
    pub database: Database,
    pub pool: PgPool,
    pub cluster: Arc<Cluster>,
    pub registry: Arc<Registry>,
    pub hub: Arc<Hub>,
    pub health: Part,
    pub live: watch::Sender<bool>,
    /// Before which place everything has been delivered.
    pub delivered: Arc<Delivered>,
    /// Channels of clients that lost their connection and are back.
    pub returning: mpsc::UnboundedReceiver<Returning>,
}

/// Before which place everything has been delivered, to whoever it was for then; and where the last change was.
#[derive(Debug, Default)]
pub struct Delivered(Mutex<(Position, Position)>);

impl Delivered {
    /// The place.
    pub fn get(&self) -> Position {
        self.lock().0
    }

    /// Behind the last change.
    pub fn last_change(&self) -> Position {
        self.lock().1
    }

    fn start(&self, position: Position) {
        *self.lock() = (position, position);
    }

    /// Everything before `end` has been, with the last change before `last`, if there was one.
    fn reached(&self, end: Position, last: Option<Position>) {
        let mut places = self.lock();
        *places = (last.map_or(end, |last| last.max(end)), last.unwrap_or(places.1));
    }

    fn lock(&self) -> MutexGuard<'_, (Position, Position)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop.
#[derive(Debug)]
pub struct Feed {
    parts: Parts,
    judge: Judge,
    history: History,
    offer: Offer,
    watch: Watch,
    /// Up to where the stream has been read and delivered; nothing before the first time.
    position: Option<Lsn>,
    /// Where the log ended when this process first read it: what is before was for clients of an earlier one.
    past: Lsn,
    /// Whether the slot cannot go on and has to be made anew.
    slot_failed: bool,
    /// As whom what an earlier run left has been removed.
    started: Option<Held>,
}

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("this gateway has another name, or was taken for dead")]
    Renamed,
    #[error(transparent)]
    Policies(#[from] Unreadable),
    #[error("what policies read can be streamed from here on")]
    Watchable,
}

impl Feed {
    /// A loop that has not started.
    pub fn new(parts: Parts, judge: Judge, window: Duration) -> Self {
        Self {
            parts,
            judge,
            history: History::new(window),
            offer: Offer::default(),
            watch: Watch::default(),
            position: None,
            past: Lsn::ZERO,
            slot_failed: false,
            started: None,
        }
    }

    /// Runs until the process is to stop, then drops the slot.
    pub async fn run(mut self, stop: &Shutdown) {
        let mut pause = Pause::default();
        loop {
            let started = Instant::now();
            let error = tokio::select! {
                error = self.session() => error,
                () = stop.started() => break,
            };
            if let FeedError::Watchable = error {
                tracing::info!("opening the stream of database changes anew: {error}");
                continue;
            }
            self.parts.live.send_replace(false);
            self.parts
                .health
                .failing("the stream of database changes is interrupted");
            tracing::warn!(%error, "the stream of database changes is interrupted; trying again");
            match &error {
                // It may be a publication that was made, or changed, after what is still to be read.
                FeedError::Policies(_) => self.watch.fail(),
                FeedError::Stream(error) if error.is_refusal() && self.watch.on => self.watch.fail(),
                FeedError::Stream(error) if error.is_slots_fault() => self.slot_failed = true,
                _ => {}
            }
            if started.elapsed() > Pause::LONGEST {
                pause = Pause::default();
            }
            tokio::select! {
                () = sleep(pause.next()) => {}
                () = stop.started() => break,
            }
        }
        if let Some(Held { node, .. }) = self.started {
            release_slot(&self.parts.pool, node).await;
        }
    }

    /// One connection's life; returns why it ended.
    async fn session(&mut self) -> FeedError {
        match self.stream().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn stream(&mut self) -> Result<std::convert::Infallible, FeedError> {
        let mut names = self.parts.cluster.held();
        let held = names.wait_for(Option::is_some).await.ok().and_then(|held| *held);
        let held = held.ok_or(FeedError::Renamed)?;
        if self.started != Some(held) {
            (self.started, self.position) = (None, None);
        }
        let node = held.node;
        let from = self.open_slot(node).await?;
        if self.started.is_none() {
            self.start(held, from).await?;
        }
        let watching = self.watch.begin(&self.parts.pool, self.past.max(from)).await?;
        let mut stream = Stream::open(&self.parts.database, &node.slot(), from, watching).await?;
        self.judge.begin(watching);
        self.offer = Offer::default();
        // From here on the slot is ours and keeps what comes.
        tracing::info!(slot = node.slot(), watching, "streaming database changes");
        self.parts.cluster.listens();
        self.judge.freshen().await?;
        loop {
            if self.watch.is_over(stream.position()) {
                return Err(FeedError::Watchable);
            }
            if stream.position() >= self.past && !*self.parts.live.borrow() {
                self.parts.live.send_replace(true);
                self.parts.health.ready();
            }
            tokio::select! {
                arrived = stream.arrival() => {
                    arrived?;
                    let batch = stream.batch().await?;
                    let position = stream.position();
                    self.hear(stream.said());
                    self.take(batch, position).await?;
                    stream.acknowledge(self.history.dispensable(position));
                }
                Some(first) = self.parts.returning.recv() => {
                    self.judge.freshen().await?;
                    self.welcome_back(first).await;
                }
                _ = names.changed() => return Err(FeedError::Renamed),
            }
        }
    }

    /// Removes what an earlier run left, and is there.
    async fn start(&mut self, held: Held, from: Lsn) -> sqlx::Result<()> {
        let Parts { pool, .. } = &self.parts;
        sqlx::query(include_str!("../../../../sql/gateway/realtime_forget.sql"))
            .bind(held.node.name())
            .execute(pool)
            .await?;
        sqlx::query(include_str!("../../../../sql/gateway/realtime_enter.sql"))
            .bind(held.node.name())
            .bind(held.run)
            .bind(from.to_string())
            .execute(pool)
            .await?;
        self.started = Some(held);
        Ok(())
    }

    /// Takes in what other gateways say, apart from what was said before this process was there.
    fn hear(&self, said: Vec<Said>) {
        for said in said.into_iter().filter(|said| said.at >= self.past) {
            self.parts.cluster.hear(said.content);
        }
    }

    /// Where to read from; makes the slot if there is none to go on with.
    async fn open_slot(&mut self, node: Node) -> Result<Lsn, FeedError> {
        let Parts { pool, .. } = &self.parts;
        let (read, end) = slot::find(pool, node).await?;
        // One that an earlier run left is there at once: making one waits for every transaction that is running.
        let known = read.filter(|_| !self.slot_failed);
        let from = match (known, self.position) {
            (Some(_), Some(position)) => return Ok(position),
            (Some(read), None) => {
                self.history.clear(Position::new(read.0, 0));
                read
            }
            (None, _) => {
                slot::create(pool, node).await?;
                (self.slot_failed, self.started) = (false, None);
                let (read, end) = slot::find(pool, node).await?;
                let read = read.unwrap_or(end);
                self.history.clear(Position::new(read.0, 0));
                read
            }
        };
        // Whoever was subscribed has missed what the slot before this one did not tell: no silent gap.
        let missed = self.parts.registry.listeners();
        if !missed.is_empty() {
            tracing::warn!(
                channels = missed.len(),
                "the replication slot was lost; its channels have to join again"
            );
        }
        missed.iter().for_each(|listener| listener.fail());
        self.past = end;
        self.position = Some(from);
        self.parts.delivered.start(Position::new(from.0, 0));
        Ok(from)
    }

    /// Delivers what arrived and keeps it for those who are away.
    async fn take(&mut self, batch: Batch, end: Lsn) -> Result<(), Unreadable> {
        self.judge.observe(&batch).await?;
        let batch = self.offer.of(batch, self.judge.policies());
        let past = batch.partition_point(|streamed| streamed.position.commit < self.past.0);
        let present = &batch[past..];
        if !present.is_empty() {
            let registry = &self.parts.registry;
            let due = |part| Due::of(part, registry);
            self.judge.deliver(present, Some(&self.parts.hub), due).await;
        }
        let inside = batch.last().map(|last| last.position.next());
        self.history.keep(batch, end, std::time::Instant::now());
        self.position = Some(end);
        self.parts.delivered.reached(Position::new(end.0, 0), inside);
        Ok(())
    }

    /// Delivers to channels that are back what they missed, then lets them take part.
    async fn welcome_back(&mut self, first: Returning) {
        let mut returning = vec![first];
        while let Ok(next) = self.parts.returning.try_recv() {
            returning.push(next);
        }
        // In a registry of their own: nobody else is served again.
        let registry = Registry::default();
        let mut missing_since = HashMap::new();
        for channel in &mut returning {
            if self.history.has_gap(channel.from) {
                channel.tell_gap();
            }
            missing_since.insert(channel.listener.id, channel.from);
            channel.registered = registry.replace(&Vec::new(), std::mem::take(&mut channel.subscriptions));
        }
        let first = missing_since.values().min().copied().unwrap_or_default();
        for part in self.history.since(first) {
            let due = |part| {
                let mut due = Due::of(part, &registry);
                due.retain(|due| missing_since[&due.subscription.listener.id] <= due.streamed.position);
                due
            };
            self.judge.deliver(part, None, due).await;
        }
        for channel in returning {
            self.parts.registry.adopt(&channel.registered);
            channel.listener.delivery.caught_up();
            channel.done();
        }
    }
}

/// Leaves the slot to the next run, whose clients want what they miss meanwhile; drops it where Postgres would
/// keep the log for it without end.
async fn release_slot(pool: &PgPool, node: Node) {
    // The walsender may take a moment to see that its reader has gone.
    for _ in 0..50 {
        let released = match slot::may_stay(pool).await {
            Ok(true) => Ok(()),
            Ok(false) => slot::drop(pool, node).await,
            Err(error) => Err(error),
        };
        match released {
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
