//! One Postgres process: spawned so that it cannot outlive us, listened to, and asked to stop.
//!
//! The only `unsafe` of the crate: two system calls between fork and exec.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getppid, setpgid},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    task::JoinHandle,
    time::timeout,
};

use super::owner::Owner;

/// How long Postgres may take to end its sessions and write its last checkpoint.
const FAST_SHUTDOWN: Duration = Duration::from_secs(30);
/// How long it may take to end without that checkpoint; the next start recovers.
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(10);
/// Lines kept to tell why Postgres ended.
const REMEMBERED: usize = 12;

/// A program of PostgreSQL's, run by the account that owns the data. It gets SIGINT when the thread that spawned it
/// ends, which must therefore live as long as the process: Linux knows no parent process here, only a thread.
pub fn command(program: &Path, owner: Option<&Owner>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null());
    if let Some(owner) = owner {
        // In the child: setgroups, setgid, setuid, in this order.
        command.gid(owner.gid).uid(owner.uid);
    }
    let parent = Pid::this();
    // SAFETY: between fork and exec only async-signal-safe system calls may run: prctl, getppid and setpgid are,
    // and nothing here allocates, locks or touches memory shared with other threads.
    unsafe {
        command.pre_exec(move || before_exec(parent));
    }
    command
}

fn before_exec(parent: Pid) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(Signal::SIGINT)?;
    // We may have died before the line above.
    if getppid() != parent {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    // A group of its own: Ctrl-C at the terminal reaches us first, and we stop Postgres last.
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    Ok(())
}

/// A running server.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
}

impl Process {
    /// Starts it and passes its log on to ours.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let stderr = child.stderr.take().expect("stderr was piped a line above");
        let reader = tokio::spawn(read(stderr, Arc::clone(&lines)));
        Ok(Self { child, lines, reader })
    }

    /// Its id, until it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Resolves when it has ended, with everything it said read. May be dropped and called again.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        if !self.reader.is_finished() {
            // A backend may still hold the pipe.
            let _ = timeout(Duration::from_secs(1), &mut self.reader).await;
        }
        Ok(status)
    }

    /// Its last words.
    pub fn last_lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    /// Asks it to stop: first with a last checkpoint, later without. It is never killed, as that could leave
    /// backends behind that still write.
    pub async fn stop(&mut self) -> io::Result<Option<ExitStatus>> {
        for (signal, patience) in [(Signal::SIGINT, FAST_SHUTDOWN), (Signal::SIGQUIT, IMMEDIATE_SHUTDOWN)] {
            self.signal(signal)?;
            if let Ok(status) = timeout(patience, self.ended()).await {
                return status.map(Some);
            }
            tracing::warn!("Postgres has not stopped {} s after {signal}", patience.as_secs());
        }
        Ok(None)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        // The id is gone once the child has been waited for, so that it cannot be somebody else's.
        let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) else {
            return Ok(());
        };
        Ok(kill(Pid::from_raw(id), signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.signal(Signal::SIGINT);
    }
}

async fn read(stderr: ChildStderr, kept: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line);
        pass_on(&line);
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == REMEMBERED {
            kept.pop_front();
        }
        kept.push_back(line.into_owned());
    }
}

/// Clients hear of their own errors; the log is for what concerns the server.
fn pass_on(line: &str) {
    let Some((severity, text)) = line.split_once(":  ") else {
        tracing::debug!(target: "postgres", "{line}");
        return;
    };
    match severity {
        "PANIC" => tracing::error!(target: "postgres", "{text}"),
        // Said to each of our own attempts to find out whether it is ready, and when it stops.
        "FATAL" if text.starts_with("the database system is") || text.starts_with("terminating connection") => {
            tracing::debug!(target: "postgres", "{text}");
        }
        "FATAL" | "WARNING" => tracing::warn!(target: "postgres", "{text}"),
        _ => tracing::debug!(target: "postgres", "{text}"),
    }
}
