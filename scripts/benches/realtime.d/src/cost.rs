//! What the server takes: processor time and memory, from /proc.

use std::{collections::HashMap, fs, time::Duration};

use anyhow::{Context, Result};
use tokio_postgres::Client;

/// The application name of our own sessions in Postgres, which are not the server's.
pub const OURS: &str = "realtime-bench";

/// Processor time taken so far.
pub struct Taken {
    server: u32,
    own: Duration,
    /// Of each process of Postgres but our own sessions.
    postgres: HashMap<u32, Duration>,
}

/// Processor time that a load took.
#[derive(Clone, Copy, Default)]
pub struct Spent {
    /// The server's own process.
    pub server: Duration,
    /// Postgres, apart from the sessions of those who wrote and of the bare reader.
    pub postgres: Duration,
}

impl Taken {
    /// What the server has taken until now.
    pub async fn now(server: u32, database: &Client) -> Result<Self> {
        let rows = database
            .query("select pid from pg_stat_activity where application_name = $1", &[&OURS])
            .await?;
        let ours: Vec<u32> = rows.iter().map(|row| row.get::<_, i32>(0).unsigned_abs()).collect();
        let postmaster = children(server)
            .first()
            .copied()
            .context("the server has no Postgres")?;
        let processes = children(postmaster).into_iter().chain([postmaster]);
        let postgres = processes.filter(|pid| !ours.contains(pid)).map(|pid| (pid, time(pid)));
        Ok(Self {
            server,
            own: time(server),
            postgres: postgres.collect(),
        })
    }

    /// What it took since.
    pub async fn spent(&self, database: &Client) -> Result<Spent> {
        let now = Self::now(self.server, database).await?;
        let since =
            |(pid, time): (&u32, &Duration)| time.saturating_sub(self.postgres.get(pid).copied().unwrap_or_default());
        Ok(Spent {
            server: now.own.saturating_sub(self.own),
            postgres: now.postgres.iter().map(since).sum(),
        })
    }
}

impl Spent {
    /// Microseconds of the two for each of so many.
    pub fn each(&self, count: usize) -> String {
        let of = |time: Duration| time.as_secs_f64() * 1e6 / count.max(1) as f64;
        format!("{:.0} + {:.0} us", of(self.server), of(self.postgres))
    }

    /// The server's for each of many, which take little.
    pub fn fine(&self, count: usize) -> String {
        format!("{:.2} us", self.server.as_secs_f64() * 1e6 / count.max(1) as f64)
    }
}

/// The memory of a process that no other shares or could (PSS), in KiB.
pub fn memory(pid: u32) -> Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .context("no Pss")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// All threads' time.
fn time(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

fn children(of: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    all.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        parent == Some(&of.to_string())
    })
    .collect()
}
