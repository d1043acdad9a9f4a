//! Messages of many chats, each for the two who listen to it: from commit to client.

use anyhow::Result;
use tokio::time::Instant;

use super::{Bench, load::Load};
use crate::{
    table::{heading, line},
    write::{Pace, Table},
};

/// Messages under way beyond which nobody writes when it goes flat out: those of 300 ms at 3,000 a second.
const UNDER_WAY: usize = 900;

pub async fn run(bench: &mut Bench<'_>, table: Table) -> Result<()> {
    let sessions = bench.sessions(usize::MAX);
    let listeners = sessions.len() * 2;
    heading(&format!("{}, {listeners} listeners by session", table.name()));
    let (begin, before) = (Instant::now(), bench.taken().await?);
    let mut load = Load::prepare(bench, table, sessions, true).await?;
    // A second of it is the warming up.
    let rate = listeners as f64 / (begin.elapsed().as_secs_f64() - 1.2).max(0.1);
    let spent = before.spent(&bench.database).await?;
    line(
        "connected and joined",
        &format!("{rate:.0}/s"),
        &format!("{} each", spent.each(listeners)),
    );
    let paces = [
        Pace::Once(8, UNDER_WAY),
        Pace::PerSecond(20),
        Pace::PerSecond(100),
        Pace::Flat(8, UNDER_WAY),
    ];
    for pace in paces {
        load.measure(bench, pace).await?;
    }
    Ok(())
}
