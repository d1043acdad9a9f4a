//! The write-ahead log as whole transactions.

use std::{collections::HashMap, sync::Arc};

use futures_util::FutureExt;
use pgwire_replication::{
    Lsn, PgWireError, ReplicationClient, ReplicationConfig, ReplicationEvent, SslMode, TlsConfig,
};
use sqlx::postgres::PgSslMode;

use super::pgoutput::{self, Change, Message, Relation};
use crate::{
    config::Secret,
    db::{Database, Login},
};

/// What clients may subscribe to, and what the database broadcasts.
pub const PUBLICATIONS: [&str; 2] = ["supabase_realtime", "supabase_realtime_messages_publication"];

/// Values are compared with what other connections print.
const OPTIONS: &str =
    "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1 -c bytea_output=hex";

/// Changes taken together at most. A transaction with more comes in pieces: it has committed when it is streamed.
const MAX_CHANGES: usize = 4_096;

/// A row's change with the definition it is written by.
#[derive(Debug)]
pub struct Streamed {
    /// The transaction.
    pub xid: u32,
    /// When it committed, microseconds since 2000.
    pub committed: i64,
    /// The table as it was then.
    pub relation: Arc<Relation>,
    /// What happened.
    pub change: Change,
}

/// The open stream.
pub struct Stream {
    client: ReplicationClient,
    relations: HashMap<u32, Arc<Relation>>,
    /// The transaction under way: number and commit time.
    open: Option<(u32, i64)>,
    position: Lsn,
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
    /// Opens the stream of a slot, from a position already reached or the slot's own.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(database: &Database, slot: &str, from: Lsn) -> Result<Self, StreamError> {
        let config = config(database, slot).with_start_lsn(from);
        let mut client = ReplicationClient::connect(config).await?;
        client.wait_started().await?;
        Ok(Self {
            client,
            relations: HashMap::new(),
            open: None,
            position: from,
        })
    }

    /// Everything that has arrived, once something has; only of tables that are `wanted`. Empty when all that came
    /// was of no interest. What is returned counts as read only after [`Stream::acknowledge`].
    ///
    /// # Errors
    /// When the stream has ended. What arrived before is lost here and comes again.
    pub async fn batch(&mut self, wanted: impl Fn(&Relation) -> bool) -> Result<Vec<Streamed>, StreamError> {
        let mut batch = Vec::new();
        let mut events = 0_usize;
        loop {
            // Between transactions with nothing more at hand the batch is complete; inside one the rest is on its way.
            let event = if events == 0 || self.open.is_some() && batch.len() < MAX_CHANGES {
                self.client.recv().await?
            } else if batch.len() < MAX_CHANGES
                && events < MAX_CHANGES
                && let Some(event) = self.client.recv().now_or_never()
            {
                event?
            } else {
                return Ok(batch);
            };
            events += 1;
            match event.ok_or(StreamError::Ended)? {
                ReplicationEvent::Begin {
                    xid,
                    commit_time_micros,
                    ..
                } => self.open = Some((xid, commit_time_micros)),
                ReplicationEvent::Commit { end_lsn, .. } => {
                    self.open = None;
                    self.position = end_lsn;
                }
                ReplicationEvent::KeepAlive { wal_end, .. } if self.open.is_none() => {
                    self.position = self.position.max(wal_end);
                }
                ReplicationEvent::XLogData { data, .. } => match pgoutput::decode(data)? {
                    Some(Message::Relation(relation)) => {
                        let relation = Arc::new(relation);
                        let before = self.relations.insert(relation.oid, Arc::clone(&relation));
                        // A table looks one way within a batch.
                        if before.is_some_and(|before| before != relation) && !batch.is_empty() {
                            return Ok(batch);
                        }
                    }
                    Some(Message::Change(change)) => {
                        let relation = self.relations.get(&change.relation).ok_or(pgoutput::Malformed)?;
                        let width = relation.columns.len();
                        if [&change.old, &change.new]
                            .into_iter()
                            .flatten()
                            .any(|row| row.len() != width)
                        {
                            return Err(pgoutput::Malformed.into());
                        }
                        let (xid, committed) = self.open.ok_or(pgoutput::Malformed)?;
                        if wanted(relation) {
                            batch.push(Streamed {
                                xid,
                                committed,
                                relation: Arc::clone(relation),
                                change,
                            });
                        }
                    }
                    None => {}
                },
                _ => {}
            }
        }
    }

    /// Everything returned so far has been dealt with: Postgres need not keep it. Gives the position.
    pub fn acknowledge(&self) -> Lsn {
        self.client.update_applied_lsn(self.position);
        self.position
    }
}

fn config(database: &Database, slot: &str) -> ReplicationConfig {
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
            PUBLICATIONS,
        ),
        None => ReplicationConfig::new(options.get_host(), user, password, name, slot, PUBLICATIONS)
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
