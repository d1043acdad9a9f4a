//! The one loop that owns the stream: everything that has arrived is matched, asked about and delivered in the order
//! of commits. While Postgres answers, further transactions pile up: batches grow with the load, and order needs no
//! other care.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use pgwire_replication::Lsn;
use sqlx::PgPool;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    filter::Condition,
    pgoutput::{Cell, Kind, Relation},
    record,
    registry::{Registry, Subscription},
    slot::{self, Node},
    stream::{Stream, StreamError, Streamed},
    table::{Access, Deleted, Table},
    visibility::{Answer, Asker, Question},
};
use crate::{
    db::{Database, session::Failure},
    gateway::realtime::{hub::Hub, listener::Listener, messages, protocol::Version},
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
    tables: HashMap<u32, Table>,
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

/// A change and a subscription it concerns.
struct Due<'a> {
    streamed: &'a Streamed,
    subscription: Arc<Subscription>,
    undecided: Vec<Arc<Condition>>,
}

/// What is asked of one identity by one statement: the statement's name and the claims.
type Asking<'a> = (&'a str, &'a str);

/// Rows of a condition that only Postgres can decide.
struct Undecided {
    condition: Arc<Condition>,
    role: String,
    texts: Vec<String>,
    /// The places of the rows among the due.
    places: Vec<usize>,
}

impl Feed {
    /// A loop that has not started.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            tables: HashMap::new(),
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
                Ok((due, visible)) => {
                    self.deliver(batch, &due, &visible);
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
        let mut due = Vec::new();
        for streamed in batch {
            if messages::is_messages(&streamed.relation) {
                continue;
            }
            let Some(row) = streamed.change.new.as_ref().or(streamed.change.old.as_ref()) else {
                continue;
            };
            let matching = self
                .parts
                .registry
                .matching(&streamed.relation, streamed.change.kind, row);
            due.extend(matching.into_iter().map(|(subscription, undecided)| Due {
                streamed,
                subscription,
                undecided,
            }));
        }
        self.describe(&due).await?;
        self.decide(&mut due).await?;
        let verdicts = self.ask(&due).await?;
        Ok((due, verdicts))
    }

