//! Signals of a service manager, or of Ctrl-C.

use crate::shutdown::{self, Shutdown};

/// Begins the shutdown at the first SIGTERM or SIGINT, and takes both from now on.
pub fn stop_at_one(shutdown: &Shutdown) {
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        match shutdown::signalled().await {
            Ok(signal) => tracing::info!("{signal}: stopping"),
            Err(error) => tracing::error!(error = %error, "cannot listen for signals"),
        }
        shutdown.start();
    });
}
