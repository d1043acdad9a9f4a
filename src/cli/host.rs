//! The database under `serve`: somebody else's, or a Postgres of our own.

use std::{path::PathBuf, pin::pin};

use anyhow::Context as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use postgres_protocol::password::scram_sha_256;
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::{listen, misuse};
use crate::{
    config::Secret,
    data_dir::DataDir,
    db::{Database, Login},
    postgres::{self, Durability, Server},
    shutdown::Shutdown,
};

/// Our superuser on a Postgres of our own; on Supabase it has the same name.
const SUPERUSER: &str = "supabase_admin";

/// Whose Postgres.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Database (default: a Postgres of our own)")]
pub struct DatabaseArgs {
    /// Use this database instead; a bare one is prepared if the user is a superuser
    #[arg(long, env = "SWITCHBOARD_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Port of our Postgres on 127.0.0.1, for psql and the supabase CLI; 0 for none
    #[arg(long, env = "SWITCHBOARD_DB_PORT", value_name = "PORT", default_value_t = 54322)]
    db_port: u16,
    /// Password of the role `postgres` on that port
    #[arg(
        long,
        env = "SWITCHBOARD_DB_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD",
        default_value = "postgres",
        hide_default_value = true
    )]
    pub db_password: Secret,
    /// The folder of `initdb` and `postgres` [default: the newest on this machine]
    #[arg(long, env = "PG_BIN", value_name = "FOLDER")]
    postgres_bin: Option<PathBuf>,
    /// Account to run Postgres as, when started by root [default: postgres]
    #[arg(long, env = "SWITCHBOARD_POSTGRES_USER", value_name = "ACCOUNT")]
    postgres_user: Option<String>,
    /// A Postgres parameter, such as `shared_buffers=1GB`; may be given several times
    #[arg(long, env = "SWITCHBOARD_POSTGRES_SET", value_name = "NAME=VALUE", value_delimiter = ';', value_parser = parameter)]
    postgres_set: Vec<(String, String)>,
}

/// The database and, where it is ours, the server under it.
pub struct Host {
    /// The database.
    pub database: Database,
    /// How others reach it.
    pub url: String,
    server: Option<Server>,
}

impl Host {
    /// Starts the server where it is ours. `None` when asked to stop meanwhile.
    ///
    /// # Errors
    /// When the URL is none, or Postgres does not come up.
    pub async fn open(args: &DatabaseArgs, data: &DataDir, shutdown: &Shutdown) -> anyhow::Result<Option<Self>> {
        if let Some(url) = &args.database_url {
            let database = Database::from_url(url).map_err(misuse::database_url)?;
            return Ok(Some(Self {
                database,
                url: url.clone(),
                server: None,
            }));
        }
        let settings = postgres::Settings {
            folder: data.path().to_owned(),
            bin: args.postgres_bin.clone(),
            account: args.postgres_user.clone(),
            superuser: SUPERUSER.to_owned(),
            port: args.db_port,
            durability: Durability::Full,
            parameters: args.postgres_set.clone(),
        };
        let server = match Server::start(&settings, shutdown.token()).await {
            Ok(server) => server,
            Err(postgres::Error::Stopped) => return Ok(None),
            Err(postgres::Error::PortTaken(port)) => return Err(listen::taken(port, "--db-port")),
            Err(error) => return Err(error.into()),
        };
        let (folder, port) = (server.socket_directory(), server.port());
        Ok(Some(Self {
            database: Database::embedded(folder, port),
            url: if args.db_port == 0 {
                format!(
                    "postgresql://postgres@localhost:{port}/postgres?host={}",
                    folder.display()
                )
            } else {
                let password = utf8_percent_encode(args.db_password.expose(), NON_ALPHANUMERIC);
                format!("postgresql://postgres:{password}@127.0.0.1:{port}/postgres")
            },
            server: Some(server),
        }))
    }

    /// Does the work unless our Postgres ends first.
    ///
    /// # Errors
    /// The work's, or that Postgres is gone.
    pub async fn beside(&mut self, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        let mut work = pin!(work);
        match &mut self.server {
            None => work.await,
            Some(server) => tokio::select! {
                outcome = &mut work => outcome,
                reason = server.ended() => Err(reason).context("Postgres is gone, and nothing works without it"),
            },
        }
    }

    /// Stops the server where it is ours.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn close(self) -> anyhow::Result<()> {
        match self.server {
            Some(server) => Ok(server.stop().await?),
            None => Ok(()),
        }
    }
}

/// Sets the password of the role `postgres`, the one that people log in as. Hashed here, so that the password itself
/// is in no statement and in no log.
///
/// # Errors
/// When the database refuses.
pub async fn set_password(database: &Database, password: &Secret) -> sqlx::Result<()> {
    let verifier = scram_sha_256(password.expose().as_bytes());
    let mut connection = database.connect(Login::Admin).await?;
    // A verifier is base64, `$` and `:`: nothing to quote.
    let statement = format!("alter role postgres password '{verifier}'");
    connection.execute(AssertSqlSafe(statement)).await?;
    connection.close().await
}

fn parameter(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("a parameter is name=value")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