    /// Looks up the tables and rights that are new to us or no longer fresh.
    async fn describe(&mut self, due: &[Due<'_>]) -> Result<(), FeedError> {
        let mut looked_up = HashSet::new();
        for due in due {
            let relation = &due.streamed.relation;
            let known = self
                .tables
                .get(&relation.oid)
                .is_some_and(|table| Arc::ptr_eq(&table.relation, relation));
            if !known {
                match Table::describe(&self.parts.pool, Arc::clone(relation)).await? {
                    Some(table) => self.tables.insert(relation.oid, table),
                    None => self.tables.remove(&relation.oid),
                };
            }
            let role = &due.subscription.identity.role;
            if let Some(table) = self.tables.get_mut(&relation.oid)
                && looked_up.insert((relation.oid, Arc::as_ptr(relation).addr(), role))
            {
                table.access(&self.parts.pool, role).await?;
            }
        }
        Ok(())
    }

    /// Lets Postgres decide the conditions we cannot, each once for all its rows; drops what does not hold.
    async fn decide(&mut self, due: &mut Vec<Due<'_>>) -> Result<(), FeedError> {
        let mut rows: HashMap<usize, Undecided> = HashMap::new();
        for (place, due) in due.iter().enumerate() {
            let row = due.streamed.change.new.as_ref().or(due.streamed.change.old.as_ref());
            for condition in &due.undecided {
                let cell = row.and_then(|row| condition.cell(&due.streamed.relation, row));
                let Some(text) = cell.and_then(Cell::text) else {
                    continue;
                };
                let undecided = rows.entry(Arc::as_ptr(condition).addr()).or_insert_with(|| Undecided {
                    condition: Arc::clone(condition),
                    role: due.subscription.identity.role.clone(),
                    texts: Vec::new(),
                    places: Vec::new(),
                });
                undecided.texts.push(text.to_owned());
                undecided.places.push(place);
            }
        }
        let mut refused = HashSet::new();
        for Undecided {
            condition,
            role,
            texts,
            places,
        } in rows.into_values()
        {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let holds = self.parts.asker.satisfying(&role, &condition, &texts).await?;
            let failing = places.iter().enumerate().filter(|(at, _)| !holds.contains(at));
            refused.extend(failing.map(|(_, place)| *place));
        }
        let mut number = 0;
        due.retain(|_| {
            number += 1;
            !refused.contains(&(number - 1))
        });
        Ok(())
    }

    /// Asks for each identity once about all rows that concern it.
    async fn ask(&mut self, due: &[Due<'_>]) -> Result<Verdicts, FeedError> {
        let (questions, asked, transactions) = self.questions(due);
        let answers = if questions.is_empty() {
            Vec::new()
        } else {
            self.parts.asker.ask(&transactions, &questions).await?
        };
        Ok(Verdicts { asked, answers })
    }

    /// What to ask, where each of the due finds its answer, and the transactions an answer has to know of.
    fn questions(&self, due: &[Due<'_>]) -> (Vec<Question>, Asked, Vec<u32>) {
        let (mut questions, mut numbers): (Vec<Question>, HashMap<Asking<'_>, usize>) = Default::default();
        let mut places: HashMap<(usize, usize), usize> = HashMap::new();
        let (mut asked, mut transactions) = (HashMap::new(), HashSet::new());
        for (at, due) in due.iter().enumerate() {
            let Some((table, access)) = self.known(due) else {
                continue;
            };
            let change = &due.streamed.change;
            let (statement, row) = match (change.kind, &change.new, &change.old) {
                (Kind::Delete, _, Some(old)) => match &access.deleted {
                    Deleted::Asked(statement) => (statement, Some(table.old_row(old))),
                    Deleted::Unasked => continue,
                },
                (_, Some(new), _) => match &access.by_key {
                    Some(statement) => (statement, table.key(new)),
                    None => continue,
                },
                _ => continue,
            };
            let Some(row) = row else { continue };
            let identity = &due.subscription.identity;
            let asking = (statement.name(), identity.claims.raw());
            let number = *numbers.entry(asking).or_insert_with(|| {
                questions.push(Question {
                    statement: Arc::clone(statement),
                    identity: Arc::clone(identity),
                    rows: Vec::new(),
                });
                questions.len() - 1
            });
            let place = *places
                .entry((number, std::ptr::from_ref(due.streamed).addr()))
                .or_insert_with(|| {
                    questions[number].rows.push(row);
                    questions[number].rows.len() - 1
                });
            asked.insert(at, (number, place));
            transactions.insert(due.streamed.xid);
        }
        (questions, asked, transactions.into_iter().collect())
    }

    /// The table as this change is written, and what the subscriber may read of it.
    fn known(&self, due: &Due<'_>) -> Option<(&Table, &Arc<Access>)> {
        let table = self.tables.get(&due.streamed.relation.oid)?;
        let current = table.relation.columns == due.streamed.relation.columns;
        let access = table.known_access(&due.subscription.identity.role)?;
        current.then_some((table, access))
    }

    /// Sends everything in the order of commits.
    fn deliver(&self, batch: &[Streamed], due: &[Due<'_>], verdicts: &Verdicts) {
        let mut due = due.iter().enumerate().peekable();
        for streamed in batch {
            if messages::is_messages(&streamed.relation) {
                messages::deliver(&self.parts.hub, &streamed.relation, &streamed.change);
                continue;
            }
            let mut events: HashMap<u64, Event<'_>> = HashMap::new();
            while let Some((at, due)) = due.next_if(|(_, due)| std::ptr::eq(due.streamed, streamed)) {
                let subscription = &*due.subscription;
                let listener = &subscription.listener;
                let outcome = self
                    .known(due)
                    .map(|(table, access)| verdicts.of(at, table, access, streamed));
                let shown = match outcome {
                    // The table or the role is gone: nobody is left who could have the right.
                    None | Some(Verdict::Hidden) => continue,
                    Some(Verdict::Failed(reason)) => {
                        listener.system(
                            "postgres_changes",
                            "error",
                            &format!("This change could not be checked: {reason}"),
                        );
                        continue;
                    }
                    Some(Verdict::TooSlow) => {
                        listener.system("postgres_changes", "error", "{:error, \"Too many database timeouts\"}");
                        listener.fail();
                        continue;
                    }
                    Some(Verdict::Visible) => None,
                    Some(Verdict::Error(text)) => Some(text),
                };
                let event = events.entry(listener.id).or_insert_with(|| Event {
                    subscription,
                    error: shown,
                    ids: Vec::new(),
                });
                if !event.ids.contains(&subscription.id) {
                    event.ids.push(subscription.id);
                }
            }
            self.send(streamed, events.into_values());
        }
    }

    /// What is the same for several subscribers is written once.
    fn send<'a>(&self, streamed: &Streamed, events: impl Iterator<Item = Event<'a>>) {
        let Some(table) = self.tables.get(&streamed.relation.oid) else {
            return;
        };
        let (mut data, mut frames) = (HashMap::new(), HashMap::new());
        for event in events {
            let Subscription {
                identity,
                select,
                listener,
                ..
            } = event.subscription;
            let Some(access) = table.known_access(&identity.role) else {
                continue;
            };
            let data: &String = data
                .entry((Arc::as_ptr(access), select.as_deref(), event.error))
                .or_insert_with(|| match event.error {
                    Some(error) => record::error(table, streamed.change.kind, error),
                    None => record::data(table, access, select.as_deref(), &streamed.change, streamed.committed),
                });
            let Listener { topic, version, .. } = &**listener;
            let key: (Version, &str, Vec<u32>, *const String) = (*version, topic, event.ids, data);
            let frame = frames.entry(key).or_insert_with_key(|(version, topic, ids, _)| {
                let payload = format!("{{\"ids\":{ids:?},\"data\":{data}}}");
                version.text(None, None, topic, "postgres_changes", &payload)
            });
            listener.send(frame.clone());
        }
    }
}

/// One change for one channel.
struct Event<'a> {
    /// One of those that match; a channel has one identity.
    subscription: &'a Subscription,
    error: Option<&'static str>,
    ids: Vec<u32>,
}

/// By the place among the due: the question's number, and the row's place in it.
type Asked = HashMap<usize, (usize, usize)>;

/// What Postgres said.
struct Verdicts {
    asked: Asked,
    answers: Vec<Answer>,
}

enum Verdict<'a> {
    Visible,
    Hidden,
    Failed(&'a str),
    TooSlow,
    /// Told as an event without the row.
    Error(&'static str),
}

impl Verdicts {
    fn of(&self, at: usize, table: &Table, access: &Access, streamed: &Streamed) -> Verdict<'_> {
        let key_readable = table.primary_key.iter().all(|position| access.columns[*position]);
        let nothing_readable = !access.columns.contains(&true);
        if streamed.change.kind != Kind::Delete {
            if nothing_readable || !key_readable {
                return Verdict::Error("Error 401: Unauthorized");
            }
            if access.by_key.is_some() && table.primary_key.is_empty() {
                return Verdict::Error("Error 400: Bad Request, no primary key");
            }
        } else if nothing_readable {
            return Verdict::Hidden;
        }
        let Some((number, place)) = self.asked.get(&at) else {
            return Verdict::Visible;
        };
        match &self.answers[*number] {
            Answer::Visible(rows) if rows.contains(place) => Verdict::Visible,
            Answer::Visible(_) => Verdict::Hidden,
            Answer::Failed(reason) => Verdict::Failed(reason),
            Answer::TooSlow => Verdict::TooSlow,
        }
    }
}
