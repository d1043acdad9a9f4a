//! What is measured, one file each.

use std::{str::FromStr, sync::Arc};

use anyhow::{Context, Result, bail};
use tokio_postgres::Client;

use crate::{cost, data::Data, options::Options, server::Server, socket::Address, table};

mod broadcast;
mod idle;
mod listeners;
mod load;
mod messages;
mod presence;
mod storm;
mod unfiltered;

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Both sides of each chat hear its messages, at a pace and flat out.
    Messages,
    /// The same without the chat's rules for those who write.
    Bare,
    /// Listeners without a filter.
    Unfiltered,
    /// Sockets that do nothing.
    Idle,
    /// One speaks to a thousand.
    Broadcast,
    /// A thousand see each other.
    Presence,
    /// The server goes away, and everybody comes back at once.
    Storm,
}

impl Part {
    /// All, in the order of their names in the documentation.
    pub const ALL: [Self; 7] = [
        Self::Messages,
        Self::Bare,
        Self::Unfiltered,
        Self::Idle,
        Self::Broadcast,
        Self::Presence,
        Self::Storm,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Bare => "bare",
            Self::Unfiltered => "unfiltered",
            Self::Idle => "idle",
            Self::Broadcast => "broadcast",
            Self::Presence => "presence",
            Self::Storm => "storm",
        }
    }
}

impl FromStr for Part {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|part| part.name() == text) {
            Some(part) => Ok(part),
            None => bail!("no such part or option: {text}"),
        }
    }
}

/// What the parts share.
pub struct Bench<'a> {
    options: &'a Options,
    server: &'a mut Server,
    database: Client,
    address: Address,
    data: Data,
}

/// Runs what is asked for.
pub async fn run(options: &Options, server: &mut Server) -> Result<()> {
    let data = Data::make(server, options.sessions).await?;
    let database = server.connect().await?;
    let about = database
        .query_one(
            "select current_setting('server_version'), current_setting('fsync')",
            &[],
        )
        .await?;
    table::heading(&format!(
        "{} cores, PostgreSQL {}, fsync {}, {} chats, loads of {} s",
        std::thread::available_parallelism()?,
        about.get::<_, &str>(0),
        about.get::<_, &str>(1),
        options.sessions,
        options.seconds.as_secs_f64(),
    ));
    let address = Address {
        port: server.port,
        key: server
            .keys
            .get("ANON_KEY")
            .context("the server has no anon key")?
            .clone(),
    };
    let mut bench = Bench {
        options,
        server,
        database,
        address,
        data,
    };
    for part in &options.parts {
        let outcome = match part {
            Part::Messages => messages::run(&mut bench, crate::write::Table::Chat).await,
            Part::Bare => messages::run(&mut bench, crate::write::Table::Bare).await,
            Part::Unfiltered => unfiltered::run(&mut bench).await,
            Part::Idle => idle::run(&mut bench).await,
            Part::Broadcast => broadcast::run(&mut bench).await,
            Part::Presence => presence::run(&mut bench).await,
            Part::Storm => storm::run(&mut bench).await,
        };
        outcome.context(part.name())?;
    }
    Ok(())
}

impl Bench<'_> {
    async fn taken(&self) -> Result<cost::Taken> {
        cost::Taken::now(self.server.id(), &self.database).await
    }

    fn sessions(&self, most: usize) -> Arc<Vec<crate::data::Session>> {
        let sessions = &self.data.sessions;
        Arc::new(sessions[..most.min(sessions.len())].to_vec())
    }
}
