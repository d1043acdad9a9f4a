//! The difference between a command that failed and one that was asked for something impossible.

use std::{fmt, process::ExitCode};

/// The command was used in a way that cannot work; says which would.
#[derive(Debug)]
pub struct Misuse(pub String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// 2 for misuse, as clap exits for an unknown option; 1 for everything else.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Misuse>() {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}

/// A database URL that is none. What is wrong with it may show the password, and is not told.
pub fn database_url(_: sqlx::Error) -> anyhow::Error {
    Misuse("--database-url is not postgresql://user:password@host:port/database".to_owned()).into()
}
