//! The data of one server: made once, guarded by its version, never upgraded silently.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use nix::unistd::Uid;

use super::{Durability, Error, Settings, find::Installation, owner::Owner, process};

/// A socket's path may take 107 bytes; `/.s.PGSQL.54322` is what Postgres adds to its folder.
const LONGEST_SOCKET_FOLDER: usize = 107 - "/.s.PGSQL.54322".len();

/// Where a Mac lacks `C.UTF-8`.
const LOCALE: &str = if cfg!(target_os = "macos") {
    "--locale=C"
} else {
    "--locale=C.UTF-8"
};

/// A cluster's folders, and who owns them.
#[derive(Debug)]
pub struct Cluster {
    pub data: PathBuf,
    pub sockets: PathBuf,
    pub owner: Option<Owner>,
    pub installation: Installation,
}

impl Cluster {
    /// Opens the cluster below the settings' folder, making it where there is none.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let data = settings.folder.join("pg");
        let owner = Owner::choose(settings.account.as_deref(), &data)?;
        if let Some(owner) = &owner {
            owner.must_reach(&settings.folder)?;
        }
        let version = version(&data)?;
        let installation = Installation::find(settings.bin.as_deref(), version).map_err(|error| error.about(&data))?;
        if let Some(owner) = &owner {
            owner.must_reach(&installation.bin)?;
        }
        let sockets = socket_folder(&settings.folder, owner.as_ref())?;
        let cluster = Self {
            data,
            sockets,
            owner,
            installation,
        };
        if version.is_none() {
            cluster.initialise(settings).await?;
        }
        Ok(cluster)
    }

    /// Makes the data in a folder beside and renames it, so that a half-made cluster never looks finished.
    async fn initialise(&self, settings: &Settings) -> Result<(), Error> {
        tracing::info!(
            postgres.version = self.installation.major,
            "making a database in {}",
            self.data.display()
        );
        let partial = self.data.with_extension("new");
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::path("remove", &partial)(error));
            }
            _ => {}
        }
        private_folder(&partial, self.owner.as_ref())?;
        let mut command = process::command(&self.installation.bin.join("initdb"), self.owner.as_ref());
        command
            .arg(format!("--username={}", settings.superuser))
            // Our own socket lies in a folder that only we may enter; over TCP everybody shows a password.
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["--encoding=UTF8", LOCALE, "--data-checksums", "--no-instructions"])
            .args((settings.durability == Durability::None).then_some("--no-sync"))
            .arg("--pgdata")
            .arg(&partial)
            .kill_on_drop(true);
        let output = command
            .output()
            .await
            .map_err(Error::path("run", &self.installation.bin.join("initdb")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::Initialise(said.trim().to_owned()));
        }
        fs::rename(&partial, &self.data).map_err(Error::path("rename", &partial))?;
        File::open(&settings.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(Error::path("sync", &settings.folder))
    }

    /// The server's arguments. Those it depends on stand here and not in a file, where they could be lost.
    pub fn arguments(&self, settings: &Settings) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["-D".into(), self.data.clone().into()];
        let mut set = |name: &str, value: &str| arguments.extend(["-c".into(), format!("{name}={value}").into()]);
        set("unix_socket_directories", &quoted(&self.sockets));
        set("unix_socket_permissions", "0700");
        set("listen_addresses", if settings.port == 0 { "" } else { "127.0.0.1" });
        set("port", &settings.socket_port().to_string());
        set("password_encryption", "scram-sha-256");
        set("wal_level", "logical");
        // A reader that fell behind loses its place before the disk is full.
        set("max_slot_wal_keep_size", "1GB");
        set("max_connections", "100");
        set("shared_buffers", "128MB");
        set("timezone", "UTC");
        // Chat makes short statements; compiling one costs more than running it.
        set("jit", "off");
        // Our own log takes Postgres's; neither rows nor statements may get into it.
        set("logging_collector", "off");
        set("log_destination", "stderr");
        set("log_line_prefix", "");
        set("log_error_verbosity", "terse");
        set("log_min_error_statement", "panic");
        if settings.durability == Durability::None {
            for name in ["fsync", "synchronous_commit", "full_page_writes"] {
                set(name, "off");
            }
        }
        for (name, value) in &settings.parameters {
            set(name, value);
        }
        arguments
    }

    /// The process that holds the data, as Postgres itself noted it.
    pub fn postmaster(&self) -> Option<u32> {
        let content = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        content.lines().next()?.trim().parse().ok()
    }
}

