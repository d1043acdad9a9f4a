//! The bare reader: the same changes from the same log, through a slot of its own, and nothing done with them. It is
//! what the server's latency is to be compared with, and it knows when each message was committed.

use std::sync::Arc;

use anyhow::Result;
use pgwire_replication::{ReplicationClient, ReplicationConfig, ReplicationEvent};
use tokio::task::JoinHandle;

use crate::{
    server::Server,
    tally::{Note, Tally},
};

/// Microseconds from 1970 to 2000, when Postgres' clock starts.
const POSTGRES_EPOCH: u64 = 946_684_800_000_000;

/// Reads until it is dropped.
pub struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts reading for a tally; from here on no commit is missed.
pub async fn read(server: &Server, tally: Arc<Tally>) -> Result<Reader> {
    let folder = server.socket().display().to_string();
    let slot = format!("bench_{}", crate::tally::now());
    let config = ReplicationConfig::unix(
        folder,
        5432,
        "supabase_admin",
        "",
        "postgres",
        &slot,
        ["supabase_realtime"],
    )
    .with_application_name(crate::cost::OURS);
    let mut client = ReplicationClient::connect_gated(config).await?;
    client
        .simple_query(&format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput"))
        .await?;
    client.start().await?;
    Ok(Reader(tokio::spawn(async move {
        let mut committed = 0;
        while let Ok(Some(event)) = client.recv().await {
            match event {
                ReplicationEvent::Begin { commit_time_micros, .. } => {
                    committed = POSTGRES_EPOCH.saturating_add_signed(commit_time_micros);
                }
                ReplicationEvent::Commit { end_lsn, .. } => client.update_applied_lsn(end_lsn),
                ReplicationEvent::XLogData { data, .. } if data.first() == Some(&b'I') => {
                    if let Some(note) = Note::find(&String::from_utf8_lossy(&data)) {
                        tally.read(note, committed);
                    }
                }
                _ => {}
            }
        }
    })))
}
