//! Deletes blobs no row needs any more (`storage.blobs_to_delete`), and watches over the service's health with the
//! same look into the database.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{Storage, error::Result};
use crate::{health::Part, shutdown::Shutdown};

/// Blobs taken at once.
const BATCH: i64 = 100;
/// How often to look without being told.
const INTERVAL: Duration = Duration::from_secs(15);
/// How soon to look again after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// Sweeps until the process stops.
pub async fn run(storage: Arc<Storage>, shutdown: Shutdown, health: Part) {
    let mut failing = false;
    loop {
        let pause = match storage.sweep_blobs().await {
            Ok(()) => {
                health.ready();
                failing = false;
                INTERVAL
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
            () = shutdown.started() => return,
            () = storage.sweep.notified(), if !failing => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Storage {
    /// Deletes every blob that is due. Other gateways skip the ones taken here.
    ///
    /// # Errors
    /// When the database or the store fails; what was taken stays due.
    pub async fn sweep_blobs(&self) -> Result<()> {
        self.blobs.check().await?;
        loop {
            let mut transaction = self.pool.begin().await?;
            let due: Vec<(String,)> = sqlx::query_as(include_str!("../../../sql/gateway/storage_take_blobs.sql"))
                .bind(BATCH)
                .fetch_all(&mut *transaction)
                .await?;
            if due.is_empty() {
                return Ok(());
            }
            // Rows that SQL wrote may name versions of somebody else's making.
            for version in due.iter().filter_map(|(version,)| Uuid::parse_str(version).ok()) {
                self.blobs.delete(version).await?;
            }
            transaction.commit().await?;
        }
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
