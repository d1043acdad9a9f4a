//! What is asked for.

use std::{path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, Result, bail};

use crate::parts::Part;

/// The options of one run.
pub struct Options {
    /// The server's binary.
    pub binary: PathBuf,
    /// How long each load lasts.
    pub seconds: Duration,
    /// Chats with a customer and an agent, each of whom listens.
    pub sessions: usize,
    /// Sockets that do nothing.
    pub idle: usize,
    /// What to measure.
    pub parts: Vec<Part>,
}

impl Options {
    /// Reads the command line.
    pub fn read() -> Result<Self> {
        let mut options = Self {
            binary: std::env::var_os("SWITCHBOARD_BIN")
                .context("SWITCHBOARD_BIN is set by scripts/bench")?
                .into(),
            seconds: Duration::from_secs(5),
            sessions: 2_500,
            idle: 10_000,
            parts: Vec::new(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--seconds" => options.seconds = Duration::from_secs_f64(number(&word, words.next())?),
                "--sessions" => options.sessions = number(&word, words.next())?,
                "--idle" => options.idle = number(&word, words.next())?,
                part => options.parts.push(part.parse()?),
            }
        }
        if options.parts.is_empty() {
            options.parts = Part::ALL.to_vec();
        }
        Ok(options)
    }
}

fn number<T: FromStr>(option: &str, value: Option<String>) -> Result<T> {
    match value.map(|value| value.parse()) {
        Some(Ok(number)) => Ok(number),
        _ => bail!("{option} wants a number"),
    }
}
