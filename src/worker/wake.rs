//! What wakes duties: the database's notifications on channel `chat`, sent when the line or who is available changes,
//! never for a message.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgListener};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::duty::{backoff, jittered};
use crate::shutdown::Shutdown;

/// A connection on which nothing came for so long is made anew: one that died silently would never tell.
const SILENCE: Duration = Duration::from_secs(300);

/// Wakes everybody who subscribed.
#[derive(Clone, Debug, Default)]
pub(super) struct Wake(watch::Sender<()>);

impl Wake {
    /// Sees every wake from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }

    fn wake(&self) {
        self.0.send_replace(());
    }
}

/// Listens until the process is asked to stop. Where it cannot, duties go by their clocks.
pub(super) async fn listen(pool: PgPool, wake: Wake, shutdown: Shutdown) {
    let mut failures = 0;
    let listening = async {
        loop {
            let Err(error) = follow(&pool, &wake, &mut failures).await else {
                continue;
            };
            failures += 1;
            let pause = jittered(backoff(failures));
            let retry_ms = pause.as_millis();
            tracing::warn!(error = %error, retry_ms, "cannot hear the database; looking at it by the clock");
            sleep(pause).await;
        }
    };
    tokio::select! {
        () = shutdown.started() => {}
        () = listening => {}
    }
}

/// Passes notifications on. Returns after a long silence.
async fn follow(pool: &PgPool, wake: &Wake, failures: &mut u32) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen("chat").await?;
    *failures = 0;
    // what was said while nobody listened is made up for by a look
    wake.wake();
    while let Ok(received) = timeout(SILENCE, listener.try_recv()).await {
        received?; // None: the connection was lost and is there again
        wake.wake();
    }
    Ok(())
}
