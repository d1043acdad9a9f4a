//! The write-ahead log as whole transactions.

use std::{collections::HashMap, sync::Arc};

use axum::body::Bytes;
use futures_util::FutureExt;
use pgwire_replication::{
    Lsn, PgWireError, ReplicationClient, ReplicationConfig, ReplicationEvent, SslMode, TlsConfig,
};
use sqlx::postgres::PgSslMode;

use super::{
    pgoutput::{self, Cell, Change, Message, Relation},
    position::Position,
};
use crate::{
    config::Secret,
    db::{Database, Login},
    gateway::realtime::cluster::PREFIX,
};

/// What clients may subscribe to, what the database broadcasts, and what policies read.
const PUBLICATIONS: [&str; 3] = [
    "supabase_realtime",
    "supabase_realtime_messages_publication",
    "switchboard_policies",
];

/// What an event trigger puts into the stream for every change of definitions.
const DDL: &str = "realtime.ddl";

/// Values are compared with what other connections print.
const OPTIONS: &str =
    "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1 -c bytea_output=hex";

/// Changes taken together at most. A transaction with more comes in pieces: it has committed when it is streamed.
const MAX_CHANGES: usize = 4_096;

/// Bytes of messages taken together at most, about.
const MAX_MESSAGES: usize = 16 << 20;

/// What a gateway said in the log.
#[derive(Debug)]
pub struct Said {
    /// Where it stands.
    pub at: Lsn,
    /// What it is.
    pub content: Bytes,
}

/// A row's change with the definition it is written by.
#[derive(Debug)]
pub struct Streamed {
    /// Where it stands among all others.
    pub position: Position,
    /// When it committed, microseconds since 2000.
    pub committed: i64,
    /// The table as it was then.
    pub relation: Arc<Relation>,
    /// What happened.
    pub change: Change,
}

impl Streamed {
    /// The memory it takes, in bytes, about.
    pub fn size(&self) -> usize {
        let rows = [&self.change.old, &self.change.new].into_iter().flatten();
        let cells = rows
            .flatten()
            .map(|cell| cell.text().map_or(0, str::len) + size_of::<Cell>());
        cells.sum::<usize>() + size_of::<Self>()
    }
}

/// What arrived together.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order of their commits.
    pub transactions: Vec<Transaction>,
    /// Whether more of the last transaction is to come.
    pub open: bool,
    changes: usize,
}

/// A transaction, or a piece of one.
#[derive(Debug)]
pub struct Transaction {
    /// Its number.
    pub xid: u32,
    /// Whether definitions changed.
    pub ddl: bool,
    /// The tables that lost all rows.
    pub truncated: Vec<u32>,
    /// The rows that changed.
    pub changes: Vec<Streamed>,
}

impl Batch {
    /// Rows that changed.
    pub fn changes(&self) -> usize {
        self.changes
    }

    fn transaction(&mut self, open: &Open) -> &mut Transaction {
        if self.transactions.last().is_none_or(|last| last.xid != open.xid) {
            self.transactions.push(Transaction {
                xid: open.xid,
                ddl: false,
                truncated: Vec::new(),
                changes: Vec::new(),
            });
        }
        self.transactions.last_mut().expect("one was just added")
    }
}

/// The open stream.
pub struct Stream {
    client: ReplicationClient,
    relations: HashMap<u32, Arc<Relation>>,
    open: Option<Open>,
    said: Vec<Said>,
    /// Taken from the client, and not yet looked at.
    arrived: Option<ReplicationEvent>,
    position: Lsn,
}

/// The transaction under way.
struct Open {
    xid: u32,
    committed: i64,
    /// Of the next change.
    position: Position,
}

/// Why the stream ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection, or what Postgres said.
    #[error(transparent)]
    Connection(#[from] PgWireError),
    /// Not what the protocol says.
    #[error(transparent)]
    Malformed(#[from] pgoutput::Malformed),
    /// Postgres ended it.
    #[error("the server ended the replication stream")]
    Ended,
}

impl StreamError {
    /// Whether it is Postgres' word.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Connection(PgWireError::Server(_)))
    }

    /// Whether the slot itself cannot go on: it is gone, invalidated, or what it has to read next names a
    /// publication that did not exist then.
    pub fn is_slots_fault(&self) -> bool {
        let Self::Connection(PgWireError::Server(text)) = self else {
            return false;
        };
        // undefined_object; object_not_in_prerequisite_state, which is also said of a slot that was invalidated
        ["42704", "55000"].iter().any(|code| text.contains(code))
    }
}

