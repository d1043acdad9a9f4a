//! What is said to the other gateways: messages in the write-ahead log, which every gateway reads anyway. Nothing is
//! stored, and a gateway that is alone says nothing.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::PgPool;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use uuid::Uuid;

use super::{
    Held,
    wire::{self, Header, Item},
};
use crate::{
    gateway::realtime::{
        error::ChannelError,
        hub::{Hub, News},
    },
    shutdown::Shutdown,
};

/// What the messages are known by.
pub const PREFIX: &str = "switchboard.realtime";
/// A gateway that has nothing to say says so after this time.
pub const ALIVE: Duration = Duration::from_secs(5);

/// Broadcasts that may wait to be written.
const MAX_WAITING: usize = 8_192;
/// Their bytes.
const MAX_BYTES: usize = 32 << 20;
/// A content takes no more items at this size, in bytes. Everything that waits goes together: the more there is to say,
/// the fewer statements it takes each.
const FULL: usize = 1 << 20;
/// How long a statement may take.
const STATEMENT: Duration = Duration::from_secs(5);
/// How long a content is tried; a broadcast that is older is not worth much.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// The same once the database is known to be away.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// The speaking end.
#[derive(Debug)]
pub struct Bus {
    queue: mpsc::Sender<Vec<u8>>,
    /// Bytes in the queue.
    waiting: AtomicUsize,
    /// Whether there is anybody to hear it.
    others: AtomicBool,
    /// Whether the database does not take it.
    away: AtomicBool,
    ask: AtomicBool,
    wake: Notify,
}

/// What waits to be said.
pub type Queue = mpsc::Receiver<Vec<u8>>;

impl Bus {
    /// A bus on which nobody is yet.
    pub fn new() -> (Self, Queue) {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let bus = Self {
            queue,
            waiting: AtomicUsize::new(0),
            others: AtomicBool::new(false),
            away: AtomicBool::new(false),
            ask: AtomicBool::new(false),
            wake: Notify::new(),
        };
        (bus, waiting)
    }

    /// Whether what is said now can reach the others, if there are any.
    ///
    /// # Errors
    /// When the database does not take it.
    pub fn check(&self) -> Result<(), ChannelError> {
        if self.others.load(Ordering::Relaxed) && self.away.load(Ordering::Relaxed) {
            return Err(ChannelError::NoDatabase);
        }
        Ok(())
    }

    /// Says something to the others, if there are any.
    ///
    /// # Errors
    /// When it cannot be said now. Nothing waits for a database that is away.
    pub fn say(&self, item: &Item) -> Result<(), ChannelError> {
        if !self.others.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.check()?;
        let mut said = Vec::new();
        item.write(&mut said);
        let size = said.len();
        let before = self.waiting.fetch_add(size, Ordering::Relaxed);
        if before > 0 && before + size > MAX_BYTES || self.queue.try_send(said).is_err() {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            return Err(ChannelError::TooManyMessages);
        }
        Ok(())
    }

    /// Asks the others who is present there.
    pub fn ask(&self) {
        self.ask.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Whether nobody is there to hear it.
    pub fn is_alone(&self) -> bool {
        !self.others.load(Ordering::Relaxed)
    }

    /// Whether there are others.
    pub fn has_others(&self, others: bool) {
        self.others.store(others, Ordering::Relaxed);
        self.wake.notify_one();
    }

    fn take(&self, queue: &mut Queue) -> Option<Vec<u8>> {
        let said = queue.try_recv().ok()?;
        self.waiting.fetch_sub(said.len(), Ordering::Relaxed);
        Some(said)
    }
}

/// Writes what is said until the service ends, and a farewell then.
#[derive(Debug)]
pub struct Writer {
    bus: Arc<Bus>,
    queue: Queue,
    hub: Arc<Hub>,
    pool: PgPool,
    held: watch::Receiver<Option<Held>>,
    stop: Shutdown,
    /// Taken, and not written yet.
    items: VecDeque<Vec<u8>>,
    /// Whose the last content was, and its number.
    run: Option<Uuid>,
    number: u64,
    written: Instant,
}

impl Writer {
    /// One that has not begun.
    pub fn new(
        (bus, queue): (Arc<Bus>, Queue),
        hub: Arc<Hub>,
        pool: PgPool,
        held: watch::Receiver<Option<Held>>,
        stop: Shutdown,
    ) -> Self {
        Self {
            bus,
            queue,
            hub,
            pool,
            held,
            stop,
            items: VecDeque::new(),
            run: None,
            number: 0,
            written: Instant::now(),
        }
    }

