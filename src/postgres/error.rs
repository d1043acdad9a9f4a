//! What can go wrong with a server of our own, for the person who starts it: what happened, and what to do.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use super::find::{OLDEST, advice};

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing on this machine fits.
    #[error("{}", no_installation(found, *wanted, None))]
    NoInstallation {
        /// The major versions that are here.
        found: Vec<u32>,
        /// The one that existing data needs.
        wanted: Option<u32>,
    },
    /// Nothing fits the data that is there.
    #[error("{}", no_installation(found, Some(*wanted), Some(data)))]
    OtherVersion {
        /// The data.
        data: PathBuf,
        /// The major versions that are here.
        found: Vec<u32>,
        /// The one that made the data.
        wanted: u32,
    },
    /// `--postgres-bin` names something else.
    #[error("there are no `initdb` and `postgres` that run in {}", .0.display())]
    NotAnInstallation(PathBuf),
    /// The account cannot be used.
    #[error("cannot run Postgres as `{0}`: {1}; name another account with --postgres-user")]
    Account(String, &'static str),
    /// The data was made by another account.
    #[error("{} belongs to the account `{account}`; start as that account, or choose another --data-dir", path.display())]
    ForeignData {
        /// The data.
        path: PathBuf,
        /// Who has it.
        account: String,
    },
    /// The data is root's.
    #[error("{path} belongs to root, and Postgres refuses to run as root: chown -R postgres {path}", path = .0.display())]
    RootData(PathBuf),
    /// A folder on the way is closed to the account.
    #[error(
        "Postgres runs as the account `{account}`, which cannot reach {}: {} is closed to it; choose a --data-dir \
         elsewhere, such as /var/lib/switchboard",
        path.display(), folder.display()
    )]
    OutOfReach {
        /// What it has to reach.
        path: PathBuf,
        /// What stops it.
        folder: PathBuf,
        /// Who.
        account: String,
    },
    /// The folder is open to others, or theirs.
    #[error("{} is not a folder that Postgres's account alone may enter; remove it, or choose another --data-dir", .0.display())]
    NotPrivate(PathBuf),
    /// The folder holds something else.
    #[error("{} holds something that is no Postgres data; choose another --data-dir", .0.display())]
    NotACluster(PathBuf),
    /// A system call failed.
    #[error("cannot {verb} {path}", verb = .0, path = .1.display())]
    Path(&'static str, PathBuf, #[source] io::Error),
    /// `initdb` failed.
    #[error("initdb failed: {0}")]
    Initialise(String),
    /// Postgres ended by itself.
    #[error("Postgres ended ({0}); its last words: {last}", last = list(.1))]
    Ended(ExitStatus, Vec<String>),
    /// Postgres is up and does not answer.
    #[error("Postgres does not answer; its last words: {last}", last = list(.1))]
    Silent(#[source] sqlx::Error, Vec<String>),
    /// Another server has the data.
    #[error(
        "another Postgres still runs on {}{}; stop it, then start again", data.display(),
        process.map(|process| format!(" (process {process}: kill -INT {process})")).unwrap_or_default()
    )]
    Busy {
        /// The data.
        data: PathBuf,
        /// The process that Postgres noted there.
        process: Option<u32>,
    },
    /// Another program has the TCP port.
    #[error("port {0} is taken")]
    PortTaken(u16),
    /// Postgres ignores both ways of asking.
    #[error("Postgres does not stop{}", .0.map(|id| format!(" (process {id})")).unwrap_or_default())]
    DoesNotStop(Option<u32>),
    /// It cannot be waited for or signalled.
    #[error("cannot reach the process of Postgres")]
    Process(#[source] io::Error),
    /// We were asked to stop before it was up.
    #[error("stopped before Postgres was up")]
    Stopped,
}

impl Error {
    /// For `map_err`: what was done with which path.
    pub(super) fn path(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Path(verb, path, error)
    }

    /// Names the data that asked for a version.
    pub(super) fn about(self, data: &Path) -> Self {
        match self {
            Self::NoInstallation {
                found,
                wanted: Some(wanted),
            } => Self::OtherVersion {
                data: data.to_owned(),
                found,
                wanted,
            },
            other => other,
        }
    }

    /// Whether another server holds the data, or what is left of one its memory.
    pub(super) fn is_busy(&self) -> bool {
        self.said("lock file \"postmaster.pid\"") || self.said("pre-existing shared memory block")
    }

    /// Whether the TCP port was somebody else's.
    pub(super) fn is_port_taken(&self) -> bool {
        self.said("could not create any TCP/IP sockets")
    }

    fn said(&self, words: &str) -> bool {
        matches!(self, Self::Ended(_, lines) if lines.iter().any(|line| line.contains(words)))
    }
}

fn no_installation(found: &[u32], wanted: Option<u32>, data: Option<&Path>) -> String {
    let mut majors = found.to_vec();
    majors.sort_unstable();
    majors.dedup();
    let majors = majors.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let here = match (majors.is_empty(), wanted) {
        (true, _) => "there is no PostgreSQL on this machine".to_owned(),
        (false, Some(_)) => format!("only PostgreSQL {majors} is on this machine"),
        (false, None) => {
            format!("only PostgreSQL {majors} is on this machine, and {OLDEST} is the oldest that will do")
        }
    };
    let made = match (data, wanted) {
        (Some(data), Some(wanted)) => format!("the data in {} is PostgreSQL {wanted}'s, and ", data.display()),
        _ => String::new(),
    };
    let besides = if data.is_some() {
        ", or choose another --data-dir"
    } else {
        ", or use a database elsewhere with --database-url"
    };
    format!("{made}{here}; install it: {}{besides}", advice(wanted))
}

fn list(lines: &[String]) -> String {
    if lines.is_empty() {
        "none".into()
    } else {
        lines.join("\n  ")
    }
}