impl Stream {
    /// Opens the stream of a slot, from a position already reached or the slot's own; `watching` includes what policies
    /// read.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(database: &Database, slot: &str, from: Lsn, watching: bool) -> Result<Self, StreamError> {
        let publications = if watching {
            &PUBLICATIONS[..]
        } else {
            &PUBLICATIONS[..2]
        };
        let config = config(database, slot, publications).with_start_lsn(from);
        let mut client = ReplicationClient::connect(config).await?;
        client.wait_started().await?;
        Ok(Self {
            client,
            relations: HashMap::new(),
            open: None,
            said: Vec::new(),
            arrived: None,
            position: from,
        })
    }

    /// Waits for something to arrive. Nothing is lost when it is given up.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn arrival(&mut self) -> Result<(), StreamError> {
        if self.arrived.is_none() {
            self.arrived = Some(self.client.recv().await?.ok_or(StreamError::Ended)?);
        }
        Ok(())
    }

    /// Everything that has arrived, once something has. Empty when nothing of it concerns us. What is returned counts
    /// as read only after [`Stream::acknowledge`].
    ///
    /// # Errors
    /// When the stream has ended. What arrived before is lost here and comes again.
    pub async fn batch(&mut self) -> Result<Batch, StreamError> {
        let mut batch = Batch::default();
        let (mut events, mut said) = (0_usize, 0_usize);
        loop {
            // Between transactions with nothing more at hand the batch is complete; inside one the rest is on its way.
            let event = if let Some(event) = self.arrived.take() {
                Some(event)
            } else if events == 0 || self.open.is_some() && batch.changes < MAX_CHANGES {
                self.client.recv().await?
            } else if batch.changes < MAX_CHANGES
                && events < MAX_CHANGES
                && said < MAX_MESSAGES
                && let Some(event) = self.client.recv().now_or_never()
            {
                event?
            } else {
                batch.open = self.open.is_some();
                return Ok(batch);
            };
            events += 1;
            match event.ok_or(StreamError::Ended)? {
                ReplicationEvent::Begin {
                    xid,
                    commit_time_micros,
                    final_lsn,
                } => {
                    self.open = Some(Open {
                        xid,
                        committed: commit_time_micros,
                        position: Position::new(final_lsn.0, 0),
                    });
                }
                ReplicationEvent::Commit { end_lsn, .. } => {
                    self.open = None;
                    self.position = end_lsn;
                }
                ReplicationEvent::KeepAlive { wal_end, .. } if self.open.is_none() => {
                    self.position = self.position.max(wal_end);
                }
                ReplicationEvent::Message {
                    prefix, content, lsn, ..
                } if prefix == PREFIX => {
                    said += content.len();
                    self.said.push(Said { at: lsn, content });
                }
                ReplicationEvent::Message { prefix, .. } if prefix == DDL => {
                    if let Some(open) = &self.open {
                        batch.transaction(open).ddl = true;
                    }
                }
                ReplicationEvent::XLogData { data, .. } => match pgoutput::decode(data)? {
                    Some(Message::Relation(relation)) => {
                        let relation = Arc::new(relation);
                        let before = self.relations.insert(relation.oid, Arc::clone(&relation));
                        // A table looks one way within a batch.
                        if before.is_some_and(|before| before != relation) && batch.changes > 0 {
                            batch.open = self.open.is_some();
                            return Ok(batch);
                        }
                    }
                    Some(Message::Truncate(tables)) => {
                        let open = self.open.as_ref().ok_or(pgoutput::Malformed)?;
                        batch.transaction(open).truncated.extend(tables);
                    }
                    Some(Message::Change(change)) => {
                        let open = self.open.as_mut().ok_or(pgoutput::Malformed)?;
                        let streamed = streamed(&self.relations, open, change)?;
                        open.position = open.position.next();
                        batch.transaction(open).changes.push(streamed);
                        batch.changes += 1;
                    }
                    None => {}
                },
                _ => {}
            }
        }
    }

    /// What gateways said meanwhile.
    pub fn said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    /// Up to where the stream has been read.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// Postgres need not keep what is before this place.
    pub fn acknowledge(&self, dispensable: Lsn) {
        self.client.update_applied_lsn(dispensable);
    }
}

fn streamed(
    relations: &HashMap<u32, Arc<Relation>>,
    open: &Open,
    change: Change,
) -> Result<Streamed, pgoutput::Malformed> {
    let relation = relations.get(&change.relation).ok_or(pgoutput::Malformed)?;
    let width = relation.columns.len();
    if [&change.old, &change.new]
        .into_iter()
        .flatten()
        .any(|row| row.len() != width)
    {
        return Err(pgoutput::Malformed);
    }
    Ok(Streamed {
        position: open.position,
        committed: open.committed,
        relation: Arc::clone(relation),
        change,
    })
}

fn config(database: &Database, slot: &str, publications: &[&str]) -> ReplicationConfig {
    let options = database.options(Login::Admin);
    let (user, port) = (options.get_username().to_owned(), options.get_port());
    let name = options.get_database().unwrap_or(&user).to_owned();
    let password = database.password().map(Secret::expose).unwrap_or_default();
    let config = match options.get_socket() {
        Some(directory) => ReplicationConfig::unix(
            directory.to_string_lossy(),
            port,
            user,
            password,
            name,
            slot,
            publications.to_vec(),
        ),
        None => ReplicationConfig::new(options.get_host(), user, password, name, slot, publications.to_vec())
            .with_port(port)
            .with_tls(tls(database, options.get_ssl_mode())),
    };
    config.with_options(OPTIONS).with_application_name("switchboard")
}

fn tls(database: &Database, mode: PgSslMode) -> TlsConfig {
    let root = || database.root_certificate().map(std::path::Path::to_path_buf);
    match mode {
        PgSslMode::Disable => TlsConfig::disabled(),
        PgSslMode::Allow | PgSslMode::Prefer => TlsConfig {
            mode: SslMode::Prefer,
            ..TlsConfig::disabled()
        },
        PgSslMode::Require => TlsConfig::require(),
        PgSslMode::VerifyCa => TlsConfig::verify_ca(root()),
        PgSslMode::VerifyFull => TlsConfig::verify_full(root()),
    }
}
