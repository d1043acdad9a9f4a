//! From a signal to an orderly end: one token tells everybody, one tracker waits for everybody.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long requests and duties under way may take to finish once the process was asked to stop.
pub const GRACE: Duration = Duration::from_secs(10);

/// What every long-lived task is given: when to stop, and whom to tell that it did.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Asks every task to stop.
    pub fn start(&self) {
        self.token.cancel();
    }

    /// Resolves once the process was asked to stop.
    pub async fn started(&self) {
        self.token.cancelled().await;
    }

    /// The token itself, for APIs that want one.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Runs a task that [`Shutdown::finished`] waits for. The task must end soon after [`Shutdown::started`].
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Waits until every task has ended, for [`GRACE`] at most. False if some are still running then.
    pub async fn finished(&self) -> bool {
        self.tasks.close();
        tokio::time::timeout(GRACE, self.tasks.wait()).await.is_ok()
    }
}

/// Resolves at SIGTERM or SIGINT with the signal's name.
///
/// # Errors
/// When the handlers cannot be installed.
pub async fn signalled() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
