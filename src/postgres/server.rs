//! The server's life: up, answering, gone.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Error, cluster::Cluster, process, process::Process};

/// How long a server may say nothing at all, and an earlier one may take to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long replaying the log after a crash may take.
const RECOVERY: Duration = Duration::from_secs(30 * 60);
/// Postgres's word for "not yet": it starts, or recovers.
const CANNOT_CONNECT_NOW: &str = "57P03";
/// The port in the socket's name where no TCP port is asked for.
const SOCKET_PORT: u16 = 5432;

/// What survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Everything that was committed.
    Full,
    /// Nothing need survive: for tests, whose data is thrown away.
    None,
}

/// Where and how a server runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// An existing folder, in which it gets `pg` (data) and `run` (socket).
    pub folder: PathBuf,
    /// The folder of `initdb` and `postgres`; else they are looked for.
    pub bin: Option<PathBuf>,
    /// The account to run it as, when we are root.
    pub account: Option<String>,
    /// The superuser of new data.
    pub superuser: String,
    /// TCP port on 127.0.0.1, where everybody needs a password; 0 for the private socket alone.
    pub port: u16,
    /// Whether data outlives a power cut.
    pub durability: Durability,
    /// Postgres parameters on top of ours, name and value.
    pub parameters: Vec<(String, String)>,
}

impl Settings {
    /// The port in the socket's name.
    pub(super) fn socket_port(&self) -> u16 {
        if self.port == 0 { SOCKET_PORT } else { self.port }
    }
}

/// A running server. Dropping it asks Postgres to stop without waiting for it; [`Server::stop`] waits.
#[derive(Debug)]
pub struct Server {
    process: Process,
    cluster: Cluster,
    port: u16,
}

impl Server {
    /// Starts the server, making its data where there is none, and waits until it answers or `stop` is cancelled.
    ///
    /// To be awaited on a thread that lives as long as the process (main's, under `block_on`): Postgres stops with
    /// the thread that spawned it.
    ///
    /// # Errors
    /// When there is no PostgreSQL that fits, the folder cannot be used, or Postgres does not come up.
    pub async fn start(settings: &Settings, stop: &CancellationToken) -> Result<Self, Error> {
        let opened = stop.run_until_cancelled(Cluster::open(settings)).await;
        let cluster = opened.unwrap_or(Err(Error::Stopped))?;
        let begin = Instant::now();
        loop {
            let mut process = spawn(&cluster, settings)?;
            let answered = stop.run_until_cancelled(answer(&mut process, &cluster, settings)).await;
            match answered.unwrap_or(Err(Error::Stopped)) {
                Ok(()) => {
                    tracing::info!(
                        postgres.version = cluster.installation.major,
                        duration_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
                        "Postgres accepts connections"
                    );
                    let port = settings.socket_port();
                    return Ok(Self { process, cluster, port });
                }
                // After a kill -9 of ours the old server is still writing its last checkpoint.
                Err(error) if error.is_busy() && begin.elapsed() < PATIENCE => {
                    tracing::info!("waiting for the Postgres of an earlier run to stop");
                    let waited = stop.run_until_cancelled(sleep(Duration::from_millis(250))).await;
                    waited.ok_or(Error::Stopped)?;
                }
                Err(error) if error.is_busy() => {
                    return Err(Error::Busy {
                        process: cluster.postmaster(),
                        data: cluster.data,
                    });
                }
                Err(error) if error.is_port_taken() => return Err(Error::PortTaken(settings.port)),
                Err(error) => {
                    process.stop().await.map_err(Error::Process)?;
                    return Err(error);
                }
            }
        }
    }

    /// The folder of its Unix socket, which only its account and root may enter.
    pub fn socket_directory(&self) -> &Path {
        &self.cluster.sockets
    }

    /// The port in the socket's name, and of TCP if that is open.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Resolves when the server has ended although nobody asked it to, with the reason. May be dropped and called
    /// again.
    pub async fn ended(&mut self) -> Error {
        match self.process.ended().await {
            Ok(status) => Error::Ended(status, self.process.last_lines()),
            Err(error) => Error::Process(error),
        }
    }

    /// Stops the server and waits until it is gone. Sessions still open are cut.
    ///
    /// # Errors
    /// When it cannot be told to, or does not stop.
    pub async fn stop(mut self) -> Result<(), Error> {
        match self.process.stop().await.map_err(Error::Process)? {
            Some(status) if status.success() => {
                tracing::info!("Postgres stopped");
                Ok(())
            }
            Some(status) => Err(Error::Ended(status, self.process.last_lines())),
            None => Err(Error::DoesNotStop(self.process.id())),
        }
    }
}

fn spawn(cluster: &Cluster, settings: &Settings) -> Result<Process, Error> {
    let program = cluster.installation.bin.join("postgres");
    let mut command = process::command(&program, cluster.owner.as_ref());
    command.args(cluster.arguments(settings));
    Process::spawn(command).map_err(Error::path("run", &program))
}

/// Waits until the server answers. The socket may still be that of a killed run, whose Postgres would answer just as
/// well and end soon after: only ours counts.
async fn answer(process: &mut Process, cluster: &Cluster, settings: &Settings) -> Result<(), Error> {
    let login = PgConnectOptions::new_without_pgpass()
        .socket(&cluster.sockets)
        .port(settings.socket_port())
        .username(&settings.superuser)
        .database("postgres")
        .log_statements(tracing::log::LevelFilter::Trace);
    let mut deadline = Instant::now() + PATIENCE;
    let mut recovering = false;
    loop {
        let answered = tokio::select! {
            ended = process.ended() => {
                return Err(Error::Ended(ended.map_err(Error::Process)?, process.last_lines()));
            }
            answered = async { login.connect().await?.close().await } => answered,
        };
        let error = match answered {
            Ok(()) if cluster.postmaster() == process.id() => return Ok(()),
            // Ours cannot start beside it, and will say so by ending.
            Ok(()) => {
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            Err(error) => error,
        };
        let not_yet = error
            .as_database_error()
            .and_then(|error| error.code())
            .is_some_and(|code| code == CANNOT_CONNECT_NOW);
        if not_yet && !recovering {
            recovering = true;
            deadline = Instant::now() + RECOVERY;
        }
        if Instant::now() > deadline {
            return Err(Error::Silent(error, process.last_lines()));
        }
        sleep(Duration::from_millis(20)).await;
    }
}
