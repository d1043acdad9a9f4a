//! The load and the measures of `scripts/bench realtime`: a server of its own, chats in it, clients over websockets,
//! and beside them a bare reader of the same write-ahead log.
//!
//! - [`server`] the server, started and ended; [`cost`] what it takes of processor and memory
//! - [`data`] the chats; [`write`] who writes into them; [`wal`] the bare reader
//! - [`socket`] one client; [`tally`] who got what, and when; [`table`] how it is printed
//! - [`parts`] what is measured

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

mod cost;
mod data;
mod options;
mod parts;
mod server;
mod socket;
mod table;
mod tally;
mod wal;
mod write;

#[tokio::main]
async fn main() -> Result<()> {
    let options = options::Options::read()?;
    let mut server = server::Server::start(&options.binary).await?;
    let mut term = signal(SignalKind::terminate())?;
    let outcome = tokio::select! {
        outcome = parts::run(&options, &mut server) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        _ = term.recv() => Err(anyhow::anyhow!("terminated")),
    };
    server.end().await;
    if outcome.is_err() {
        eprint!("{}", server.last_words());
    }
    outcome
}