    /// Runs until the service ends.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.stop.started() => break,
                Some(first) = self.queue.recv() => {
                    self.bus.waiting.fetch_sub(first.len(), Ordering::Relaxed);
                    self.items.push_back(first);
                }
                () = self.hub.has_news.notified() => {}
                () = self.bus.wake.notified() => {}
                () = sleep_until(self.written + ALIVE) => {}
            }
            if !self.say_all(None).await {
                self.stop.token().run_until_cancelled(sleep(LONG_PAUSE)).await;
            }
        }
        self.say_all(Some(Item::Bye)).await;
        self.bus.has_others(false);
    }

    /// Writes everything there is to say, and a last word. False if the database does not take it.
    async fn say_all(&mut self, last: Option<Item>) -> bool {
        let held = *self.held.borrow();
        let Some(Held { node, run }) = held.filter(|_| self.bus.others.load(Ordering::Relaxed)) else {
            // Nobody is there to hear it.
            self.drop_all();
            self.written = Instant::now();
            return true;
        };
        if self.run != Some(run) {
            (self.run, self.number) = (Some(run), 0);
            self.hub.tell_everybody();
        }
        loop {
            let number = self.number + 1;
            let mut content = wire::begin(&Header { node, run, number });
            let something = self.gather(&mut content);
            if !something {
                match &last {
                    Some(last) => last.write(&mut content),
                    None if self.written.elapsed() >= ALIVE => {}
                    None => return true,
                }
            }
            self.number = number;
            if !self.write(&content).await {
                // Whoever missed it sees by the number that something is missing.
                self.drop_all();
                self.hub.tell_everybody();
                return false;
            }
            self.written = Instant::now();
            if !something {
                return true;
            }
        }
    }

    /// Puts into a content what waits, as far as there is room. False if nothing does.
    fn gather(&mut self, content: &mut Vec<u8>) -> bool {
        let empty = content.len();
        if self.bus.ask.swap(false, Ordering::Relaxed) {
            Item::Ask.write(content);
        }
        if self.items.is_empty()
            && let Some(news) = self.hub.take_news()
        {
            self.items.extend(written(news));
        }
        while content.len() < FULL
            && let Some(item) = self.items.pop_front().or_else(|| self.bus.take(&mut self.queue))
        {
            content.extend(item);
        }
        content.len() > empty
    }

    fn drop_all(&mut self) {
        self.items.clear();
        while self.bus.take(&mut self.queue).is_some() {}
    }

    /// Tries for a while. It may be written and called failed; then it is written again, which its number tells.
    async fn write(&self, content: &[u8]) -> bool {
        let (away, started) = (self.bus.away.load(Ordering::Relaxed), Instant::now());
        loop {
            // In a transaction: it is flushed when that commits, and read at once. Without one it waits for a flush.
            let statement = sqlx::query("select pg_catalog.pg_logical_emit_message(true, $1, $2)")
                .bind(PREFIX)
                .bind(content)
                .execute(&self.pool);
            let error = match timeout(STATEMENT, statement).await {
                Ok(Ok(_)) => {
                    self.bus.away.store(false, Ordering::Relaxed);
                    return true;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the database does not answer".to_owned(),
            };
            if away || started.elapsed() > PATIENCE {
                if !away {
                    tracing::warn!(%error, "broadcasts and presence do not reach other gateways");
                }
                self.bus.away.store(true, Ordering::Relaxed);
                return false;
            }
            sleep(PAUSE).await;
        }
    }
}

fn written(news: News) -> Vec<Vec<u8>> {
    let items = match news {
        News::Changes(changes) => changes
            .into_iter()
            .map(|((topic, channel), entry)| match entry {
                Some(entry) => Item::Present(topic, channel, entry),
                None => Item::Absent(topic, channel),
            })
            .collect(),
        News::Everybody(everybody) => {
            let mut items = vec![Item::Everybody];
            items.extend(
                everybody
                    .into_iter()
                    .map(|((topic, channel), entry)| Item::Present(topic, channel, entry)),
            );
            items.push(Item::NobodyElse);
            items
        }
    };
    let bytes = |item: &Item| {
        let mut out = Vec::new();
        item.write(&mut out);
        out
    };
    items.iter().map(bytes).collect()
}