/// The major version that made the data, `None` where there is none.
fn version(data: &Path) -> Result<Option<u32>, Error> {
    if !data.exists() {
        return Ok(None);
    }
    let path = data.join("PG_VERSION");
    let content = fs::read_to_string(&path).map_err(Error::path("read", &path))?;
    let version = content
        .trim()
        .parse()
        .map_err(|_| Error::NotACluster(data.to_owned()))?;
    Ok(Some(version))
}

/// The folder of our socket: beside the data, or a short one named after it where that path is too long.
fn socket_folder(folder: &Path, owner: Option<&Owner>) -> Result<PathBuf, Error> {
    let beside = folder.join("run");
    if beside.as_os_str().len() <= LONGEST_SOCKET_FOLDER {
        private_folder(&beside, owner)?;
        return Ok(beside);
    }
    let mut hash = DefaultHasher::new();
    folder.hash(&mut hash);
    let name = format!("switchboard-{:016x}", hash.finish());
    let runtime = std::env::var_os("XDG_RUNTIME_DIR")
        .filter(|_| owner.is_none())
        .map(PathBuf::from);
    let candidates = runtime.into_iter().chain(["/run".into(), "/tmp".into()]);
    let mut refused = None;
    for short in candidates.map(|parent: PathBuf| parent.join(&name)) {
        match private_folder(&short, owner) {
            Ok(()) => return Ok(short),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.expect("there are two candidates at least"))
}

/// A folder that only the server's account (and root) may enter. One that is there must be exactly that: anybody may
/// have made it in `/tmp`.
fn private_folder(path: &Path, owner: Option<&Owner>) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => owner.map_or(Ok(()), |owner| owner.give(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).map_err(Error::path("look at", path))?;
            let uid = owner.map_or_else(|| Uid::effective().as_raw(), |owner| owner.uid);
            if found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0 {
                Ok(())
            } else {
                Err(Error::NotPrivate(path.to_owned()))
            }
        }
        Err(error) => Err(Error::path("make", path)(error)),
    }
}

/// One entry of a list: Postgres splits `unix_socket_directories` at commas.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_long_path_gets_a_short_socket_folder() {
        let temporary = tempfile::tempdir().unwrap();
        let long = temporary.path().join("a".repeat(120));
        fs::create_dir(&long).unwrap();
        let sockets = socket_folder(&long, None).unwrap();
        assert!(sockets.as_os_str().len() <= LONGEST_SOCKET_FOLDER);
        assert_eq!(
            socket_folder(&long, None).unwrap(),
            sockets,
            "the next start finds it again"
        );
        fs::remove_dir(sockets).unwrap();
    }

    #[test]
    fn a_folder_somebody_else_prepared_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let open = temporary.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(private_folder(&open, None), Err(Error::NotPrivate(_))));
        let link = temporary.path().join("link");
        symlink(temporary.path(), &link).unwrap();
        assert!(matches!(private_folder(&link, None), Err(Error::NotPrivate(_))));
    }

    #[test]
    fn a_folder_that_holds_something_else_is_not_taken_over() {
        let temporary = tempfile::tempdir().unwrap();
        assert!(version(&temporary.path().join("absent")).unwrap().is_none());
        fs::write(temporary.path().join("PG_VERSION"), "fifteen").unwrap();
        assert!(matches!(version(temporary.path()), Err(Error::NotACluster(_))));
    }
}
