//! Listeners without a filter: each change has to be judged for all of them, and is for two.

use anyhow::Result;

use super::{Bench, load::Load};
use crate::{
    table::heading,
    write::{Pace, Table},
};

/// Chats, with two listeners each.
const CHATS: usize = 250;
/// Changes under way beyond which nobody writes.
const UNDER_WAY: usize = 100;

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let sessions = bench.sessions(CHATS);
    heading(&format!(
        "chat_messages, {} listeners without a filter",
        sessions.len() * 2
    ));
    let mut load = Load::prepare(bench, Table::Chat, sessions, false).await?;
    let paces = [
        Pace::Once(4, UNDER_WAY),
        Pace::PerSecond(20),
        Pace::PerSecond(100),
        Pace::Flat(4, UNDER_WAY),
    ];
    for pace in paces {
        load.measure(bench, pace).await?;
    }
    Ok(())
}
