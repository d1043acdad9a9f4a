//! The server that is measured: the release binary with an embedded Postgres of its own.

use std::{
    collections::HashMap,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

/// How long it may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub struct Server {
    binary: PathBuf,
    folder: PathBuf,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    child: Child,
    /// What `status -o env` says.
    pub keys: HashMap<String, String>,
}

impl Server {
    /// Starts one on a free port and data of its own; ready when this returns.
    pub async fn start(binary: &Path) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("realtime-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        // Run by root, Postgres belongs to another account.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = spawn(binary, &folder, port)?;
        let mut server = Self {
            binary: binary.to_owned(),
            folder,
            port,
            child,
            keys: HashMap::new(),
        };
        server
            .ready()
            .await
            .inspect_err(|_| eprint!("{}", server.last_words()))?;
        server.keys = server.status().await?;
        Ok(server)
    }

    /// Waits until all its parts are ready.
    pub async fn ready(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !healthy(self.port).await.unwrap_or(false) {
            if Instant::now() > deadline {
                bail!("the server does not become ready");
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Ends it with a signal and starts it again at once, on the same port and data. Does not wait until it is ready.
    pub async fn restart(&mut self, signal: &str) -> Result<()> {
        self.signal(signal).await;
        self.child.wait().await?;
        self.child = spawn(&self.binary, &self.folder, self.port)?;
        Ok(())
    }

    /// Ends it for good and removes its data.
    pub async fn end(&mut self) {
        self.signal("TERM").await;
        let _ = timeout(PATIENCE, self.child.wait()).await;
        let _ = fs::remove_dir_all(self.folder.join("data"));
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// The end of its log, if it is still there.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..]
            .iter()
            .map(|line| format!("{line}\n"))
            .collect()
    }

    async fn signal(&self, signal: &str) {
        let _ = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.id().to_string())
            .status()
            .await;
    }

    /// The folder of Postgres' socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("data/run")
    }

    /// A connection to its Postgres, with all rights; its session counts as ours.
    pub async fn connect(&self) -> Result<Client> {
        let config = format!(
            "host={} port=5432 dbname=postgres user=supabase_admin application_name={}",
            self.socket().display(),
            crate::cost::OURS
        );
        let (client, connection) = tokio_postgres::connect(&config, NoTls)
            .await
            .context("connect to Postgres")?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn status(&self) -> Result<HashMap<String, String>> {
        let said = Command::new(&self.binary)
            .args(["status", "-o", "env", "--data-dir"])
            .arg(self.folder.join("data"))
            .output()
            .await?;
        let said = String::from_utf8(said.stdout)?;
        let lines = said.lines().filter_map(|line| line.split_once('='));
        Ok(lines
            .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
            .collect())
    }
}

fn spawn(binary: &Path, folder: &Path, port: u16) -> Result<Child> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    let mut command = Command::new(binary);
    command
        .args([
            "serve",
            "--db-port",
            "0",
            "--no-worker",
            "--services",
            "realtime",
            "--listen",
        ])
        .arg(format!("127.0.0.1:{port}"))
        .arg("--data-dir")
        .arg(folder.join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command.spawn().context("start the server")
}

async fn healthy(port: u16) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
