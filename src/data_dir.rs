//! The folder in which one `serve` keeps everything that outlives it.
//!
//! | name | what |
//! | --- | --- |
//! | `lock` | locked by the `serve` that uses the folder, and says which one it is |
//! | `serve.json` | how to reach that `serve`, with its keys; readable by its account alone |
//! | `pg/` | the embedded Postgres's data |
//! | `run/` | its Unix socket |
//! | `storage/` | uploaded files |

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::unistd::Uid;

/// A folder of ours, which exists.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// The right to write in the folder, held until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl DataDir {
    /// Where data is kept unless told otherwise: `/var/lib/switchboard` for root, the user's data folder for others.
    ///
    /// # Errors
    /// When the user has neither `XDG_DATA_HOME` nor `HOME`.
    pub fn default_path() -> anyhow::Result<PathBuf> {
        if Uid::effective().is_root() {
            return Ok("/var/lib/switchboard".into());
        }
        let folder = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        folder("XDG_DATA_HOME")
            .or_else(|| Some(folder("HOME")?.join(".local/share")))
            .map(|path| path.join("switchboard"))
            .context("neither XDG_DATA_HOME nor HOME says where your data lives; give --data-dir")
    }

    /// Names a folder without touching it, to look at what another process keeps there.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Opens the folder, making it where missing.
    ///
    /// # Errors
    /// When it cannot be made, or is no folder.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let refused = || format!("use the data folder {}; choose another with --data-dir", path.display());
        // Root's is passed through by the account that runs Postgres; what is in it has its own modes.
        let mode = if Uid::effective().is_root() { 0o711 } else { 0o700 };
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .with_context(refused)?;
        let path = fs::canonicalize(path).with_context(refused)?;
        Ok(Self { path })
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How to reach the `serve` that uses the folder.
    pub fn state_file(&self) -> PathBuf {
        self.path.join("serve.json")
    }

    /// The folder of uploaded files, which exists; nobody but our account may look into it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn files(&self) -> anyhow::Result<PathBuf> {
        let path = self.path.join("storage");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    /// Takes the folder for this process; `None` with the holder's own words where another has it.
    ///
    /// # Errors
    /// When the lock file cannot be written.
    pub fn lock(&self) -> anyhow::Result<Result<Lock, String>> {
        let path = self.path.join("lock");
        let writing = || format!("write {}; is the folder another account's?", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(writing)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).with_context(writing)?;
                return Ok(Err(holder.trim().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(writing),
        }
        file.set_len(0).with_context(writing)?;
        writeln!(file, "process {}", std::process::id()).with_context(writing)?;
        Ok(Ok(Lock { _file: file }))
    }
}

/// Writes a file that its account alone can read, whole or not at all.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("new");
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?
        .write_all(content)?;
    fs::rename(partial, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_locked_folder_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(&folder.path().join("data")).unwrap();
        let lock = data.lock().unwrap().unwrap();
        assert_eq!(
            data.lock().unwrap().unwrap_err(),
            format!("process {}", std::process::id())
        );
        drop(lock);
        assert!(data.lock().unwrap().is_ok());
    }

    #[test]
    fn a_private_file_is_its_accounts_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serve.json");
        write_private(&path, b"first").unwrap();
        write_private(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
