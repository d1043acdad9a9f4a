//! `switchboard serve` as people run it: the real binary, an embedded Postgres, a folder and ports of its own.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User, chown},
};

use super::{cluster::temporary_folder, until};

/// A folder for one `serve` after another, removed when dropped.
#[derive(Debug)]
pub struct Home {
    folder: PathBuf,
    /// What `--listen` gets.
    pub port: u16,
    /// What `--db-port` gets.
    pub db_port: u16,
}

/// A running `serve`, asked to stop when dropped.
#[derive(Debug)]
pub struct Serve {
    child: Child,
    log: PathBuf,
    /// Where it answers.
    pub url: String,
}

/// The binary, and nothing of our own environment's settings: only where programs are, and where `scripts/coverage`
/// wants the counts.
pub fn switchboard() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    let kept = ["PATH", "LLVM_PROFILE_FILE"].map(|name| (name, std::env::var_os(name)));
    command
        .env_clear()
        .envs(kept.into_iter().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Home {
    pub fn new() -> Self {
        Self {
            folder: temporary_folder(),
            port: free_port(),
            db_port: free_port(),
        }
    }

    /// What `--data-dir` gets.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// `serve` on this folder and its ports.
    pub fn command(&self) -> Command {
        let mut command = switchboard();
        command
            .arg("serve")
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--db-port", &self.db_port.to_string()])
            .arg("--data-dir")
            .arg(self.data_dir());
        command
    }

    /// Starts it without waiting.
    pub fn spawn(&self, mut command: Command) -> Serve {
        let log = self.folder.join("serve.log");
        let file = fs::File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{}", self.port);
        Serve { child, log, url }
    }

    /// Starts it and waits until it is ready.
    pub async fn serve(&self) -> Serve {
        let mut serve = self.spawn(self.command());
        serve.ready().await;
        serve
    }

    /// `switchboard status` of this folder.
    pub fn status(&self) -> Output {
        switchboard()
            .arg("status")
            .args(["-o", "json"])
            .arg("--data-dir")
            .arg(self.data_dir())
            .output()
            .unwrap()
    }

    /// The names and values that `status` prints.
    pub fn values(&self) -> BTreeMap<String, String> {
        let output = self.status();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The process of the Postgres that holds the data.
    pub fn postmaster(&self) -> Option<Pid> {
        let content = fs::read_to_string(self.data_dir().join("pg/postmaster.pid")).ok()?;
        Some(Pid::from_raw(content.lines().next()?.parse().ok()?))
    }

    /// Processes that work in the data folder, as every one of Postgres's does.
    pub fn processes(&self) -> Vec<String> {
        let data = fs::canonicalize(self.data_dir()).unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&data)))
            .map(|process| process.file_name().to_string_lossy().into_owned())
            .collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Serve {
    /// Waits until every part is ready.
    pub async fn ready(&mut self) {
        let health = format!("{}/health", self.url);
        until("serve is ready", async || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "serve ended: {ended:?}\n{}", self.said());
            reqwest::get(&health)
                .await
                .is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// Everything it printed.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("serve has ended", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// Stops it as a service manager does; it must end well.
    pub async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.ended().await;
        assert!(status.success(), "{status}\n{}", self.said());
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

/// Makes a folder look like Postgres's data of some version.
pub fn pretend_cluster(data_dir: &Path, version: u32) {
    let data = data_dir.join("pg");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), format!("{version}\n")).unwrap();
    if Uid::effective().is_root() {
        let account = User::from_name("nobody").unwrap().unwrap();
        chown(&data, Some(account.uid), Some(account.gid)).unwrap();
    }
}
