//! Writers and listeners together: a pace, and what came of it.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::time::sleep;

use super::{Bench, listeners::Listeners};
use crate::{
    data::Session,
    table::line,
    tally::{Tally, now},
    wal,
    write::{Pace, Table, Written, write},
};

/// The most messages of a load.
const ROOM: usize = 400_000;
/// How long the last may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// What comes twice comes within this time.
const AFTERWARDS: Duration = Duration::from_millis(200);

/// People who listen, and the bare reader beside them.
pub struct Load {
    table: Table,
    sessions: Arc<Vec<Session>>,
    tally: Arc<Tally>,
    listeners: Listeners,
    _reader: wal::Reader,
    /// The number of the next message.
    next: usize,
}

impl Load {
    /// Lets both sides of these chats listen, and the server warm up.
    pub async fn prepare(bench: &Bench<'_>, table: Table, sessions: Arc<Vec<Session>>, filtered: bool) -> Result<Self> {
        let tally = Arc::new(Tally::new(ROOM));
        let mut load = Self {
            listeners: Listeners::join(bench, &sessions, table, filtered, &tally).await?,
            _reader: wal::read(bench.server, Arc::clone(&tally)).await?,
            table,
            sessions,
            tally,
            next: 0,
        };
        load.write(bench, Pace::PerSecond(20), Duration::from_secs(1)).await?;
        Ok(load)
    }

    /// Writes, and prints what arrived.
    pub async fn measure(&mut self, bench: &Bench<'_>, pace: Pace) -> Result<()> {
        let (first, start, taken) = (self.next, now(), bench.taken().await?);
        let written = self.write(bench, pace, bench.options.seconds).await?;
        let spent = taken.spent(&bench.database).await?;
        let numbers = first..self.next;
        let rate = numbers.len() as f64 / (self.tally.last().saturating_sub(start) as f64 / 1e6);
        let (text, held) = match pace {
            Pace::PerSecond(rate) => (format!("{rate} messages/s"), String::new()),
            Pace::Once(writers, _) => (format!("the first message of each, {writers} writers"), String::new()),
            Pace::Flat(writers, _) => {
                let held = format!("; writers held back {:.0} % of the time", written.held * 100.0);
                (format!("flat out, {writers} writers"), held)
            }
        };
        line(
            &format!("{text}: to both"),
            &format!("{rate:.0}/s"),
            &self.tally.delays(numbers.clone()).to_string(),
        );
        line(
            "  the bare reader of the log",
            "",
            &self.tally.read_delays(numbers.clone()).to_string(),
        );
        line(
            "  processor time a message",
            "",
            &format!("{}{held}", spent.each(numbers.len())),
        );
        let faults = self.tally.faults(numbers);
        line(
            "  what should not be",
            "",
            &format!("{faults}, {} disconnected", self.listeners.ended()),
        );
        Ok(())
    }

    async fn write(&mut self, bench: &Bench<'_>, pace: Pace, seconds: Duration) -> Result<Written> {
        let (sessions, tally) = (&self.sessions, &self.tally);
        let written = write(bench.server, self.table, sessions, tally, self.next, pace, seconds).await?;
        self.next = written.until;
        tally.complete(self.next * 2, PATIENCE).await;
        sleep(AFTERWARDS).await;
        Ok(written)
    }
}
