//! Deletes blobs no row needs any more (`storage.blobs_to_delete`), and watches over the service's health with the
//! same look into the database.

use std::{sync::Arc, time::Duration};

use futures_util::{TryStreamExt, stream};
use uuid::Uuid;

use super::{Storage, error::Result};
use crate::{health::Part, shutdown::Shutdown};

/// Blobs taken in one transaction.
const BATCH: i64 = 100;
/// Blobs deleted at the same time.
const AT_ONCE: usize = 8;
/// How often to look without being told.
const INTERVAL: Duration = Duration::from_secs(15);
/// How soon to look again after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// Sweeps until the process stops.
pub async fn run(storage: Arc<Storage>, shutdown: Shutdown, health: Part) {
    let mut failing = false;
    loop {
        let pause = match storage.sweep_blobs().await {
            Ok(swept) => {
                health.ready();
                failing = false;
                match swept {
                    Swept::All => INTERVAL,
                    Swept::Batch => Duration::ZERO,
                }
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(error = %chain(&error), "storage: cannot look after blobs, trying again");
                }
                failing = true;
                health.failing("the database or the folder of files does not answer");
                RETRY
            }
        };
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = storage.sweep.notified(), if !failing => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Whether more blobs may be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swept {
    /// None were left.
    All,
    /// A batch is done, another may wait.
    Batch,
}

impl Storage {
    /// Deletes a batch of the blobs that are due. Other gateways skip the ones taken here; if the database or the
    /// store fails, they stay due.
    async fn sweep_blobs(&self) -> Result<Swept> {
        self.blobs.check().await?;
        let mut transaction = self.pool.begin().await?;
        let due: Vec<(String,)> = sqlx::query_as(include_str!("../../../sql/gateway/storage_take_blobs.sql"))
            .bind(BATCH)
            .fetch_all(&mut *transaction)
            .await?;
        if due.is_empty() {
            return Ok(Swept::All);
        }
        // Rows that SQL wrote may name versions of somebody else's making.
        let versions = due.iter().filter_map(|(version,)| Uuid::parse_str(version).ok());
        stream::iter(versions.map(Ok))
            .try_for_each_concurrent(AT_ONCE, |version| self.blobs.delete(version))
            .await?;
        transaction.commit().await?;
        Ok(Swept::Batch)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
